"""Through what does every byte reach a disk? One place that writes and reads back; tests make it fail.

All writers of disks go through a Medium. Tests put another in its place that records each write or stops in
the middle of one: a power cut, a torn sector, an I/O error.
"""

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from builder.errors import MachineError
from builder.ui import Meter
from builder.volume import target as targets
from builder.volume import xts
from builder.volume.cipher import SECTOR, Sectors
from builder.volume.xts import CHUNK, Range, Written, checksum

SMALL = 128 << 20  # done here rather than by worker processes, which take half a second to start


class Medium:
    """An open disk, or a file that stands for one. Leaving it ends its worker processes, not the ``fd``."""

    def __init__(self, fd: int, path: Path, *, sector: int = 512, workers: int | None = None) -> None:
        self.fd, self.path, self.sector = fd, path, sector
        self.pool = xts.Pool(path, workers=workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def expect(self, size: int) -> None:
        """Let the workers load while something else is done, if about ``size`` bytes want them."""
        if size > SMALL:
            self.pool.start()

    def read(self, offset: int, length: int) -> bytes:
        """Raises MachineError where the disk cannot read it."""
        try:
            return os.pread(self.fd, length, offset)
        except OSError as e:
            raise self.failed("read", offset, e) from e

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> Written:
        """Raises MachineError where the disk does not take it."""
        try:
            xts.write_all(self.fd, data, offset)
        except OSError as e:
            raise self.failed("write", offset, e) from e
        return Written(offset, ((0, len(data)),), checksum(data).digest())

    def sync(self) -> None:
        """Return when all that was written is on the medium (fsync(2) also flushes a disk's write cache)."""
        try:
            os.fsync(self.fd)
        except OSError as e:
            raise self.failed("flush", None, e) from e

    def discard(self, offset: int, size: int) -> bool:
        """Free a range; it then reads as zeros or anything. False where the disk or file system cannot."""
        if stat.S_ISBLK(os.fstat(self.fd).st_mode):
            return targets.discard(self.fd, size, offset)
        return targets.punch_hole(self.fd, size, offset)

    def encrypt(
        self,
        source: Path,
        base: int,
        ranges: Sequence[Range],
        key: bytearray,
        *,
        meter: Meter,
        overlay: dict[int, bytes] | None = None,
        consume: bool = False,
    ) -> list[Written]:
        """Write ``ranges`` of ``source`` as the payload that begins at byte ``base`` of the medium.

        ``consume`` permits to give back meanwhile what of ``source`` was written: its memory, above all.
        """
        if sum(end - start for start, end in ranges) > SMALL:
            return xts.encrypt(
                self.pool, source, base, ranges, key, meter=meter, overlay=overlay, consume=consume
            )
        done = []
        sectors = Sectors(key)
        with source.open("rb") as f:
            for piece in xts.split(ranges):
                digest = checksum()
                for start, end in piece:
                    for at in range(start, end, CHUNK):
                        size = min(CHUNK, end - at)
                        data = bytearray(os.pread(f.fileno(), size, at).ljust(size, b"\0"))
                        for offset, replacement in (overlay or {}).items():
                            if at <= offset < at + size:
                                data[offset - at : offset - at + SECTOR] = replacement
                        sectors.encrypt(data, size, at)
                        digest.update(data)
                        self.write(base + at, data)
                done.append(Written(base, piece, digest.digest()))
                meter.advance(sum(end - start for start, end in piece))
        return done

    def read_back(self, written: Sequence[Written], *, meter: Meter) -> None:
        """Compare what was written with what the medium holds. Raises MachineError where they differ."""
        if sum(w.size for w in written) > SMALL:
            xts.read_back(self.pool, written, meter=meter)
            return
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for piece in written:
            digest = checksum()
            for start, end in piece.ranges:
                for at in range(start, end, CHUNK):
                    digest.update(self.read(piece.base + at, min(CHUNK, end - at)))
            if digest.digest() != piece.digest:
                raise xts.differs(self.path, piece)
            meter.advance(piece.size)

    def failed(self, what: str, offset: int | None, error: OSError) -> MachineError:
        return xts.failed(what, self.path, xts.Failed(error.errno or errno.EIO, offset))
