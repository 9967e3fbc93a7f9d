"""What was done to a disk, and what was not finished? A journal on the disk, outside of all partitions.

It is a ring of blocks in the gap between the partition table and the first partition. Each block is one
record: a sequence number, JSON, and a SHA-256 over both. A record that was torn by a power cut does not
check and was never there; the block it overwrites is the oldest one.
"""

import hashlib
import json
import struct
import time
from dataclasses import dataclass
from typing import Any, Protocol

AREA_AT = 64 << 10  # behind the partition table's entries, also with sectors of 4096 bytes
BLOCK = 4096
BLOCKS = 224  # up to 960 KiB; partitions begin at 1 MiB

_MAGIC = b"SEATSMITH JOURN1"
_HEAD = struct.Struct("<16sQI32s")  # magic, sequence number, length of the JSON, digest


class Medium(Protocol):
    """What a journal needs of builder.volume.medium.Medium."""

    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> object: ...
    def sync(self) -> None: ...


@dataclass(frozen=True)
class Record:
    """One step of a run. ``step`` is ``begin``, ``done`` or ``undone``, or a step's name in between."""

    number: int
    run: str
    verb: str
    step: str
    time: int
    data: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """The records of one run, in their order."""

    records: tuple[Record, ...]
    whole: bool = False
    """Whether the disk lacks the mark of incompleteness, which an ``apply`` takes away last."""

    @property
    def id(self) -> str:
        return self.records[0].run

    @property
    def verb(self) -> str:
        return self.records[0].verb

    @property
    def command(self) -> str:
        """What of `seatsmith provision` goes on with it: an environment is added as one is replaced."""
        return "add" if self.data.get("added") else self.verb

    @property
    def data(self) -> dict[str, Any]:
        """What its steps recorded, later ones over earlier ones."""
        return {key: value for record in self.records for key, value in record.data.items()}

    @property
    def steps(self) -> list[str]:
        return [record.step for record in self.records]

    @property
    def finished(self) -> bool:
        """Also an ``apply`` without its last record: power may go after its last write and before that."""
        return self.records[-1].step in ("done", "undone") or (self.whole and self.verb == "apply")


class Journal:
    """The journal of one disk. Reading takes what is whole; appending syncs.

    ``whole`` says that the disk has no mark of incompleteness.
    """

    def __init__(self, medium: Medium, *, whole: bool = False) -> None:
        self._medium, self._whole = medium, whole
        self._records = read_records(medium.read(AREA_AT, BLOCK * BLOCKS))

    @property
    def records(self) -> list[Record]:
        return self._records

    @property
    def runs(self) -> list[Run]:
        """The runs that are recorded, the oldest first; an old one may have lost its beginning."""
        grouped: dict[str, list[Record]] = {}
        for record in self._records:
            grouped.setdefault(record.run, []).append(record)
        return [Run(tuple(records), self._whole) for records in grouped.values()]

    @property
    def unfinished(self) -> Run | None:
        """The last run, where it was interrupted."""
        runs = self.runs
        return runs[-1] if runs and not runs[-1].finished else None

    def append(self, run: str, verb: str, step: str, **data: Any) -> None:
        """Record a step that is complete, data included: all earlier writes are synced first."""
        number = self._records[-1].number + 1 if self._records else 0
        record = Record(number, run, verb, step, int(time.time()), data)
        self._medium.sync()
        self._medium.write(AREA_AT + number % BLOCKS * BLOCK, encode(record))
        self._medium.sync()
        self._records = [*self._records[-BLOCKS + 1 :], record]


def encode(record: Record) -> bytes:
    """Raises ValueError for more than a block holds."""
    said = {"run": record.run, "verb": record.verb, "step": record.step, "time": record.time}
    text = json.dumps(said | {"data": record.data}, sort_keys=True).encode()
    if len(text) > BLOCK - _HEAD.size:
        raise ValueError(f"a journal record of {len(text)} bytes is too long")
    digest = hashlib.sha256(struct.pack("<Q", record.number) + text).digest()
    return (_HEAD.pack(_MAGIC, record.number, len(text), digest) + text).ljust(BLOCK, b"\0")


def decode(block: bytes) -> Record | None:
    """The record in a block; None where there is none or it is damaged."""
    if len(block) < BLOCK or block[:16] != _MAGIC:
        return None
    _, number, length, digest = _HEAD.unpack_from(block)
    text = block[_HEAD.size : _HEAD.size + length]
    if len(text) != length or hashlib.sha256(struct.pack("<Q", number) + text).digest() != digest:
        return None
    said = json.loads(text)
    return Record(number, said["run"], said["verb"], said["step"], said["time"], said["data"])


def read_records(area: bytes) -> list[Record]:
    """The whole records of a journal's area by number, back to the first that is missing."""
    found = {}
    for at in range(0, len(area), BLOCK):
        record = decode(area[at : at + BLOCK])
        if record is not None and record.number % BLOCKS == at // BLOCK:
            found[record.number] = record
    if not found:
        return []
    number = max(found)
    records = []
    while number in found:
        records.append(found[number])
        number -= 1
    return records[::-1]
