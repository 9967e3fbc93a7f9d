"""Where on a disk do programs look for what it holds? At both ends of it, and of each part."""

from collections.abc import Iterator

from builder.seat.plan import Plan
from builder.volume.xts import Range

EDGE = 1 << 20  # bytes: superblocks of RAID and ZFS lie in the last 512 KiB of what they are on


def edges(plan: Plan, size: int, sector: int) -> Iterator[Range]:
    """What must not say any more what the disk held, but for its first sector, which says what it is to be.

    Discarding is not enough: what was discarded may read as before. An old superblock at the end of a
    partition or volume goes before what we write at its beginning, and so it would not be found.
    """
    yield sector, EDGE
    yield size - EDGE, size
    pv, esp = plan.pv, plan.esp
    yield pv.start, pv.start + EDGE
    for end in (esp.end, pv.end, *(v.offset + v.size for v in plan.volumes)):
        yield end - EDGE, end
