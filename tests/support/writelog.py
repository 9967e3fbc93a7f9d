"""What did a guest do to its disk? The log of QEMU's `blklogwrites` filter, in the format of dm-log-writes.

The format: Documentation/admin-guide/device-mapper/log-writes.rst of Linux, and drivers/md/dm-log-writes.c.
A superblock and each entry take a sector of their own; the data of a write follows its entry, that of a mark
lies in its sector. Numbers are little-endian, and count in sectors of the size that the superblock names.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

from builder.errors import InputError
from tests.support.faults import Log

MAGIC = 0x6A736677736872
VERSION = 1
PIECE = 64 << 10
_SUPER = struct.Struct("<QQQI")  # magic, version, number of entries, size of a sector
_ENTRY = struct.Struct("<QQQQ")  # sector, number of sectors, flags, length of a mark


class Flag(IntFlag):
    FLUSH = 1  # before the write, if there is one
    FUA = 2  # this write alone is durable at once
    DISCARD = 4
    MARK = 8


NONE = Flag(0)


@dataclass(frozen=True)
class Entry:
    """One request. ``data`` is what was written, or the text of a mark; a discard has none, but a count."""

    sector: int
    count: int
    flags: Flag = NONE
    data: bytes = b""


def read_log(path: Path) -> Iterator[tuple[int, Entry]]:
    """The size of a sector, and an entry, for each. Raises InputError for what is no log, or cut off."""
    end = path.stat().st_size
    with path.open("rb") as f:
        head = f.read(_SUPER.size)
        if len(head) < _SUPER.size or _SUPER.unpack(head)[:2] != (MAGIC, VERSION):
            raise InputError(f"{path} is no log of dm-log-writes (version {VERSION})")
        _, _, number, sector = _SUPER.unpack(head)
        if sector < 512 or sector & (sector - 1):
            raise InputError(f"{path} is damaged: it says that a sector has {sector} bytes")
        at = sector
        for n in range(number):
            if at + sector > end:
                raise InputError(f"{path} is cut off: it ends before entry {n + 1} of {number}")
            f.seek(at)
            start, count, flags, length = _ENTRY.unpack(f.read(_ENTRY.size))
            if length > sector - _ENTRY.size or flags > sum(Flag):
                raise InputError(f"{path} is damaged at entry {n + 1} of {number}")
            kind, at = Flag(flags), at + sector
            if kind & Flag.MARK:
                yield sector, Entry(start, count, kind, f.read(length))
                continue
            size = 0 if kind & Flag.DISCARD else count * sector
            if at + size > end:
                raise InputError(f"{path} is cut off: it ends in the data of entry {n + 1} of {number}")
            f.seek(at)
            yield sector, Entry(start, count, kind, f.read(size))
            at += size


def write_log(path: Path, entries: Sequence[Entry], *, sector: int = 512) -> None:
    """The other way round."""
    with path.open("wb") as f:
        f.write(_SUPER.pack(MAGIC, VERSION, len(entries), sector).ljust(sector, b"\0"))
        for entry in entries:
            mark, data = (entry.data, b"") if entry.flags & Flag.MARK else (b"", entry.data)
            head = _ENTRY.pack(entry.sector, entry.count, entry.flags, len(mark)) + mark
            f.write(head.ljust(sector, b"\0") + data)


def log_of(path: Path) -> Log:
    """The log as the harness of power cuts takes it.

    In the harder way each: what was discarded stays, a write that was to be durable at once may be lost
    like any other (virtio-blk offers no such writes; the kernel flushes instead), and of a large write any
    piece may be on the disk before another.
    """
    log = Log()
    for sector, entry in read_log(path):
        if entry.flags & Flag.FLUSH:
            log.events.append(None)
        if entry.data and not entry.flags & Flag.MARK:
            for at in range(0, len(entry.data), PIECE):
                log.events.append((entry.sector * sector + at, entry.data[at : at + PIECE]))
    return log
