"""Where on a seat's disk is everything now? Read from the disk, not from the plan: volumes move."""

import secrets
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.errors import BusyError, InputError, TrustError
from builder.provision.journal import Journal, Run
from builder.seat.plan import ID_GROUPS
from builder.tools import Tools
from builder.volume import gpt, luks, lvmcommit
from builder.volume.ext4read import Filesystem, decrypting
from builder.volume.keys import wipe
from builder.volume.lvm import LogicalVolume
from builder.volume.medium import Medium
from builder.volume.read import Read
from builder.volume.target import marked_as

SEAT_PREFIX = "seat-"  # of the name of the partition with the volume group
NEW, PREVIOUS = ".new", ".previous"  # ends of the names of an environment's other volumes
TAG = "seatsmith."


@dataclass
class SeatDisk:
    """A whole seat's disk, open."""

    medium: Medium
    size: int
    seat: str
    table: gpt.Table
    esp: gpt.Partition
    pv: gpt.Partition
    metadata: lvmcommit.Metadata
    journal: Journal

    @property
    def names(self) -> list[str]:
        return [v.name for v in self.metadata.group.volumes]

    @property
    def environments(self) -> list[str]:
        """Names of the volumes that hold an environment in use."""
        return [n for n in self.names if not n.endswith((NEW, PREVIOUS)) and self.header(n) is not None]

    def damaged(self, known: Iterable[str] = ()) -> dict[str, str]:
        """Environments whose LUKS2 header cannot be used, each with what is wrong with it.

        That a volume is one is told by its tags, by what is left of a header, or by who knows (``known``):
        a person may have made volumes of his own.
        """
        found = {}
        for name in self.names:
            read = self.volume_reader(name)
            if name.endswith((NEW, PREVIOUS)) or not (self.tags(name) or luks.traces(read) or name in known):
                continue
            try:
                luks.read_header(read)
            except InputError as e:
                found[name] = e.message
        return found

    def volume(self, name: str) -> LogicalVolume:
        for volume in self.metadata.group.volumes:
            if volume.name == name:
                return volume
        raise InputError(f"the disk has no volume {name}", hint=f"it has: {', '.join(self.names)}")

    def offset(self, name: str) -> int:
        """Byte offset of a volume on the disk."""
        return self.pv.start + self.metadata.group.offset(self.volume(name).segments[0].first)

    def size_of(self, name: str) -> int:
        return self.volume(name).extents * self.metadata.group.extent_size

    def volume_reader(self, name: str) -> Read:
        """A ``read`` that counts from a volume's first byte, also where it lies in several pieces."""
        unit = self.metadata.group.extent_size
        pieces, at = [], 0
        for segment in self.volume(name).segments:
            start = self.pv.start + self.metadata.group.offset(segment.first)
            pieces.append((at, at + segment.count * unit, start))
            at += segment.count * unit

        def read(offset: int, length: int) -> bytes:
            parts = []
            for first, end, start in pieces:
                low, high = max(offset, first), min(offset + length, end)
                if low < high:
                    parts.append(self.medium.read(start + low - first, high - low))
            return b"".join(parts)

        return read

    def header(self, name: str) -> luks.Header | None:
        """The LUKS2 header of a volume; None where there is none, or a damaged one."""
        try:
            return luks.read_header(self.volume_reader(name))
        except InputError:
            return None

    def whole_header(self, name: str) -> luks.Header:
        """The same. Raises InputError that says what is wrong with it."""
        try:
            return luks.read_header(self.volume_reader(name))
        except InputError as e:
            hint = "put a saved one back: seatsmith provision header-restore"
            if "copies" in e.message:
                hint = "start the environment once: cryptsetup then takes the later one for both"
            raise InputError(f"volume {name}: {e.message}", hint=hint) from e

    def tags(self, name: str) -> dict[str, str]:
        """What provisioning noted about a volume: ``image``, ``id``, ``run``, ``uki``."""
        pairs = (
            tag.removeprefix(TAG).split("=", 1) for tag in self.volume(name).tags if tag.startswith(TAG)
        )
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    def forget(self, key: str, names: Iterable[str] | None = None) -> None:
        """Have the next commit take a note from volumes, by default from all environments in use."""
        for name in names or [n for n in self.names if not n.endswith(PREVIOUS)]:
            tags = lvmcommit.tags_of(self.metadata, name)
            staying = [tag for tag in tags if not tag.startswith(f"{TAG}{key}=")]
            if staying != tags:
                lvmcommit.set_tags(self.metadata, name, staying)

    def interrupted(self, verb: str, name: str) -> Run | None:
        """The run of this change of this environment that was interrupted, to be taken up.

        Raises BusyError where another change was: that one must be finished first.
        """
        run = self.journal.unfinished
        if run is None or (run.verb, run.data.get("environment")) == (verb, name):
            return run
        other = run.data.get("environment", "")
        raise BusyError(
            f"a run of `provision {run.command} {other}` on this disk was interrupted",
            hint=f"finish it by running it again, or undo it: seatsmith provision rollback {other}",
        )

    def commit(self) -> None:
        """Make the changed description of the volume group the valid one."""
        self.metadata = lvmcommit.commit(self.medium, self.pv.start, self.metadata)


