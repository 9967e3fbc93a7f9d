"""What can it do to the host's text terminal, and to which terminal is in front?

linux/vt.h, linux/kd.h, linux/tiocl.h; ioctl_vt(2), ioctl_console(2), TIOCSTI(2const), TIOCLINUX(2const).
"""

import atexit
import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import termios
import time
from collections.abc import Callable

from .calls import Context, Node, Notes, Refused
from .nodes import fixed, opened, terminal, use, with_fd

VT_SETMODE, VT_GETSTATE, VT_ACTIVATE, VT_WAITACTIVE = 0x5602, 0x5603, 0x5606, 0x5607
VT_PROCESS = 1
VT_LOCKSWITCH, VT_UNLOCKSWITCH = 0x560B, 0x560C
KDGKBENT, KDSKBENT = 0x4B46, 0x4B47
GIO_CMAP, PIO_CMAP, KDGKBDIACRUC, KDSKBDIACRUC = 0x4B70, 0x4B71, 0x4BFA, 0x4BFB
VT_RESIZE = 0x5609
KDGKBMODE, KDSKBMODE, K_UNICODE = 0x4B44, 0x4B45, 3
TIOCSTI, TIOCLINUX, TIOCSCTTY, TIOCEXCL = 0x5412, 0x541C, 0x540E, 0x540C
TIOCL_SETSEL, TIOCL_PASTESEL, TIOCL_GETSHIFTSTATE = 2, 3, 6
SELECTION = struct.Struct("=B5H")  # the subcode, then struct tiocl_selection, unaligned
STATE = struct.Struct("=3H")
MODE = struct.Struct("=2b3h")  # struct vt_mode
ENTRY = struct.Struct("=BBH")  # struct kbentry: table, key, what it gives
COLOURS = struct.Struct("=48B")  # three for each of 16
ACCENTS = struct.Struct("=I768I")  # struct kbdiacrsuc: how many, then 256 times three letters
WINDOW, SIZES = struct.Struct("=4H"), struct.Struct("=3H")  # struct winsize, struct vt_sizes
KEY_A = 30
SPARE = 13  # a terminal that nobody uses: the control's own

TTY0 = fixed("/dev/tty0", 4, 0)


def front(context: Context) -> list[Node]:
    """Nodes that lead to the host's text terminal while that is in front."""
    return [terminal(context.text_vt), TTY0]


def own(context: Context) -> int:
    """The environment's own terminal, as the controlling one if that can be had."""
    with contextlib.suppress(OSError):
        os.setsid()
    fd = os.open(
        f"/dev/tty{SPARE if context.host else context.own_vt}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
    )
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, TIOCSCTTY, 0)
    return fd


def heard_in_front(context: Context) -> int:
    """The environment's own terminal, brought to the front, with the keyboard turned on for its console.

    Nobody else may open it to turn that off; and it has the mode of a process that is dead, for which the
    kernel turns the keyboard on itself, at the end of the switch.
    """
    fd, number = own(context), SPARE if context.host else context.own_vt
    mode = termios.tcgetattr(fd)
    mode[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
    termios.tcsetattr(fd, termios.TCSANOW, mode)
    keyboard = bytearray(4)
    fcntl.ioctl(fd, KDGKBMODE, keyboard)
    atexit.register(fcntl.ioctl, fd, KDSKBMODE, keyboard[0])
    fcntl.ioctl(fd, TIOCEXCL)
    die_with_mode(fd)
    for request, argument in ((KDSKBMODE, K_UNICODE), (VT_ACTIVATE, number)):
        fcntl.ioctl(fd, request, argument)
    deadline = time.monotonic() + 8
    while active(fd) != number:
        if time.monotonic() > deadline:
            raise OSError(errno.EAGAIN, "it does not come to the front")
        time.sleep(0.1)
    return fd


def die_with_mode(fd: int) -> None:
    """Set the terminal's mode in a process that ends (VT_SETMODE: it would be asked whether it lets go)."""
    process = os.fork()
    if process == 0:
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, VT_SETMODE, MODE.pack(VT_PROCESS, 0, signal.SIGUSR1, signal.SIGUSR2, 0))
        os._exit(0)
    os.waitpid(process, 0)


