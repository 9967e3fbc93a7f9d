"""In which ways can root get hold of a device: as a node it was given, one it makes, one it found?"""

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .calls import Absent, Context, Node, Notes, Refused

MADE = "/dev/seatsmith-probe"  # /dev of a container is a file system that may hold device nodes
Opener = Callable[[int], int]


def ways(context: Context, node: Node) -> Iterator[tuple[str, Opener]]:
    """Each way in words, and a function that opens the device so with the flags it is given."""
    name = node.path.removeprefix("/dev/")
    if context.host:
        yield f"open {node.path}", lambda flags: opened(node.path, flags)
    elif is_same(node):
        yield f"open {node.path}, which it was given", lambda flags: opened(node.path, flags)
    yield f"mknod {name}", lambda flags: made(node, flags)
    if context.premade:
        path = f"{context.premade}/{name.replace('/', '-')}"
        yield f"open a node of {name} on its disk", lambda flags: opened(path, flags)


def is_same(node: Node) -> bool:
    """Whether the path leads to that device here; /dev/tty0 of a strict environment, say, does not."""
    try:
        there = Path(node.path).stat()
    except OSError:
        return False
    kind = stat.S_ISBLK if node.block else stat.S_ISCHR
    return kind(there.st_mode) and there.st_rdev == os.makedev(node.major, node.minor)


def opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)


def made(node: Node, flags: int) -> int:
    """Make a node, open it, and remove it again."""
    path = f"{MADE}-{os.getpid()}"
    os.mknod(
        path, 0o600 | (stat.S_IFBLK if node.block else stat.S_IFCHR), os.makedev(node.major, node.minor)
    )
    try:
        return opened(path, flags)
    finally:
        Path(path).unlink()


def use(
    notes: Notes,
    context: Context,
    node: Node,
    flags: int,
    action: Callable[[int], object],
    *,
    picture: bool = False,
) -> bool:
    """Do something with a device in each way, until one works; whether one did."""
    for how, opener in ways(context, node):
        if notes.attempt(how, partial(with_opened, opener, flags, action), picture=picture):
            return True
    return False


def with_opened(opener: Opener, flags: int, action: Callable[[int], object]) -> object:
    return with_fd(opener(flags), action)


def with_fd(fd: int, action: Callable[[int], object]) -> object:
    try:
        return action(fd)
    finally:
        os.close(fd)


def read_some(fd: int) -> str:
    """For devices where being able to read is the point."""
    data = os.read(fd, 4096)
    if not data:
        raise Refused("nothing could be read")
    return f"read {len(data)} bytes"


def need(things: list[Node], what: str) -> list[Node]:
    if not things:
        raise Absent(f"this machine has no {what}")
    return things


def fixed(path: str, major: int, minor: int) -> Node:
    """A device whose numbers are always the same (Documentation/admin-guide/devices.txt)."""
    return Node(path, major, minor)


def terminal(number: int) -> Node:
    return fixed(f"/dev/tty{number}", 4, number)
