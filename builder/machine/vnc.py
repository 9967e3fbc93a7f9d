"""How does a test plug in another monitor? As a VNC client that asks QEMU's display for a new size.

QEMU hands the wish on to the graphics card, which reports a changed monitor (EDID, hotplug) to the guest.
Protocol: RFC 6143; ExtendedDesktopSize and SetDesktopSize as the RFB community's rfbproto describes them.
"""

import contextlib
import socket
import struct
from pathlib import Path

from builder.machine.errors import MachineDied

VERSION = b"RFB 003.008\n"
NO_SECURITY = 1
PATIENCE = 1.0  # seconds of silence after which QEMU has nothing more to say
EXTENDED_DESKTOP_SIZE = -308
SET_ENCODINGS, UPDATE_REQUEST, SET_DESKTOP_SIZE = 2, 3, 251


def set_desktop_size(display: Path, width: int, height: int) -> None:
    """Ask for a screen of that size. Raises MachineDied where the display does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as line:
            line.settimeout(20.0)
            line.connect(str(display))
            greet(line)
            # the server takes the wish only from a client that says it understands the answer
            line.sendall(struct.pack(">BxHi", SET_ENCODINGS, 1, EXTENDED_DESKTOP_SIZE))
            line.sendall(struct.pack(">BBHHHH", UPDATE_REQUEST, 0, 0, 0, 1, 1))
            read(line, 4)  # a first update: the encodings have been taken in
            screens = struct.pack(">IHHHHI", 0, 0, 0, width, height, 0)
            line.sendall(struct.pack(">BxHHBx", SET_DESKTOP_SIZE, width, height, 1) + screens)
            drain(line)
    except OSError as e:
        raise MachineDied(f"QEMU's display does not answer: {e}") from e


def drain(line: socket.socket) -> None:
    """Read what comes: a socket closed with unread data makes QEMU drop what it has not read itself."""
    line.settimeout(PATIENCE)
    with contextlib.suppress(TimeoutError):
        while line.recv(1 << 16):
            pass


def greet(line: socket.socket) -> None:
    read(line, len(VERSION))
    line.sendall(VERSION)
    read(line, read(line, 1)[0])  # the security types on offer; a private socket needs none
    line.sendall(bytes([NO_SECURITY]))
    read(line, 4)
    line.sendall(b"\1")  # others may stay connected
    (name,) = struct.unpack(">20xI", read(line, 24))
    read(line, name)


def read(line: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = line.recv(count - len(data))
        if not part:
            raise ConnectionError("the connection was closed")
        data += part
    return data
