"""What does the kernel let it see of the screen, by the graphics card's own interface?

drm.h and drm_mode.h of the kernel; drivers/gpu/drm/drm_auth.c says who is master: whoever opened the card
while nobody was, or asks for it as the host's root. GETFB gives a picture's memory to the master and the
host's root alone (drm_framebuffer.c).
"""

import ctypes
import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .calls import SYS_IOCTL, Absent, Refused, call_as_32_bit, syscall
from .nodes import opened

SET_MASTER, DROP_MASTER = 0x641E, 0x641F
RESOURCES = struct.Struct("=4Q8I")
CRTC = struct.Struct("=Q7I68s")
FB = struct.Struct("=7I")
FB2 = struct.Struct("=5I4I4I4I4x4Q")
DUMB = struct.Struct("=6IQ")
MAP = struct.Struct("=2IQ")
PRIME = struct.Struct("=IIi")
FLINK, OPEN = struct.Struct("=2I"), struct.Struct("=2IQ")
LEASE = struct.Struct("=Q4I")
THUMB = 512  # pixels of width of the pictures that a report shows


def request(number: int, layout: struct.Struct) -> int:
    """DRM_IOWR(number, struct …)."""
    return 3 << 30 | layout.size << 16 | 0x64 << 8 | number


Call = Callable[[int, int, bytearray], object]


def ask(
    fd: int, number: int, layout: struct.Struct, *values: int | bytes, call: Call = fcntl.ioctl
) -> tuple[int, ...]:
    buffer = bytearray(layout.pack(*values))
    call(fd, request(number, layout), buffer)
    return layout.unpack(buffer)


def of_another_type(fd: int, request: int, buffer: bytearray) -> None:
    """As a request to a terminal; the card's driver does not look at the type."""
    fcntl.ioctl(fd, request & ~0xFF00 | 0x54 << 8, buffer)


def larger(fd: int, request: int, buffer: bytearray) -> None:
    """With more data than the request has; the kernel takes what it needs."""
    more = buffer + bytes(64)
    fcntl.ioctl(fd, request & ~(0x3FFF << 16) | len(more) << 16, more)
    buffer[:] = more[: len(buffer)]


def with_upper_bits(fd: int, request: int, buffer: bytearray) -> None:
    """As a number of 64 bits, of which the kernel takes the lower half."""
    syscall(SYS_IOCTL, fd, 1 << 32 | request, (ctypes.c_char * len(buffer)).from_buffer(buffer))


def as_32_bit(fd: int, request: int, buffer: bytearray) -> None:
    """By the system call of 32-bit programs."""
    call_as_32_bit(fd, request, buffer)


DISGUISES: tuple[tuple[str, Call], ...] = (
    ("GETFB", fcntl.ioctl),
    ("GETFB of another type", of_another_type),
    ("GETFB with more data", larger),
    ("GETFB by a number of 64 bits", with_upper_bits),
    ("GETFB by a 32-bit program's call", as_32_bit),
)


@dataclass(frozen=True)
class Picture:
    """A framebuffer as GETFB describes it; ``handle`` 0: its memory is not given."""

    number: int
    width: int
    height: int
    pitch: int
    handle: int


def cards() -> list[str]:
    found = sorted(str(path) for path in Path("/dev/dri").glob("card*"))
    if not found:
        raise Absent("no graphics card is here")
    return found


def card() -> int:
    return opened(cards()[0], os.O_RDWR)


def resources(fd: int) -> tuple[list[int], list[int]]:
    """Ids of CRTCs and connectors."""
    counts = ask(fd, 0xA0, RESOURCES, *(0,) * 12)
    crtcs, connectors = (ctypes.c_uint32 * 32)(), (ctypes.c_uint32 * 32)()
    places = (0, ctypes.addressof(crtcs), ctypes.addressof(connectors), 0)
    ask(fd, 0xA0, RESOURCES, *places, 0, min(counts[5], 32), min(counts[6], 32), 0, 0, 0, 0, 0)
    return list(crtcs[: counts[5]]), list(connectors[: counts[6]])


