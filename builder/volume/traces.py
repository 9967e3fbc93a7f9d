"""Is there anything but zeros in a place of a disk or file, and how much of it was looked at?

Of a file all is read that is not a hole. A disk has no holes: up to so much all of it is read, of more both
ends and pieces at equal distances in between, unless everything is asked for. Who finds nothing in a part
has not found that there is nothing.
"""

import contextlib
import errno
import mmap
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from builder.errors import MachineError
from builder.volume.read import Read

Range = tuple[int, int]  # first byte, end
Look = Callable[[int, int], bytes | memoryview]  # offset, length

WHOLE = 4 << 30  # a place of a disk up to this size is read as a whole: some seconds
PIECE = 1 << 20
PIECES = 2048  # of a larger place
EDGE = 64 << 20  # at both ends of a larger place
_ZEROS: object = bytearray(PIECE)  # which is compared with any buffer without a copy of that


@dataclass(frozen=True)
class Traces:
    """What was found in a place. ``looked`` are the bytes that are known: as read, or as a file's holes."""

    size: int
    looked: int
    at: int | None = None
    """Where the first byte that is not zero lies, to a block of 512 bytes; nothing was read behind it."""
    unreadable: bool = False
    """Whether what lies there cannot be read."""

    @property
    def unseen(self) -> int:
        """Bytes that nobody has looked at, where nothing was found."""
        return 0 if self.at is not None else self.size - self.looked


def look_for_traces(fd: int, read: Read, start: int, end: int, *, everything: bool = False) -> Traces:
    """Look from byte ``start`` to ``end`` of an open disk or file; ``read`` reads from it."""
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        return traces_in(read, data_extents(fd, start, end), end - start, holes=True)
    with past_the_cache(fd, read) as direct:
        return traces_in(direct, [(start, end)] if everything else pieces(start, end), end - start)


@contextlib.contextmanager
def past_the_cache(fd: int, read: Read) -> Iterator[Look]:
    """Reads of at most ``PIECE`` bytes of a disk by O_DIRECT (open(2)): a whole disk is read once, and would
    only push out of the page cache what others need. Where the disk does not do that, by ``read``.

    What was read is there until the next read but one.
    """
    try:
        direct = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        yield read
        return

    buffers = deque(memoryview(mmap.mmap(-1, PIECE)) for _ in range(2))  # aligned, as O_DIRECT asks

    def straight(offset: int, length: int) -> bytes | memoryview:
        buffers.rotate()
        try:
            return buffers[0][: os.preadv(direct, [buffers[0][:length]], offset)]
        except OSError as e:
            if e.errno != errno.EINVAL:  # for what is not aligned to the disk's sectors
                raise
            return read(offset, length)

    try:
        yield straight
    finally:
        os.close(direct)


def traces_in(read: Look, ranges: Iterable[Range], size: int, *, holes: bool = False) -> Traces:
    """Read ranges up to the first byte that is not zero. ``holes``: what is outside of them is zero.

    A thread reads each piece while the one before is looked at.
    """
    looked = 0
    pieces = ((at, min(PIECE, end - at)) for first, end in ranges for at in range(first, end, PIECE))
    with ThreadPoolExecutor(1) as pool:
        reads = ((at, length, pool.submit(read, at, length)) for at, length in pieces)
        following = next(reads, None)
        while following is not None:
            at, length, reading = following
            try:
                data = reading.result()
            except (OSError, MachineError):
                return Traces(size, looked, at, unreadable=True)
            if len(data) < length:
                return Traces(size, looked, at + len(data), unreadable=True)
            following = next(reads, None)
            looked += length
            zeros = _ZEROS if length == PIECE else bytearray(length)
            if zeros != data:
                return Traces(size, looked, at + first_block(data))
    return Traces(size, size if holes else looked)


def first_block(data: bytes | memoryview) -> int:
    """Where in ``data``, which is not all zeros, the first block with another byte begins."""
    return next(at for at in range(0, len(data), 512) if any(data[at : at + 512]))


def data_extents(fd: int, start: int, end: int) -> Iterator[Range]:
    """The parts of a file that are no holes; all of it where its file system cannot tell (lseek(2))."""
    at = start
    while at < end:
        try:
            first = max(os.lseek(fd, at, os.SEEK_DATA), at)
            stop = os.lseek(fd, first, os.SEEK_HOLE)
        except OSError as e:
            if e.errno != errno.ENXIO:  # ENXIO: only a hole is left
                yield at, end
            return
        if first >= end:
            return
        yield first, min(stop, end)
        at = stop


def pieces(start: int, end: int) -> Iterator[Range]:
    """What is read of a place of a disk: everything, or both ends and pieces between them, in this order."""
    if end - start <= WHOLE:
        yield start, end
        return
    yield start, start + EDGE
    yield end - EDGE, end
    inner = end - start - 2 * EDGE
    for n in range(PIECES):
        at = start + EDGE + inner * n // PIECES // PIECE * PIECE
        yield at, min(at + PIECE, end - EDGE)
