"""Which virtual terminal is active, since when, and how does the broker ask for another?"""

import contextlib
import fcntl
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

ACTIVE = "/sys/class/tty/tty0/active"
CONSOLE = "/dev/tty0"
PATIENCE = 0.5  # seconds; to open a terminal takes none
TURN = "/run/seatsmith/turn"
VT_GETMODE, VT_ACTIVATE = 0x5601, 0x5606  # linux/vt.h
KDSKBMODE, K_OFF, KDGETMODE, KD_GRAPHICS = 0x4B45, 4, 0x4B3B, 1  # linux/kd.h
TIOCGDEV = 0x80045432  # asm-generic/ioctls.h: which terminal /dev/tty0 was when it was opened


T = TypeVar("T")


class ActiveTerminal:
    """The kernel tells of changes (sysfs_notify, drivers/tty/vt/vt.c)."""

    def __init__(self, path: str = ACTIVE, console: str = CONSOLE, turn: str = TURN) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.console, self.turn = console, turn
        self.changed = select.poll()
        self.changed.register(self.fd, select.POLLPRI)
        self.seen = self.look()
        self.vt = number(self.seen)

    def fileno(self) -> int:
        return self.fd

    def look(self) -> bytes:
        return os.pread(self.fd, 32, 0)

    def moved(self) -> bool:
        """Whether the terminal changed since ``vt``, be it to another and back."""
        pending = bool(self.changed.poll(0))
        now = self.look()
        if now == self.seen and not pending:
            return False
        self.seen, self.vt = now, number(now)
        return True

    def activate(self, vt: int) -> None:
        """Ask the kernel for another terminal, as its own keyboard handler does."""
        self.ask(lambda fd: fcntl.ioctl(fd, VT_ACTIVATE, vt))

    def keys_off(self) -> bool:
        """Have the kernel's console not hear what is typed at the terminal that is shown: it would give the
        environment the keys of the real keyboards, and act on those of its virtual ones (Ctrl+Alt+Del).

        Whether that is so: it may be that it cannot be opened, or that another one is shown by now.
        """
        return self.ask(self.turn_keys_off) or False

    def turn_keys_off(self, fd: int) -> bool:
        if found := shown(fd) == self.vt:
            # The kernel tells of a switch before it is done, and at the end turns the keyboard on where the
            # process that set the terminal's mode is dead (complete_change_console, vt_ioctl.c). This waits.
            fcntl.ioctl(fd, VT_GETMODE, bytearray(8))
            fcntl.ioctl(fd, KDSKBMODE, K_OFF)
        return found

    def graphic(self, vt: int) -> bool:
        """Whether that terminal is shown, and a desktop is what it shows."""
        return self.ask(lambda fd: shown(fd) == vt and mode(fd) == KD_GRAPHICS) or False

    def starting(self) -> bool:
        """Whether a display server has its turn to start: a lock, which in-turn (mkosi.extra) takes."""
        with contextlib.suppress(OSError):
            fd = os.open(self.turn, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(fd)
        return False

    def ask(self, what: Callable[[int], T]) -> T | None:
        """Ask something of the terminal that is shown; what the kernel refuses is not done.

        Nor is what its owner holds up: while a hang-up waits for somebody who reads into memory that never
        comes, of FUSE say, whoever opens the terminal waits for the hang-up (tty_lock in tty_io.c).
        """
        with contextlib.suppress(OSError), at_most(PATIENCE):
            fd = os.open(self.console, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                return what(fd)
            finally:
                os.close(fd)
        return None


def shown(fd: int) -> int:
    """Which terminal a descriptor of the one that is shown is of."""
    number = bytearray(4)
    fcntl.ioctl(fd, TIOCGDEV, number)
    return number[0]


def mode(fd: int) -> int:
    found = bytearray(4)
    fcntl.ioctl(fd, KDGETMODE, found)
    return int.from_bytes(found, sys.byteorder)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what waits longer, and can be interrupted by a signal."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def number(active: bytes) -> int:
    return int(active.strip().removeprefix(b"tty"))
