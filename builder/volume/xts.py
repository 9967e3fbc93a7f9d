"""How does a filesystem become a LUKS2 payload? Encrypted by worker processes, which digest it.

The digest tells a faulty disk from a good one; it guards against nobody. SHA-256 took as long as the cipher,
XXH3 takes a thirtieth of it.
"""

import contextlib
import errno
import mmap
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import xxhash

from builder.errors import MachineError
from builder.ui import Meter
from builder.volume.cipher import SECTOR, Sectors
from builder.volume.target import punch_hole

PIECE = 16 << 20  # what a worker is given at a time
CHUNK = 1 << 20  # what it reads at a time
MOST_WORKERS = 16

Range = tuple[int, int]  # start, end
checksum = xxhash.xxh3_128


@dataclass(frozen=True)
class Job:
    """One piece of work: ranges of the source (offsets in the payload), together about PIECE bytes.

    ``overlay`` replaces whole sectors of the source: what must not lie in a scratch file in the clear.
    """

    ranges: tuple[Range, ...]
    overlay: dict[int, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.ranges)


@dataclass(frozen=True)
class Written:
    """What lies on the target where: a job's ranges, and the XXH3 of their bytes as written, in a row."""

    base: int
    ranges: tuple[Range, ...]
    digest: bytes

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.ranges)


@dataclass(frozen=True)
class Failed:
    """What the system said to a read or write, and at which byte of the target."""

    number: int
    offset: int | None


def failed(what: str, target: Path, why: Failed) -> MachineError:
    where = f" (at byte {why.offset})" if why.offset is not None else ""
    full = why.number in (errno.ENOSPC, errno.EDQUOT)
    return MachineError(
        f"cannot {what} {target}: {os.strerror(why.number)}{where}",
        hint="free some space where it lies" if full else "see the kernel's log",
    )


def split(ranges: Sequence[Range], piece: int = PIECE) -> Iterator[tuple[Range, ...]]:
    """Group sorted ranges into pieces of at most ``piece`` bytes, cutting long ones."""
    group: list[Range] = []
    room = piece
    for start, end in ranges:
        at = start
        while at < end:
            take = min(room, end - at)
            group.append((at, at + take))
            at += take
            room -= take
            if not room:
                yield tuple(group)
                group, room = [], piece
    if group:
        yield tuple(group)


def encrypt(
    pool: "Pool",
    source: Path,
    base: int,
    ranges: Sequence[Range],
    key: bytearray,
    *,
    meter: Meter,
    overlay: dict[int, bytes] | None = None,
    consume: bool = False,
) -> list[Written]:
    """Encrypt ``ranges`` of ``source`` to the pool's target, whose byte ``base`` is the payload's first.

    Returns what was written where. The caller syncs the target. Where ``source`` may be consumed, what was
    written of it becomes a hole.
    """
    jobs = []
    for piece in split(ranges):
        extra = {o: d for o, d in (overlay or {}).items() if any(a <= o < b for a, b in piece)}
        jobs.append(Job(piece, extra))
    digests = pool.map(jobs, meter, source=source, base=base, key=key, consume=consume)
    return [Written(base, job.ranges, digest) for job, digest in zip(jobs, digests, strict=True)]


def read_back(pool: "Pool", written: Sequence[Written], *, meter: Meter) -> None:
    """Read what was written from the disk again and compare digests; the page cache is left out of it.

    Raises MachineError naming the first place that differs.
    """
    drop_cache(pool.target)
    jobs = [Job(tuple((w.base + a, w.base + b) for a, b in w.ranges)) for w in written]
    found = pool.map(jobs, meter)
    for piece, digest in zip(written, found, strict=True):
        if piece.digest != digest:
            raise differs(pool.target, piece)


def differs(target: Path, piece: Written) -> MachineError:
    at = piece.base + piece.ranges[0][0]
    return MachineError(
        f"{target} does not hold what was written: data at byte {at} reads back differently",
        hint="the disk (or its cable, or the memory) is faulty; do not use it",
    )


