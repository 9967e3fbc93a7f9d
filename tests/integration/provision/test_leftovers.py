"""Is what a disk held forgotten also where discarding does not make it read as zeros?"""

import struct

from builder.volume.gpt import Partition
from builder.volume.medium import Medium
from tests.support.provisioned import Bench


class Forgetful(Medium):
    """Takes a discard, and reads as before: nothing else is promised."""

    def discard(self, offset: int, size: int) -> bool:
        return True


def raid_superblock(start: int, size: int) -> tuple[int, bytes]:
    """Where the superblock of a RAID lies at the end of what it is on, and its bytes (md(4), 1.0)."""
    sector = (size // 512 - 16) & ~7
    block = bytearray(256)
    struct.pack_into("<II", block, 0, 0xA92B4EFC, 1)
    block[16:32] = b"a set of disks  "
    struct.pack_into("<Q", block, 144, sector)
    total = sum(struct.unpack("<64I", block))
    struct.pack_into("<I", block, 216, (total & 0xFFFFFFFF) + (total >> 32))
    return start + sector * 512, bytes(block)


def test_a_raid_that_ended_where_our_partitions_and_volumes_do_is_forgotten(bench: Bench) -> None:
    with bench.opened() as disk:
        parts: list[Partition] = [disk.esp, disk.pv]
        places = [(p.start, p.size, kind) for p, kind in zip(parts, ("vfat", "LVM2_member"), strict=True)]
        places += [(disk.offset(n), disk.size_of(n), "crypto_LUKS") for n in disk.environments]

    def found(start: int, size: int) -> str:
        argv = ["blkid", "--probe", "--output", "value", "--match-tag", "TYPE"]
        argv += ["--offset", str(start), "--size", str(size)]
        return bench.tools.run([*argv, bench.disk], check=False).text.strip()

    with bench.disk.open("r+b") as f:
        f.truncate(0)
        f.truncate(bench.size)
        for start, size, _ in places:
            at, data = raid_superblock(start, size)
            f.seek(at)
            f.write(data)
    assert {found(start, size) for start, size, _ in places} == {"linux_raid_member"}
    with bench.medium(Forgetful) as medium:
        bench.apply(medium)
    assert [found(start, size) for start, size, _ in places] == [kind for _, _, kind in places]