# --- the host's text console


def console_memory(notes: Notes, context: Context) -> None:
    """Read the text on the host's console from the kernel's memory of it."""
    for node in (fixed(f"/dev/vcs{context.text_vt}", 7, context.text_vt), fixed("/dev/vcs", 7, 0)):
        if use(notes, context, node, os.O_RDONLY, lambda fd: shows(context, os.read(fd, 4096))):
            return


def shows(context: Context, data: bytes) -> str:
    """Raise Refused where the word that stands on the host's console is not in it."""
    if context.words["screen"] not in data.decode("latin-1"):
        raise Refused(f"read {len(data)} bytes, without the word on the console")
    return f"read {context.words['screen']!r}, which stands there"


def console_selection(notes: Notes, context: Context) -> None:
    """Copy the text on the host's console by the console's own selection."""
    notes.attempt(
        "TIOCL_SETSEL, TIOCL_PASTESEL into its own terminal", lambda: with_fd(own(context), pasted(context))
    )


def pasted(context: Context) -> Callable[[int], str]:
    def read(fd: int) -> str:
        before = termios.tcgetattr(fd)
        raw = [*before[:3], before[3] & ~(termios.ICANON | termios.ECHO), *before[4:]]
        termios.tcsetattr(fd, termios.TCSANOW, raw)
        try:
            select_row(fd)
            fcntl.ioctl(fd, TIOCLINUX, bytearray([TIOCL_PASTESEL]))
            data = b""
            while select.select([fd], [], [], 0.5)[0]:
                data += os.read(fd, 4096)
        finally:
            termios.tcsetattr(fd, termios.TCSANOW, before)
        return shows(context, data)

    return read


def select_row(fd: int) -> None:
    """Select the first row of whichever terminal is in front."""
    fcntl.ioctl(fd, TIOCLINUX, bytearray(SELECTION.pack(TIOCL_SETSEL, 1, 1, 60, 1, 0)))


def shift_keys(notes: Notes, context: Context) -> None:
    """Ask whether Shift, Ctrl or Alt is held."""

    def ask(fd: int) -> str:
        answer = bytearray([TIOCL_GETSHIFTSTATE])
        fcntl.ioctl(fd, TIOCLINUX, answer)
        return f"told {answer[0]}"

    notes.attempt("TIOCL_GETSHIFTSTATE on its own terminal", lambda: with_fd(own(context), ask))


def console_write(notes: Notes, context: Context) -> None:
    """Write on the host's console: a login prompt of its own, say."""
    word = context.words["console-write"]
    for node in front(context):
        use(notes, context, node, os.O_WRONLY, lambda fd: os.write(fd, f"\r\n{word}\r\n".encode()))


def inject_tiocsti(notes: Notes, context: Context) -> None:
    """Put letters into the input of the host's console."""

    def push(fd: int) -> str:
        for letter in context.words["inject-tiocsti"].encode():
            fcntl.ioctl(fd, TIOCSTI, bytes([letter]))
        return "pushed"

    for node in front(context):
        use(notes, context, node, os.O_RDWR, push)


def inject_paste(notes: Notes, context: Context) -> None:
    """Paste into the input of the host's console."""

    def paste(fd: int) -> str:
        select_row(fd)
        fcntl.ioctl(fd, TIOCLINUX, bytearray([TIOCL_PASTESEL]))
        return "pasted"

    for node in front(context):
        use(notes, context, node, os.O_RDWR, paste)


def keymap(notes: Notes, context: Context) -> None:
    """Change what keys give on text consoles, for all of them."""

    def change(fd: int) -> str:
        entry = bytearray(ENTRY.pack(0, KEY_A, 0))
        fcntl.ioctl(fd, KDGKBENT, entry)
        fcntl.ioctl(fd, KDSKBENT, bytes(entry))
        return "set a key to what it was"

    notes.attempt("KDSKBENT on its own terminal", lambda: with_fd(own(context), change))
    for node in front(context):
        use(notes, context, node, os.O_RDWR, change)