def drop_cache(path: Path) -> None:
    """Ask the kernel to forget what it has of a file or device, so that reads come from the medium."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


class Pool:
    """Worker processes over one target, one per core unless told.

    They begin with the first work, or before it by ``start``: each takes half a second to load. They end
    when the pool is closed, and with us: their pipes close when we do, however that is.
    """

    def __init__(self, target: Path, *, workers: int | None = None) -> None:
        self.target = target
        self.workers = workers or min(len(os.sched_getaffinity(0)), MOST_WORKERS)
        self._stack = contextlib.ExitStack()
        self._pipes: list[Connection] = []

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        while len(self._pipes) < self.workers:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, os.fspath(self.target)), daemon=True)
            process.start()
            theirs.close()
            self._stack.callback(process.join, 10)
            self._stack.callback(ours.close)
            self._pipes.append(ours)

    def close(self) -> None:
        self._pipes.clear()
        self._stack.close()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def map(
        self,
        jobs: Sequence[Job],
        meter: Meter,
        *,
        source: Path | None = None,
        base: int = 0,
        key: bytearray | None = None,
        consume: bool = False,
    ) -> list[bytes]:
        """Digest of each job's bytes on the target: written from ``source`` under ``key``, or read back."""
        self.start()
        results: list[bytes] = [b""] * len(jobs)
        queue = deque(range(len(jobs)))
        failures: list[Failed | str] = []

        def feed(pipe: Connection) -> None:
            try:
                pipe.send((os.fspath(source) if source else None, base, consume))
                pipe.send_bytes(key or b"")
                while queue and not failures:
                    try:
                        n = queue.popleft()
                    except IndexError:
                        break
                    pipe.send(jobs[n])
                    answer = pipe.recv()
                    if isinstance(answer, Failed):
                        failures.append(answer)
                        return
                    results[n] = answer
                    meter.advance(jobs[n].size)
                pipe.send(None)
            except (EOFError, OSError) as e:
                failures.append(f"a worker process ended unexpectedly ({e or 'killed'})")

        threads = [threading.Thread(target=feed, args=(pipe,), daemon=True) for pipe in self._pipes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            first, what = failures[0], "write" if source else "read"
            if isinstance(first, Failed):
                raise failed(what, self.target, first)
            raise MachineError(f"cannot {what} {self.target}: {first}", hint="see the kernel's log")
        return results


def _serve(pipe: Connection, target: str) -> None:
    """A worker: takes jobs from the pipe until it closes."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        while True:
            source, base, consume = pipe.recv()
            key = pipe.recv_bytes()
            sectors = Sectors(key) if key else None
            while (job := pipe.recv()) is not None:
                try:
                    if sectors is None:
                        pipe.send(_digest(target, job))
                        continue
                    written = _written(sectors, source, target, base, job)
                    if consume:  # before we say so: then the source may go
                        _give_back(source, job)
                    pipe.send(written)
                except OSError as e:
                    pipe.send(Failed(e.errno or errno.EIO, base + job.ranges[0][0]))
                    return
            key, sectors = b"", None  # while it waits for more, it needs none


def _written(sectors: Sectors, source: str, target: str, base: int, job: Job) -> bytes:
    """Encrypt one job."""
    digest = checksum()
    buffer = mmap.mmap(-1, CHUNK)
    view = memoryview(buffer)
    with open(source, "rb", 0) as src, open(target, "r+b", 0) as dst:  # noqa: PTH123
        for start, end in job.ranges:
            for at in range(start, end, CHUNK):
                part = view[: min(CHUNK, end - at)]
                got = os.preadv(src.fileno(), [part], at)
                part[got:] = bytes(len(part) - got)  # a source may end before its last sector does
                for offset, replacement in job.overlay.items():
                    if at <= offset < at + len(part):
                        part[offset - at : offset - at + SECTOR] = replacement
                sectors.encrypt(buffer, len(part), at)
                digest.update(part)
                write_all(dst.fileno(), part, base + at)
    return digest.digest()


def _give_back(source: str, job: Job) -> None:
    with open(source, "r+b", 0) as f:  # noqa: PTH123
        for start, end in job.ranges:
            punch_hole(f.fileno(), end - start, start)


def _digest(target: str, job: Job) -> bytes:
    digest = checksum()
    data = bytearray(CHUNK)
    with open(target, "rb", 0) as src:  # noqa: PTH123
        for start, end in job.ranges:
            at = start
            while at < end:
                part = memoryview(data)[: min(CHUNK, end - at)]
                got = os.preadv(src.fileno(), [part], at)
                if not got:
                    break
                digest.update(part[:got])
                at += got
    return digest.digest()


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """pwrite(2) until everything is out."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done
