"""What can go wrong with a disk, and what may be on it then? Power cuts, torn writes, I/O errors, bad reads.

A run is recorded as its writes and flushes. After a power cut at any point the disk holds what was flushed,
and of the writes since then any part, in any order: ``states`` gives such disks, without copying one.
"""

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from builder.provision.hostroots import HostRoots
from builder.run import run
from builder.volume.medium import Medium
from builder.volume.xts import Written

SECTOR = 512
PAGE = 4096
Write = tuple[int, bytes]


class PowerCut(Exception):
    """The machine stops here."""


@dataclass
class Log:
    """What a run did to a medium: writes, and None for each flush."""

    events: list[Write | None] = field(default_factory=list)

    @property
    def writes(self) -> list[Write]:
        return [event for event in self.events if event is not None]


class Recorder(Medium):
    """Writes as it should, and keeps a log."""

    def __init__(self, fd: int, path: Path, log: Log) -> None:
        super().__init__(fd, path)
        self.log = log

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> Written:
        self.log.events.append((offset, bytes(data)))
        return super().write(offset, data)

    def sync(self) -> None:
        self.log.events.append(None)
        super().sync()

    def discard(self, offset: int, size: int) -> bool:
        return False  # old data stays: the harder case


class Faulty(Medium):
    """Fails at the given event, counted over writes, flushes or reads: by a power cut or an I/O error."""

    def __init__(self, fd: int, path: Path, *, at: int, kind: str, torn: int = 0) -> None:
        super().__init__(fd, path)
        self.left, self.kind, self.torn = at, kind, torn

    def hit(self) -> bool:
        self.left -= 1
        return self.left < 0

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> Written:
        if self.kind in ("cut", "write error") and self.hit():
            super().write(offset, bytes(data)[: self.torn * SECTOR])
            self.fail(offset)
        return super().write(offset, data)

    def sync(self) -> None:
        if self.kind == "flush error" and self.hit():
            self.fail(None)
        super().sync()

    def read(self, offset: int, length: int) -> bytes:
        data = super().read(offset, length)
        if self.kind == "bad read" and self.hit() and data:
            return bytes([data[0] ^ 1]) + data[1:]
        return data

    def fail(self, offset: int | None) -> None:
        if self.kind == "cut":
            raise PowerCut
        raise self.failed("write", offset, OSError(errno.EIO, "Input/output error"))


class CutAfter(Medium):
    """Stops right after the journal says that a step is done."""

    def __init__(self, fd: int, path: Path, *, step: str) -> None:
        super().__init__(fd, path)
        self.said, self.seen = f'"step": "{step}"'.encode(), False

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> Written:
        if self.seen:
            raise PowerCut
        self.seen = self.said in bytes(data[:PAGE])
        return super().write(offset, data)


class State:
    """A disk as a power cut may leave it: a file, with some of the writes since the last flush over it."""

    def __init__(self, fd: int, extra: list[Write], *, number: int) -> None:
        self._fd, self.extra, self.number = fd, extra, number

    def read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset)
        for at, piece in self.extra:
            low, high = max(at, offset), min(at + len(piece), offset + length)
            if low < high:
                data = data[: low - offset] + piece[low - at : high - at] + data[high - offset :]
        return data

    def save(self, base: Path, path: Path) -> None:
        """Make the disk a file: ``base`` is the file that the state was over."""
        copy_sparse(base, path)
        with path.open("r+b") as f:
            for offset, data in self.extra:
                os.pwrite(f.fileno(), data, offset)


def states(
    log: Log, durable: Path, *, per_point: int, seed: int, only: Callable[[int], bool] = lambda n: True
) -> Iterator[State]:
    """Disks as power cuts at every write and flush may leave them, several for each.

    ``durable`` is a copy of the disk from before the run; what was flushed is written to it on the way.
    """
    chance = random.Random(seed)
    fd = os.open(durable, os.O_RDWR)
    pending: list[Write] = []
    try:
        for number, event in enumerate(log.events):
            if only(number):
                for n in range(per_point if pending else 1):
                    yield State(fd, subset(pending, chance, n), number=number)
            if event is not None:
                pending.append(event)
                continue
            for offset, data in pending:
                os.pwrite(fd, data, offset)
            pending = []
        if only(len(log.events)):
            yield State(fd, pending, number=len(log.events))
    finally:
        os.close(fd)


def subset(pending: list[Write], chance: random.Random, n: int) -> list[Write]:
    """Some of the unflushed writes, whole or torn at sectors; in the first two cases all, and none."""
    if n == 0:
        return list(pending)
    if n == 1:
        return []
    kept: list[Write] = []
    for offset, data in pending:
        fate = chance.choice(("lost", "whole", "whole", "torn"))
        if fate == "whole":
            kept.append((offset, data))
        elif fate == "torn":
            kept += torn(offset, data, chance)
    chance.shuffle(kept)
    return kept


def torn(offset: int, data: bytes, chance: random.Random) -> Iterator[Write]:
    """A few runs of sectors of a write."""
    sectors = -(-len(data) // SECTOR)
    for _ in range(chance.randint(1, 3)):
        first = chance.randrange(sectors)
        end = chance.randint(first, sectors)
        if end > first:
            yield offset + first * SECTOR, data[first * SECTOR : end * SECTOR]


def copy_sparse(source: Path, target: Path) -> None:
    run(["cp", "--sparse=always", "--reflink=auto", source, target])


@contextmanager
def cut_before_following(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The power goes behind a switch, before the running host's files follow."""

    def cut(roots: HostRoots) -> None:
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(HostRoots, "settle", cut)
        yield