def shown(fd: int) -> list[int]:
    """Framebuffers that are on a screen now. The kernel tells their numbers to everybody."""
    found = []
    for crtc in resources(fd)[0]:
        number = ask(fd, 0xA1, CRTC, 0, 0, crtc, 0, 0, 0, 0, 0, bytes(68))[3]
        if number:
            found.append(number)
    return found


def on_screen(fd: int) -> int:
    found = shown(fd)
    if not found:
        raise Refused("no framebuffer is on screen")
    return found[0]


def getfb(fd: int, number: int, call: Call = fcntl.ioctl) -> Picture:
    _, width, height, pitch, _, _, handle = ask(fd, 0xAD, FB, number, *(0,) * 6, call=call)
    return with_memory(Picture(number, width, height, pitch, handle))


def getfb2(fd: int, number: int) -> Picture:
    values = ask(fd, 0xCE, FB2, number, *(0,) * 20)
    return with_memory(Picture(number, values[1], values[2], values[9], values[5]))


def with_memory(picture: Picture) -> Picture:
    if not picture.handle:
        raise Refused(f"tells {picture.width}x{picture.height}, and handle 0 in place of the memory")
    return picture


def mapped(fd: int, picture: Picture) -> bytes:
    """The pixels, through the card."""
    offset = ask(fd, 0xB3, MAP, picture.handle, 0, 0)[2]
    with mmap.mmap(
        fd, picture.pitch * picture.height, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset
    ) as memory:
        return memory[:]


def exported(fd: int, handle: int, size: int) -> bytes:
    """The pixels, through a DMA buffer that could be handed to anybody (PRIME)."""
    buffer = ask(fd, 0x2D, PRIME, handle, os.O_RDWR | os.O_CLOEXEC, -1)[2]
    try:
        with mmap.mmap(buffer, size, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
            return memory[:]
    finally:
        os.close(buffer)


def png(picture: Picture, pixels: bytes) -> bytes:
    """A small PNG of XRGB8888 pixels. Raises Refused where there is nothing in them."""
    step = max(1, picture.width // THUMB)
    rows = []
    for y in range(0, picture.height, step):
        row = pixels[y * picture.pitch : y * picture.pitch + picture.width * 4 : 1]
        blue, green, red = (row[n :: 4 * step] for n in range(3))
        rows.append(b"\0" + bytes(value for rgb in zip(red, green, blue, strict=True) for value in rgb))
    if len({bytes(row) for row in rows}) < 2 and len(set(rows[0][1:])) < 4:
        raise Refused("could read the picture, which is blank")
    width = (len(rows[0]) - 1) // 3
    header = struct.pack(">2I5B", width, len(rows), 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def new_name(fd: int) -> int:
    """A buffer of one's own with a global name, by which every client of the card may ask for it."""
    handle = ask(fd, 0xB2, DUMB, 64, 64, 32, 0, 0, 0, 0)[4]
    return ask(fd, 0x0A, FLINK, handle, 0)[1]


def open_names(fd: int, names: Iterable[int]) -> str:
    """Ask for buffers of others by their names."""
    last: OSError | None = None
    for name in names:
        try:
            size = ask(fd, 0x0B, OPEN, name, 0, 0)[2]
        except OSError as e:
            last = e
        else:
            return f"opened buffer {name} of {size} bytes"
    raise last or Refused("no name was tried")


def lease(fd: int) -> str:
    """A part of the screen as a lease, which makes its holder the master there."""
    crtcs, connectors = resources(fd)
    if not crtcs or not connectors:
        raise Absent("the card has no screen")
    objects = (ctypes.c_uint32 * 2)(crtcs[0], connectors[0])
    values = ask(fd, 0xC6, LEASE, ctypes.addressof(objects), 2, os.O_CLOEXEC, 0, 0)
    os.close(values[4])
    return f"leased connector {connectors[0]}"
