"""How is QEMU started, asked, watched and ended?"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from builder.files import unchanged
from builder.machine.errors import MachineDied
from builder.machine.hardware import Firmware, Hardware, Sockets, firmware_file, qemu_arguments
from builder.machine.places import private_directory
from builder.machine.qmp import Monitor
from builder.machine.watch import Watch
from builder.run import dying_with_us, end_group
from builder.tools import Tools

ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/tmp"}


@dataclass(frozen=True)
class Mark:
    """Something that happened, so many seconds after QEMU was started."""

    seconds: float
    label: str


class Power:
    """One QEMU with its files: what ``Machine`` builds on. Everything of it is gone after the ``with``."""

    def __init__(
        self,
        tools: Tools,
        hardware: Hardware,
        *,
        name: str = "seat",
        overlay: Path | None = None,
        display: Sequence[str] = (),
    ) -> None:
        self.tools = tools
        self.hardware = hardware
        self.name = name
        self.marks: list[Mark] = []
        self._start_from = overlay
        self._display = tuple(display)
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._monitor: Monitor | None = None
        self._watch: Watch | None = None

    def __enter__(self) -> Self:
        self.files = Sockets(self._stack.enter_context(private_directory(self.name)))
        try:
            self._stack.enter_context(unchanged(self.hardware.disk))
            self.renew_disk()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.crash()
        finally:
            self._stack.close()

    def renew_disk(self) -> None:
        """Forget everything that was written: a new overlay, or a new copy of the one we continue from."""
        if self._start_from is not None:
            shutil.copyfile(self._start_from, self.files.overlay)
        else:
            base: list[str | Path] = ["-b", self.hardware.disk.resolve(), "-F", self.hardware.disk_format]
            self.tools.run(
                ["qemu-img", "create", "-q", "-f", "qcow2", *base, self.files.overlay], timeout=60
            )
        if isinstance(self.hardware.boot, Firmware):
            inside = firmware_file("VARS")
            shutil.copyfile((self.tools.root or Path("/")) / inside.relative_to("/"), self.files.variables)

    def start(self, *, paused: bool = False) -> None:
        """Switch the PC on. With ``paused``, its processors wait for ``resume``."""
        for path in (self.files.monitor, self.files.agent, self.files.serial):
            path.unlink(missing_ok=True)
        argv = qemu_arguments(self.hardware, self.files, name=self.name, display=self._display)
        # once more inside the sandbox: entering it may drop the kernel's promise to end us with our parent
        inside = self.tools.command(["setpriv", "--pdeathsig", "KILL", "--", *argv])
        self.started = time.monotonic()
        with self.files.output.open("ab") as output:
            self._process = subprocess.Popen(
                dying_with_us(inside),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                process_group=0,
            )
        self._watch = Watch(self._process, self.files.serial, self.files.output)
        self._monitor = Monitor(self.files.monitor, self.alive)
        if not paused:
            self.resume()

    def resume(self) -> None:
        self.qmp("cont")

    def pause(self) -> None:
        self.qmp("stop")

    def crash(self) -> None:
        """Pull the plug."""
        self.expect_end()
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._process is not None:
            self._process.kill()
            end_group(self._process)
            self._process = None
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def expect_end(self) -> None:
        """From now on, QEMU's end is no fault."""
        if self._watch is not None:
            self._watch.expected = True

    def wait_for_end(self, timeout: float) -> bool:
        """Whether QEMU ends by itself within so many seconds."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def alive(self) -> None:
        """Raise MachineDied, with the reason, where the machine is gone."""
        if self._watch is None:
            raise MachineDied("the machine is not switched on")
        self._watch.check()

    @property
    def pid(self) -> int | None:
        """QEMU's process id, or None while it is off."""
        return self._process.pid if self._process else None

    @property
    def monitor(self) -> Monitor:
        if self._monitor is None:
            raise MachineDied("the machine is not switched on")
        return self._monitor

    def qmp(self, command: str, **arguments: Any) -> Any:
        """One command of QEMU's monitor protocol; ``_`` in argument names stands for ``-``."""
        return self.monitor.execute(command, {k.replace("_", "-"): v for k, v in arguments.items()} or None)

    def mark(self, label: str) -> None:
        """Note on the timeline that something has just happened."""
        self.marks.append(Mark(time.monotonic() - self.started, label))