def open_seat(medium: Medium, size: int) -> SeatDisk:
    """Read a seat's disk. Raises InputError where it is none, or an incomplete one."""
    if unfinished := marked_as(medium.read(0, 512)):
        raise InputError(
            f"{medium.path}: the seat {unfinished} is not completely written",
            hint=f"finish it: seatsmith provision apply {unfinished} --disk {medium.path}",
        )
    try:
        table = gpt.decode(medium.read, size)
    except InputError as e:
        raise InputError(f"{medium.path} holds no seat: {e.message}", hint=e.hint) from e
    esp = next((p for p in table.partitions if p.type == gpt.ESP), None)
    pv = next((p for p in table.partitions if p.name.startswith(SEAT_PREFIX)), None)
    if esp is None or pv is None:
        raise InputError(f"{medium.path} holds no seat (no partition of it is named seat-NAME)")

    def read(offset: int, length: int) -> bytes:
        return medium.read(pv.start + offset, length)

    metadata = lvmcommit.read_metadata(read)
    seat = pv.name.removeprefix(SEAT_PREFIX)
    return SeatDisk(medium, size, seat, table, esp, pv, metadata, Journal(medium, whole=True))


def as_tags(values: Mapping[str, str]) -> list[str]:
    return [f"{TAG}{key}={value}" for key, value in values.items()]


def new_lvm_id() -> str:
    letters = string.ascii_letters + string.digits
    return "-".join("".join(secrets.choice(letters) for _ in range(length)) for length in ID_GROUPS)


@contextmanager
def opened(
    disk: SeatDisk, name: str, passphrase: bytearray, tools: Tools, scratch: Path
) -> Iterator[Filesystem]:
    """The filesystem of an environment, for reading. Raises TrustError for a wrong passphrase."""
    with unlocked(disk, name, passphrase, tools, scratch) as payload:
        yield Filesystem(payload.read)


@dataclass(frozen=True)
class Payload:
    """What is behind a volume's LUKS2 header, in the clear."""

    at: int
    """Its offset in the volume."""
    key: bytearray
    read: Read


@contextmanager
def unlocked(
    disk: SeatDisk, name: str, passphrase: bytearray, tools: Tools, scratch: Path
) -> Iterator[Payload]:
    """A volume's payload; its key is wiped on leaving. Raises TrustError for a wrong passphrase."""
    read, at = disk.volume_reader(name), disk.whole_header(name).payload
    copy = scratch / f"{name}.header"
    copy.write_bytes(read(0, at))
    try:
        key = luks.unlock(tools, copy, passphrase)
    except TrustError as e:
        raise TrustError(f"volume {name}: {e.message}", hint="give the passphrase that it has now") from e
    finally:
        copy.unlink()
    try:
        yield Payload(at, key, decrypting(lambda offset, length: read(at + offset, length), key))
    finally:
        wipe(key)
