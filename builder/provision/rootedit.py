"""How do files in an encrypted root that nobody has mounted change all at once, with something else?

What changes is not written where it belongs but beside it: each extent of the volume that holds a changed
block is copied, with the change, to a free one. The volume's description then names the copies in place of
the originals. That is part of the commit of LVM's metadata by which an environment is switched to: before it
nothing has changed, after it everything has.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from builder.errors import InputError
from builder.provision.seatdisk import Payload, SeatDisk
from builder.tools import Tools
from builder.ui import NoMeter, size_text
from builder.volume import lvmcommit
from builder.volume.cipher import SECTOR, Sectors
from builder.volume.ext4edit import Changes, changed_blocks, data_blocks
from builder.volume.ext4read import Filesystem, Missing
from builder.volume.lvm import Segment


def edit_root(
    disk: SeatDisk,
    name: str,
    payload: Payload,
    changes: Changes,
    *,
    taken: set[int],
    secrets: Collection[str] = (),
    tools: Tools,
    scratch: Path,
) -> list[Segment]:
    """Write what changes beside it, and return the extents that the volume is to have then.

    ``taken`` are free extents that are spoken for; those that are used are added. ``secrets``: as in
    changed_blocks(). Raises InputError where there is no room, or the filesystem was not unmounted cleanly.
    """
    blocks = changed_blocks(payload.read, changes, secrets=secrets, tools=tools, scratch=scratch)
    unit = disk.metadata.group.extent_size
    extents = extents_of(disk, name)
    concerned = extents_with(disk, payload, blocks)
    places = free_extents(disk, len(concerned), taken, name)
    read, sectors = disk.volume_reader(name), Sectors(payload.key)
    copies: dict[int, bytes] = {}
    for number, place in zip(concerned, places, strict=True):
        data = bytearray(read(number * unit, unit))
        for at, block in blocks.items():
            inside = payload.at + at - number * unit
            if 0 <= inside < unit:
                data[inside : inside + SECTOR] = encrypted(block, at, sectors)
        copies[place] = bytes(data)
        extents[number] = place
    write_verified(disk, copies)
    taken |= set(places)
    return joined(extents)


def put_back(disk: SeatDisk, name: str, extents: list[int]) -> None:
    """Copy what a volume has elsewhere to where it was before; the next commit says so.

    ``extents`` are all of its extents then; those that it does not have now must be free.
    """
    read, unit = disk.volume_reader(name), disk.metadata.group.extent_size
    pairs = zip(extents, extents_of(disk, name), strict=True)
    moved = [n for n, (was, now) in enumerate(pairs) if was != now]
    write_verified(disk, {extents[n]: read(n * unit, unit) for n in moved})
    lvmcommit.set_segments(disk.metadata, name, joined(extents))


def extents_with(disk: SeatDisk, payload: Payload, blocks: Collection[int]) -> list[int]:
    """The extents that hold these blocks of a volume's filesystem, counted within the volume."""
    unit = disk.metadata.group.extent_size
    return sorted({(payload.at + at) // unit for at in blocks})


def extents_of(disk: SeatDisk, name: str) -> list[int]:
    """The extents of a volume, in its order."""
    return [s.first + n for s in disk.volume(name).segments for n in range(s.count)]


def places_of(disk: SeatDisk, name: str, payload: Payload, path: str) -> list[Segment]:
    """The extents with the contents of a file in a volume's filesystem; none where there is no such file."""
    filesystem = Filesystem(payload.read)
    try:
        blocks = data_blocks(filesystem, filesystem.find(f"/{path}"))
    except Missing:
        return []
    extents = extents_of(disk, name)
    return joined([extents[n] for n in extents_with(disk, payload, blocks)])


def encrypted(block: bytes, at: int, sectors: Sectors) -> bytes:
    data = bytearray(block)
    sectors.encrypt(data, len(data), at)
    return bytes(data)


def write_verified(disk: SeatDisk, copies: Mapping[int, bytes]) -> None:
    """Write whole extents to where nothing is, and compare them with what the disk then holds."""
    group = disk.metadata.group
    written = [disk.medium.write(disk.pv.start + group.offset(n), data) for n, data in copies.items()]
    disk.medium.sync()
    disk.medium.read_back(written, meter=NoMeter())


def free_extents(disk: SeatDisk, count: int, taken: set[int], name: str) -> list[int]:
    """Free extents, those in the smallest gaps first: so that the large ones stay whole."""
    group = disk.metadata.group
    runs = sorted(lvmcommit.free_runs(group), key=lambda run: (run.count, run.first))
    free = [n for run in runs for n in range(run.first, run.first + run.count) if n not in taken]
    refuse_without_room(disk, name, count, len(free))
    return free[:count]


def refuse_without_room(disk: SeatDisk, host: str, count: int, free: int) -> None:
    """Raise InputError where fewer extents are free than the change of a host's root takes."""
    unit = disk.metadata.group.extent_size
    if free < count:
        raise InputError(
            f"there is no room to change the files that {host} has for it: that needs "
            f"{size_text(count * unit)}, and {size_text(free * unit)} are free",
            hint="give up a previous environment: seatsmith provision drop NAME; or make a new volume "
            "smaller: --size",
        )


def joined(extents: list[int]) -> list[Segment]:
    """Neighbouring extents as segments, in the volume's order."""
    found: list[Segment] = []
    for extent in extents:
        if found and extent == found[-1].first + found[-1].count:
            found[-1] = Segment(found[-1].first, found[-1].count + 1)
        else:
            found.append(Segment(extent, 1))
    return found
