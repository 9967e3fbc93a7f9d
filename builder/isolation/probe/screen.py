"""Which rows are about the screen: pictures, mastership, the old framebuffer, display servers?"""

import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from . import drm
from .calls import Context, Notes, Refused
from .nodes import fixed, read_some, use, with_fd

X_SETUP = (
    b"l\0\x0b\0\0\0\0\0\0\0\0\0"  # X11 protocol, "Connection Setup": byte order, version 11.0, no authority
)
NAMES = range(1, 64)
PICTURES = range(1, 512)  # numbers of framebuffers, modes and all else that is on a card
RACE = 25.0  # seconds


Getter = Callable[[int, int], drm.Picture]


def taken(read: Callable[[int], bytes]) -> Callable[[], object]:
    return lambda: with_fd(drm.card(), read)


def by(get: Getter) -> Callable[[int], bytes]:
    def read(fd: int) -> bytes:
        picture = get(fd, drm.on_screen(fd))
        return drm.png(picture, drm.mapped(fd, picture))

    return read


def prime(fd: int) -> bytes:
    picture = drm.getfb(fd, drm.on_screen(fd))
    return drm.png(picture, drm.exported(fd, picture.handle, picture.pitch * picture.height))


def guess_handles(fd: int) -> str:
    """Handles belong to who opened the card; these would be somebody else's."""
    last: OSError | None = None
    for handle in range(1, 16):
        try:
            drm.exported(fd, handle, 4096)
        except OSError as e:
            last = e
        else:
            return f"exported buffer {handle}"
    raise last or Refused("no handle was tried")


def screen_getfb(notes: Notes, context: Context) -> None:
    """Read what is on screen by GETFB."""
    notes.attempt("GETFB, and map it", taken(by(drm.getfb)), picture=True)


def screen_getfb2(notes: Notes, context: Context) -> None:
    """Read what is on screen by GETFB2."""
    notes.attempt("GETFB2, and map it", taken(by(drm.getfb2)), picture=True)


def screen_prime(notes: Notes, context: Context) -> None:
    """Export the screen's memory as a DMA buffer, and read that."""
    notes.attempt("GETFB, PRIME_HANDLE_TO_FD, and map it", taken(prime), picture=True)
    if not context.host:
        notes.attempt("PRIME_HANDLE_TO_FD of handles 1 to 15", lambda: with_fd(drm.card(), guess_handles))


def screen_names(notes: Notes, context: Context) -> None:
    """Open a buffer of the host by its global name."""
    name = context.victim.get("flink", 0)
    names = [name] if name else []
    notes.attempt(
        f"GEM_OPEN of the name {name or 'that the host has'}, and of 1 to 63",
        lambda: with_fd(
            drm.card(), lambda fd: drm.open_names(fd, [*names, *([] if context.host else NAMES)])
        ),
    )


def drm_master(notes: Notes, context: Context) -> None:
    """Take the graphics card away from whoever is on screen."""
    notes.attempt("SET_MASTER", lambda: with_fd(drm.card(), become_master))


def become_master(fd: int) -> str:
    fcntl.ioctl(fd, drm.SET_MASTER)
    fcntl.ioctl(fd, drm.DROP_MASTER)
    return "became master"


def drm_lease(notes: Notes, context: Context) -> None:
    """Have a part of the screen leased to it."""
    notes.attempt("CREATE_LEASE", lambda: with_fd(drm.card(), drm.lease))


def framebuffer(notes: Notes, context: Context) -> None:
    """Read the old framebuffer device, which shows text consoles."""
    use(notes, context, fixed("/dev/fb0", 29, 0), os.O_RDONLY, read_some)


def text_picture(notes: Notes, context: Context) -> None:
    """Read the picture of the host's text console from the graphics card."""
    for how, get in getters():
        if notes.attempt(f"open the card while no desktop has it, {how}", taken(by(get)), picture=True):
            return


def screen_behind(notes: Notes, context: Context) -> None:
    """Read what others have drawn while it is the card's master itself: every picture has a number."""
    for how, get in getters():
        if notes.attempt(f"{how} of 1 to {PICTURES[-1]}", taken(partial(behind, get=get)), picture=True):
            return
    name = context.victim.get("flink", 0)
    notes.attempt(
        f"GEM_OPEN of the name {name or 'that the host has'}",
        lambda: with_fd(drm.card(), lambda fd: drm.open_names(fd, [name] if name else [])),
    )


def getters() -> Iterator[tuple[str, Getter]]:
    """All ways to ask for a framebuffer, with their names."""
    for how, call in drm.DISGUISES:
        yield how, partial(drm.getfb, call=call)
    yield "GETFB2", drm.getfb2


def behind(fd: int, get: Getter) -> bytes:
    """The first picture that is not on screen, and not blank."""
    seen, last = drm.shown(fd), OSError(errno.ENOENT, "there is none")
    for number in PICTURES:
        try:
            if number not in seen:
                picture = get(fd, number)
                return drm.png(picture, drm.mapped(fd, picture))
        except Refused as e:
            last = OSError(0, str(e))
        except OSError as e:
            last = last if e.errno == errno.ENOENT else e
    raise last


# --- display servers


def x11_host(notes: Notes, context: Context) -> None:
    """Connect to an X server that is not its own."""
    for number in range(4):
        for name in (f"\0/tmp/.X11-unix/X{number}", f"/tmp/.X11-unix/X{number}"):
            how = f"connect to {name.replace(chr(0), '@')}"
            if notes.attempt(how, partial(greet, context, name, X_SETUP)):
                return


def wayland_host(notes: Notes, context: Context) -> None:
    """Connect to a Wayland compositor that is not its own."""
    found = {str(path) for path in Path("/run/user").glob("*/wayland-[0-9]")}
    for name in sorted(found | {context.victim["wayland"]}):
        notes.attempt(f"connect to {name}", partial(greet, context, name, b""))


def greet(context: Context, name: str, hello: bytes) -> str:
    """Connect and say something, to a peer of another environment."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(5)
        end.connect(name)
        foreign(context, end)
        if not hello:
            return "connected"
        end.sendall(hello)
        answer = end.recv(8)
        if not answer:
            raise Refused("it hung up")
        return f"it answered {answer!r}"


def foreign(context: Context, end: socket.socket) -> None:
    """Raise Refused where the peer is a process of this environment itself.

    The kernel gives its pid as this environment sees it, and 0 for one that it does not see (unix(7)).
    """
    pid = struct.unpack("=3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    if pid and not context.host:
        raise Refused("answers, and is its own")


# --- at a switch


def race(context: Context) -> Iterator[dict[str, object]]:
    """Try again and again to be who has the card in the moment of a switch, and to read the last picture."""
    start = time.monotonic()
    wanted = with_fd(drm.card(), drm.shown)
    yield {"ready": wanted}
    tried, master, last = 0, 0, ""
    while time.monotonic() - start < RACE:
        tried += 1
        try:
            fd = drm.card()
        except OSError as e:
            last = str(e)
            continue
        try:
            for number in drm.shown(fd):
                if isinstance(wanted, list) and number in wanted:
                    picture = drm.getfb(fd, number)
                    yield {"picture": drm.png(picture, drm.mapped(fd, picture)), "tried": tried}
                    return
            fcntl.ioctl(fd, drm.SET_MASTER)
            master += 1
        except (OSError, Refused) as e:
            last = str(e)
        finally:
            os.close(fd)
    yield {"tried": tried, "said": f"tried {tried} times, was master {master} times: {last}"}