def console_settings(notes: Notes, context: Context) -> None:
    """Change settings that all consoles share: to what they are."""
    on_each(notes, context, "PIO_CMAP", set_again(GIO_CMAP, PIO_CMAP, COLOURS.size))
    on_each(notes, context, "KDSKBDIACRUC", set_again(KDGKBDIACRUC, KDSKBDIACRUC, ACCENTS.size))
    on_each(notes, context, "VT_RESIZE", resize)


def set_again(read: int, write: int, size: int) -> Callable[[int], str]:
    def change(fd: int) -> str:
        found = bytearray(size)
        fcntl.ioctl(fd, read, found)
        fcntl.ioctl(fd, write, found)
        return "set to what it was"

    return change


def resize(fd: int) -> str:
    found = bytearray(WINDOW.size)
    fcntl.ioctl(fd, termios.TIOCGWINSZ, found)
    rows, columns, *_ = WINDOW.unpack(found)
    fcntl.ioctl(fd, VT_RESIZE, SIZES.pack(rows, columns, 0))
    return f"set to {columns}x{rows}, as it was"


# --- which terminal is in front


def vt_lock(notes: Notes, context: Context) -> None:
    """Forbid to change the terminal, for everybody."""

    def lock(fd: int) -> str:
        fcntl.ioctl(fd, VT_LOCKSWITCH)
        fcntl.ioctl(fd, VT_UNLOCKSWITCH)
        return "locked, and unlocked"

    on_each(notes, context, "VT_LOCKSWITCH", lock)


def vt_own(notes: Notes, context: Context) -> None:
    """Bring itself to the front while another one is there."""
    on_each(
        notes,
        context,
        "VT_ACTIVATE of its own",
        lambda fd: activate(fd, SPARE if context.host else context.own_vt),
    )


def vt_other(notes: Notes, context: Context) -> None:
    """Bring the terminal of another environment to the front while a third one is there."""
    on_each(notes, context, "VT_ACTIVATE of the host's desktop", lambda fd: activate(fd, context.front_vt))
    notes.attempt(
        "a control sequence on its own terminal",
        lambda: with_fd(own(context), lambda fd: activate(fd, context.front_vt, by=by_sequence)),
    )


def on_each(notes: Notes, context: Context, how: str, action: Callable[[int], str]) -> None:
    """On its own terminal, then on others that it may open."""
    if notes.attempt(f"{how}, on its own terminal", lambda: with_fd(own(context), action)):
        return
    for node in front(context):
        if use(notes, context, node, os.O_RDWR, action):
            return


def active(fd: int) -> int:
    state = bytearray(STATE.size)
    fcntl.ioctl(fd, VT_GETSTATE, state)
    return int(STATE.unpack(state)[0])


def by_request(fd: int, number: int) -> None:
    fcntl.ioctl(fd, VT_ACTIVATE, number)


def by_sequence(fd: int, number: int) -> None:
    """console_codes(4): bring the specified console to the front."""
    os.write(fd, b"\x1b[12;%d]" % number)


def activate(fd: int, number: int, *, back: bool = True, by: Callable[[int, int], None] = by_request) -> str:
    """Raise Refused where the terminal does not come to the front; go back afterwards."""
    before = active(fd)
    by(fd, number)
    deadline = time.monotonic() + 8
    while active(fd) != number:
        if time.monotonic() > deadline:
            raise Refused("it was not obeyed")
        time.sleep(0.1)
    if back:
        with contextlib.suppress(OSError):  # a strict environment may show its own alone
            fcntl.ioctl(fd, VT_ACTIVATE, before)
        time.sleep(1.0)
    return f"terminal {number} came to the front"


def bring(number: int) -> str:
    """For the runner: bring a terminal of the host to the front."""
    return str(with_fd(opened("/dev/tty0", os.O_RDWR), lambda fd: activate(fd, number, back=False)))
