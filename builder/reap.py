"""How does a program end with everything that it started, when whoever ran it was killed?

Run by builder.run as ``python -SI reap.py PARENT PROGRAM ARGUMENT…``, apart from our package. A program that
dies with its parent (setpriv --pdeathsig) leaves its own children at work: mkosi's worker would finish the
image, in a place that the next build has made anew. Here they become ours (prctl(2), CHILD_SUBREAPER), so
that all are found. What was handed to us open, such as a lock, stays so until the last of them has gone.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
ORPHANED = signal.SIGUSR1
GRACE = 10.0  # seconds from SIGTERM to SIGKILL


def main() -> None:
    parent, argv = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    program = 0  # while there is none
    signal.signal(ORPHANED, lambda *_: leave(program))
    libc.prctl(PR_SET_PDEATHSIG, ORPHANED, 0, 0, 0)
    for politely in (signal.SIGTERM, signal.SIGINT):  # sent to the group, so the program has it, too
        signal.signal(politely, lambda *_: None)
    if os.getppid() != parent:
        leave(program)
    for fd in sorted(int(name) for name in os.listdir("/proc/self/fd")):  # noqa: PTH208 - pathlib is slow to load
        if fd > 2:
            close_on_exec(fd)
    program = os.posix_spawnp(argv[0], argv, os.environ)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == program:
            break
    end_children()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL can have no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def close_on_exec(fd: int) -> None:
    with contextlib.suppress(OSError):  # the one that listed them is closed
        os.set_inheritable(fd, False)


def leave(program: int) -> None:
    """End the program, politely first: mmdebstrap then takes away what it has made in /dev/shm."""
    os.killpg(0, signal.SIGTERM)
    end = time.monotonic() + GRACE
    while program in children() and time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.01)
    end_children()
    os._exit(1)


def end_children() -> None:
    """Kill all that is left, generation by generation: what a killed process leaves becomes ours."""
    while found := list(children()):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in found:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        time.sleep(0.001)


def children() -> Iterator[int]:
    own = str(os.getpid())
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as f:  # noqa: PTH123
                    said = f.read()
            except OSError:
                continue
            if said.rpartition(")")[2].split()[1] == own:
                yield int(name)


if __name__ == "__main__":
    main()
