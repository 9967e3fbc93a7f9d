"""Which free extents does a new volume get, and how do the keys of a given-up one vanish from the disk?"""

from collections.abc import Iterable, Sequence

from builder.errors import InputError
from builder.provision.seatdisk import NEW, PREVIOUS, SeatDisk
from builder.ui import size_text
from builder.volume import luks, lvm, lvmcommit
from builder.volume.lvm import Segment

CHUNK = 1 << 20


def place_for(disk: SeatDisk, name: str, extents: int) -> tuple[Segment, list[str]]:
    """Extents in one piece for a new volume of ``name``, and the volumes that are given up for it.

    What an interrupted run left is given up anyhow. The previous one goes only where there is no room else.
    Raises InputError with the numbers where there is no room at all.
    """
    group = disk.metadata.group
    unit = group.extent_size
    if extents * unit <= luks.HEADER_SIZE:
        raise InputError(
            f"a volume of {size_text(extents * unit)} has no room for more than its LUKS2 header, "
            f"which takes {size_text(luks.HEADER_SIZE)}"
        )
    gone = [name + NEW] if name + NEW in disk.names else []
    for dropped in (gone, [*gone, name + PREVIOUS] if name + PREVIOUS in disk.names else gone):
        place = lvmcommit.best_run(group, extents, without=dropped)
        if place is not None:
            return place, dropped
    longest = max((run.count for run in lvmcommit.free_runs(group, without=gone)), default=0)
    raise InputError(
        f"there is no room for a second volume of {name}: it needs {extents * unit >> 20} MiB in one piece, "
        f"and the longest free one has {longest * unit >> 20} MiB",
        hint="leave free space when sizing the volumes: as much as the largest environment has",
    )


def extents_for(size: int) -> int:
    """How many extents hold ``size`` bytes."""
    return -(-size // lvm.EXTENT)


def free_count(disk: SeatDisk, *, without: Sequence[str] = ()) -> int:
    """How many extents are free once the volumes ``without`` are given up."""
    return sum(run.count for run in lvmcommit.free_runs(disk.metadata.group, without=without))


def head_of(disk: SeatDisk, name: str) -> list[Segment]:
    """The extents with a volume's LUKS header: few, in however many pieces the volume lies."""
    missing, found = -(-luks.HEADER_SIZE // disk.metadata.group.extent_size), []
    for segment in disk.volume(name).segments:
        count = min(segment.count, missing)
        found += [Segment(segment.first, count)] if count else []
        missing -= count
    return found


def wipe_free(disk: SeatDisk, segments: Iterable[Segment], *, also: Segment | None = None) -> None:
    """Overwrite the LUKS header at the beginning of given-up extents, as far as they are free now.

    ``also`` is a new volume's place, which counts as free: nothing was written there yet.

    Without the header nobody can open what is left of the volume, whoever knows its passphrase.
    """
    unit = disk.metadata.group.extent_size
    free = {
        extent
        for run in [*lvmcommit.free_runs(disk.metadata.group), *([also] if also else [])]
        for extent in range(run.first, run.first + run.count)
    }
    touched = False
    for segment in segments:
        count = min(segment.count, -(-luks.HEADER_SIZE // unit))
        for extent in range(segment.first, segment.first + count):
            if extent not in free:
                continue
            base = disk.pv.start + disk.metadata.group.offset(extent)
            for at in range(0, unit, CHUNK):
                if disk.medium.read(base + at, CHUNK) != bytes(CHUNK):
                    disk.medium.write(base + at, bytes(CHUNK))
                    touched = True
    if touched:
        disk.medium.sync()
