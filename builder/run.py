"""How does Seatsmith run a program? The one place that starts processes and waits for them."""

import contextlib
import errno
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from builder.errors import MachineError, ToolError

log = logging.getLogger(__name__)

Arg = str | Path

TAIL_LINES = 20  # how much of a failed program's output an error shows
UMASK = 0o022  # what programs make must not depend on the caller's umask
REAPER = Path(__file__).with_name("reap.py")
GRACE = 10.0  # seconds between SIGTERM and SIGKILL when we are interrupted


class ProgramError(ToolError):
    """A program ended with a status that was not expected; ``output`` holds the end of what it said."""

    def __init__(
        self, argv: Sequence[str], returncode: int, output: str, *, hint: str | None = None
    ) -> None:
        tail = "\n".join(f"  {line}" for line in output.strip().splitlines()[-TAIL_LINES:])
        how = f"was killed by signal {-returncode}" if returncode < 0 else f"exited with {returncode}"
        super().__init__(f"{program_name(argv)} {how}" + (f":\n{tail}" if tail else ""), hint=hint)
        self.argv = list(argv)
        self.returncode = returncode
        self.output = output


@dataclass(frozen=True)
class Result:
    """What a program left: its exit status, both outputs (empty where not captured) and its run time."""

    returncode: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.stdout.decode(errors="replace")


def program_name(argv: Sequence[str]) -> str:
    """The program a person would name: what a sandbox or setpriv wrapper starts, not the wrapper."""
    words = list(argv)
    while "--" in words:
        words = words[words.index("--") + 1 :]
        if words and Path(words[0]).name != "setpriv":
            break
    return Path(words[0]).name if words else Path(argv[0]).name


def dying_with_us(argv: Sequence[str]) -> list[str]:
    """Prefix ``argv`` so that the program dies with us, even by SIGKILL (prctl(2), PR_SET_PDEATHSIG)."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *argv] if setpriv else list(argv)


def ending_with_us(argv: Sequence[str]) -> list[str]:
    """Prefix ``argv`` so that all that the program starts dies with us, too."""
    return [sys.executable, "-SI", os.fspath(REAPER), str(os.getpid()), *dying_with_us(argv)]


def run(
    argv: Sequence[Arg],
    *,
    stdin: bytes | int | None = None,
    stdout: int | IO[bytes] | None = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    pass_fds: Sequence[int] = (),
    timeout: float | None = None,
    hint: str | None = None,
    log_to: Path | None = None,
    held: int | None = None,
) -> Result:
    """Run ``argv`` to its end and return what it said.

    ``stdin`` is given as bytes or a file descriptor; nothing is inherited. ``env`` replaces the whole
    environment. ``log_to`` sends both outputs to that file instead (appended), for programs that talk a lot.
    The program dies with us, and on Ctrl-C its whole process group is ended before the exception goes on.
    With ``held``, the descriptor of a lock (builder.files.exclusive), what it has started dies as well, and
    the lock is not free before that: for programs that are at work for long, by many processes.

    Raises ProgramError on a non-zero status (unless ``check`` is false), MachineError where the program does
    not exist or ``timeout`` seconds have passed.
    """
    words = [os.fspath(a) for a in argv]
    log.debug("run: %s", shlex.join(words))
    started = time.monotonic()
    if not shutil.which(words[0], path=(os.environ if env is None else env).get("PATH", os.defpath)):
        raise MachineError(f"cannot start {words[0]}: there is no such program", hint=hint)
    with contextlib.ExitStack() as stack:
        sink: int | IO[bytes] | None = stdout
        errors: int | IO[bytes] = subprocess.PIPE
        if log_to is not None:
            log_to.parent.mkdir(parents=True, exist_ok=True)
            sink = stack.enter_context(log_to.open("ab"))
            errors = subprocess.STDOUT
        try:
            process = subprocess.Popen(
                dying_with_us(words) if held is None else ending_with_us(words),
                stdin=subprocess.PIPE
                if isinstance(stdin, bytes)
                else subprocess.DEVNULL
                if stdin is None
                else stdin,
                stdout=sink,
                stderr=errors,
                env=env,
                cwd=cwd,
                pass_fds=pass_fds if held is None else (*pass_fds, held),
                process_group=0,
                umask=UMASK,
            )
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.EACCES):
                raise MachineError(f"cannot start {words[0]}: {e.strerror}", hint=hint) from e
            raise
        try:
            out, err = process.communicate(stdin if isinstance(stdin, bytes) else None, timeout=timeout)
        except subprocess.TimeoutExpired as e:
            end_group(process)
            raise MachineError(f"{program_name(words)} did not finish in {timeout:.0f} s", hint=hint) from e
        except BaseException:
            end_group(process)
            raise
    result = Result(process.returncode, out or b"", err or b"", time.monotonic() - started)
    log.debug("run: %s: status %d, %.2f s", program_name(words), result.returncode, result.seconds)
    if check and result.returncode != 0:
        said = tail_of(log_to) if log_to else (result.stderr or result.stdout).decode(errors="replace")
        raise ProgramError(words, result.returncode, said, hint=hint)
    return result


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group: politely first, then by SIGKILL what is left of them."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            pipe.close()


def tail_of(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a text file, or nothing where it does not exist."""
    try:
        with path.open(errors="replace") as f:
            return "".join(deque(f, maxlen=lines))
    except FileNotFoundError:
        return ""
