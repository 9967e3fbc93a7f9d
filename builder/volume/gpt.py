"""How does a GUID partition table look in bytes? Writes and reads one (UEFI specification, chapter 5)."""

import struct
import zlib
from dataclasses import dataclass
from uuid import UUID

from builder.errors import InputError
from builder.volume.read import Read

ESP = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX_LVM = UUID("e6d6d379-f507-44c2-a23c-238f2a3df928")

ENTRIES = 128  # the least a table must have room for
ENTRY_SIZE = 128
NAME_UNITS = 36  # UTF-16 code units of a partition's name
ALIGNMENT = 1 << 20

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_SIGNATURE = b"EFI PART"
_LARGEST = 1 << 50  # sectors
_REVISION = 0x10000

Write = tuple[int, bytes]  # offset on the disk, data


@dataclass(frozen=True)
class Partition:
    """One entry; ``start`` and ``size`` in bytes from the start of the disk."""

    name: str
    type: UUID
    id: UUID
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Table:
    """A partition table of a disk of ``disk_size`` bytes with logical sectors of ``sector`` bytes."""

    disk_id: UUID
    disk_size: int
    partitions: tuple[Partition, ...]
    sector: int = 512


def usable(disk_size: int) -> tuple[int, int]:
    """First and last-plus-one byte that partitions may take, both aligned to 1 MiB."""
    return ALIGNMENT, (disk_size - ALIGNMENT) // ALIGNMENT * ALIGNMENT


def encode(table: Table) -> list[Write]:
    """The writes that make the table, in the order in which they are to be done.

    The backup comes first and the protective MBR, one sector, last: before that last write no program takes
    the disk for partitioned.
    """
    sector = table.sector
    last = table.disk_size // sector - 1
    entries = b"".join(_entry(p, sector) for p in table.partitions).ljust(ENTRIES * ENTRY_SIZE, b"\0")
    span = -(-len(entries) // sector)  # sectors the entries take
    backup_entries = last - span

    def header(own: int, other: int, at: int) -> bytes:
        fields = [_SIGNATURE, _REVISION, _HEADER.size, 0, 0, own, other, 2 + span, backup_entries - 1]
        fields += [table.disk_id.bytes_le, at, ENTRIES, ENTRY_SIZE, zlib.crc32(entries)]
        fields[3] = zlib.crc32(_HEADER.pack(*fields))
        return _HEADER.pack(*fields).ljust(sector, b"\0")

    return [
        (backup_entries * sector, entries.ljust(span * sector, b"\0") + header(last, 1, backup_entries)),
        (2 * sector, entries.ljust(span * sector, b"\0")),
        (sector, header(1, last, 2)),
        (0, _protective_mbr(last).ljust(sector, b"\0")),
    ]


def decode(read: Read, disk_size: int) -> Table:
    """Read the table of a disk through ``read(offset, length)``; both copies must be whole and agree.

    Raises InputError saying what is wrong with which copy.
    """
    sector = next((s for s in (512, 4096) if read(s, 8) == _SIGNATURE), None)
    if sector is None:
        raise InputError("there is no GUID partition table (no 'EFI PART' in the second sector)")
    primary = _decode_copy(read, sector, sector, "primary")
    backup_at = primary[1]
    if backup_at + sector > disk_size:
        raise InputError(
            f"the partition table is of a disk of {backup_at + sector} bytes; this one has {disk_size}",
            hint="the image is truncated, or was copied to a smaller disk",
        )
    backup = _decode_copy(read, backup_at, sector, "backup")
    if (primary[0], primary[2]) != (backup[0], backup[2]):
        raise InputError("the two copies of the partition table differ")
    if read(0, 512)[510:512] != b"\x55\xaa":
        raise InputError("the protective MBR is missing in front of the partition table")
    for partition in primary[2]:
        if partition.size <= 0 or partition.end > disk_size:
            raise InputError(f"partition {partition.name} does not lie on the disk")
    return Table(primary[0], disk_size, primary[2], sector)


def _decode_copy(read: Read, at: int, sector: int, which: str) -> tuple[UUID, int, tuple[Partition, ...]]:
    """Disk id, byte offset of the other header, and the partitions of one copy."""
    raw = read(at, sector)
    try:
        fields = list(_HEADER.unpack_from(raw))
    except struct.error:
        raise InputError(f"the {which} partition table is cut off") from None
    size, crc, own, other, disk_id, entries_at, count, entry_size, entries_crc = (
        fields[i] for i in (2, 3, 5, 6, 9, 10, 11, 12, 13)
    )
    if fields[0] != _SIGNATURE or not _HEADER.size <= size <= sector:
        raise InputError(f"the {which} partition table has no header at byte {at}")
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:size]) != crc or own * sector != at:
        raise InputError(f"the {which} partition table's header is damaged (checksum)")
    if not (0 < count <= 4096 and entry_size >= _ENTRY.size and entry_size % 8 == 0 and entry_size <= 4096):
        raise InputError(f"the {which} partition table claims {count} entries of {entry_size} bytes")
    if entries_at > _LARGEST:
        raise InputError(f"the {which} partition table's entries lie beyond every disk")
    entries = read(entries_at * sector, count * entry_size)
    if len(entries) != count * entry_size or zlib.crc32(entries) != entries_crc:
        raise InputError(f"the {which} partition table's entries are damaged (checksum)")
    found = []
    for n in range(count):
        kind, own_id, first, last, _, name = _ENTRY.unpack_from(entries, n * entry_size)
        if kind != bytes(16):
            text = name.decode("utf-16-le", errors="replace").split("\0")[0]
            start, length = first * sector, (last - first + 1) * sector
            found.append(Partition(text, UUID(bytes_le=kind), UUID(bytes_le=own_id), start, length))
    return UUID(bytes_le=disk_id), other * sector, tuple(found)


def _entry(partition: Partition, sector: int) -> bytes:
    name = partition.name.encode("utf-16-le")
    if len(name) > NAME_UNITS * 2:
        raise ValueError(f"partition name longer than {NAME_UNITS} characters: {partition.name}")
    if partition.start % sector or partition.size % sector or partition.size <= 0:
        raise ValueError(f"partition {partition.name} is not made of whole sectors")
    first, last = partition.start // sector, partition.end // sector - 1
    return _ENTRY.pack(partition.type.bytes_le, partition.id.bytes_le, first, last, 0, name)


def _protective_mbr(last: int) -> bytes:
    """One entry of type 0xEE over the whole disk, as far as 32 bits reach."""
    entry = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"
