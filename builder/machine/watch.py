"""Is the machine still alive, and if not, what did it die of?

A thread follows the serial log and the QEMU process, so that a panic ends a wait at once, not by time-out.
"""

import re
import subprocess
import threading
from pathlib import Path

from builder.machine.errors import MachineDied
from builder.run import tail_of

TICK = 0.1
DEADLY = (
    re.compile(r"Kernel panic - not syncing: .*"),
    re.compile(r"You are in (?:emergency|rescue) mode.*"),
    re.compile(r"systemd\[1\]: Freezing execution.*"),
    re.compile(r"Give root password for maintenance.*"),
)
WORDS = {"Kernel panic": "the guest's kernel panicked", "systemd[1]": "the guest's PID 1 froze"}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f]")


def plain(text: str) -> str:
    """Serial output without terminal control sequences."""
    return CONTROL.sub("", text)


def deadly_line(text: str) -> str | None:
    """The first line that means that this boot will not go on, in words, or None."""
    for pattern in DEADLY:
        found = pattern.search(text)
        if found:
            line = found.group(0).strip()
            how = next(
                (said for start, said in WORDS.items() if line.startswith(start)),
                "the guest gave up booting",
            )
            return f"{how}: {line}"
    return None


class Watch:
    """Follows one QEMU process and its serial log until it is told to stop."""

    def __init__(self, process: subprocess.Popen[bytes], serial: Path, output: Path) -> None:
        self.process = process
        self.serial = serial
        self.output = output
        self.expected = False  # we are ending QEMU ourselves
        self.reason: str | None = None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._follow, name="watch", daemon=True)
        self.thread.start()

    def check(self) -> None:
        """Raise MachineDied where the machine is gone."""
        if self.reason is None and not self.expected and self.process.poll() is not None:
            self._look_at_process()
        if self.reason is not None:
            raise MachineDied(self.reason, hint="see serial.log beside the report")

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(5.0)

    def _follow(self) -> None:
        offset, rest = 0, ""
        while self.reason is None:
            ended = self.process.poll() is not None or self.stopping.is_set()
            if self.serial.exists():
                with self.serial.open("rb") as f:
                    f.seek(offset)
                    data = f.read()
                offset += len(data)
                if data:
                    rest = plain(rest + data.decode(errors="replace"))
                    lines, _, rest = rest.rpartition("\n")
                    dead = deadly_line(lines)
                    if dead:
                        self.reason = dead
                        return
            if ended:
                self._look_at_process()
                return
            self.stopping.wait(TICK)

    def _look_at_process(self) -> None:
        status = self.process.poll()
        if self.expected or status is None or self.reason is not None:
            return
        said = tail_of(self.output, 5).strip()
        how = f"was killed by signal {-status}" if status < 0 else f"ended by itself with status {status}"
        self.reason = f"QEMU {how}" + (f": {said}" if said else "")
