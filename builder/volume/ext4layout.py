"""Which blocks and inodes of a new ext4 filesystem are free, and how are its tables kept true?

mkfs.ext4 makes it empty. What is taken here is brought into its bitmaps, group descriptors and superblocks
at the end, in one go. The layout is that of the kernel's Documentation/filesystems/ext4/.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from builder.errors import InputError
from builder.volume.crc32c import ONES, crc32c, crc32c_each
from builder.volume.ext4edit import BLOCK, has_backup

INODE_SIZE = 256
_NEEDED = {92: 0x20, 96: 0x2C0, 100: 0x400}  # dir_index; extents, 64bit, flex_bg; metadata_csum
_CHECKSUM_SEED = 0x2000  # in 96: the seed does not follow from the UUID
_DESCRIPTOR = 64
_INODES_UNUSED, _BLOCKS_UNUSED = 0x1, 0x2  # flags of a group: its bitmap was never written
_BITS = BLOCK * 8


class NoRoom(Exception):
    """There is no free block, or no free inode, left."""


@dataclass
class Group:
    """A block group: its descriptor, and while they change its bitmaps and the used part of its table."""

    number: int
    raw: bytearray
    blocks: bytearray | None = None
    inodes: bytearray | None = None
    table: bytearray = field(default_factory=bytearray)
    changed: set[int] = field(default_factory=set)
    """Which inodes of the table lack their checksums."""
    directories: int = 0
    """How many were added."""

    def block(self, at: int) -> int:
        """The number of a block, of which the descriptor has two halves of 32 bits."""
        return int.from_bytes(self.raw[at : at + 4] + self.raw[at + 32 : at + 36], "little")

    def count(self, at: int) -> int:
        """A number of which the descriptor has two halves of 16 bits."""
        return int.from_bytes(self.raw[at : at + 2] + self.raw[at + 32 : at + 34], "little")

    def put(self, at: int, value: int) -> None:
        data = value.to_bytes(4, "little")
        self.raw[at : at + 2], self.raw[at + 32 : at + 34] = data[:2], data[2:]

    def unused(self, flag: int) -> bool:
        return bool(self.raw[18] & flag)


_BLOCK_BITMAP, _INODE_BITMAP, _TABLE = 0, 4, 8
_FREE_BLOCKS, _FREE_INODES, _DIRECTORIES = 12, 14, 16
_BLOCKS_SUM, _INODES_SUM, _UNUSED = 24, 26, 28


class Layout:
    """An empty filesystem in the open file ``fd``, into which something is put."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.superblock = bytearray(os.pread(fd, 1024, 1024))
        lacking = any(self._word(at) & bits != bits for at, bits in _NEEDED.items())
        if lacking or self._short(254) != _DESCRIPTOR or self._short(88) != INODE_SIZE:
            raise InputError("mkfs.ext4 made a filesystem with other features than expected")
        self.blocks = self._word(4) | self._word(336) << 32
        self.per_group, self.inodes_per_group = self._word(32), self._word(40)
        seeded = self._word(96) & _CHECKSUM_SEED
        self.seed = self._word(624) if seeded else crc32c(bytes(self.superblock[104:120]))
        count = -(-self.blocks // self.per_group)
        raw = os.pread(fd, count * _DESCRIPTOR, BLOCK)
        self.groups = [Group(n, bytearray(raw[n * _DESCRIPTOR :][:_DESCRIPTOR])) for n in range(count)]
        self._runs = self._free_runs()
        self._run = (0, 0)
        self._inodes = self._free_inodes()

    def _word(self, at: int) -> int:
        return int.from_bytes(self.superblock[at : at + 4], "little")

    def _short(self, at: int) -> int:
        return int.from_bytes(self.superblock[at : at + 2], "little")

    def take_blocks(self, count: int) -> tuple[int, int]:
        """Up to ``count`` blocks in a row: the first of them, and how many. Raises NoRoom."""
        start, end = self._run
        if start == end:
            start, end = next(self._runs, (0, 0))
            if not end:
                raise NoRoom
        got = min(count, end - start)
        self._run = start + got, end
        group = self.groups[start // self.per_group]
        first = start % self.per_group
        set_bits(self._block_bitmap(group), first, first + got)
        group.put(_FREE_BLOCKS, group.count(_FREE_BLOCKS) - got)
        group.raw[18] &= ~_BLOCKS_UNUSED
        return start, got

    def take_inode(self, *, directory: bool) -> int:
        """The number of a free inode. Raises NoRoom."""
        number = next(self._inodes, 0)
        if not number:
            raise NoRoom
        group, index = self._group_of(number)
        set_bits(self._inode_bitmap(group), index, index + 1)
        group.directories += directory
        return number

    def inode(self, number: int) -> bytes:
        """An inode that mkfs.ext4 made."""
        group, index = self._group_of(number)
        return os.pread(self._fd, INODE_SIZE, group.block(_TABLE) * BLOCK + index * INODE_SIZE)

    def put_inode(self, number: int, raw: bytes) -> None:
        """Store an inode with zeros for its checksum, which comes at the end."""
        group, index = self._group_of(number)
        end = (index + 1) * INODE_SIZE
        if not group.table and not group.unused(_INODES_UNUSED):
            used = self.inodes_per_group - group.count(_UNUSED)
            group.table += os.pread(self._fd, used * INODE_SIZE, group.block(_TABLE) * BLOCK)
        group.table += bytes(max(end - len(group.table), 0))
        group.table[end - INODE_SIZE : end] = raw
        group.changed.add(index)

    def add_link(self, number: int) -> None:
        """Count another name of an inode that was stored. Raises InputError where it has too many."""
        group, index = self._group_of(number)
        at = index * INODE_SIZE + 26
        links = int.from_bytes(group.table[at : at + 2], "little") + 1
        if links > 65000:  # EXT4_LINK_MAX
            raise InputError("a file has more than 65000 names")
        group.table[at : at + 2] = links.to_bytes(2, "little")

    def _group_of(self, number: int) -> tuple[Group, int]:
        group, index = divmod(number - 1, self.inodes_per_group)
        return self.groups[group], index

    def _block_bitmap(self, group: Group) -> bytearray:
        """As it is, or where it was never written as it is to be taken: backups alone are in use."""
        if group.blocks is None:
            if not group.unused(_BLOCKS_UNUSED):
                group.blocks = bytearray(os.pread(self._fd, BLOCK, group.block(_BLOCK_BITMAP) * BLOCK))
                return group.blocks
            group.blocks = bytearray(BLOCK)
            if has_backup(group.number):
                set_bits(group.blocks, 0, 1 + self._descriptor_blocks + self._short(206))
            set_bits(group.blocks, self.blocks - group.number * self.per_group, _BITS)
        return group.blocks

    @property
    def _descriptor_blocks(self) -> int:
        return -(-len(self.groups) * _DESCRIPTOR // BLOCK)

    def _inode_bitmap(self, group: Group) -> bytearray:
        if group.inodes is None:
            if not group.unused(_INODES_UNUSED):
                group.inodes = bytearray(os.pread(self._fd, BLOCK, group.block(_INODE_BITMAP) * BLOCK))
                return group.inodes
            group.inodes = bytearray(BLOCK)
            set_bits(group.inodes, self.inodes_per_group, _BITS)
        return group.inodes

    def _free_runs(self) -> Iterator[tuple[int, int]]:
        """Free blocks in the order of the disk; each run lies in one group."""
        for group in self.groups:
            start = group.number * self.per_group
            for first, end in clear_bits(bytes(self._block_bitmap(group))):
                yield start + first, start + end

    def _free_inodes(self) -> Iterator[int]:
        for group in self.groups:
            start = group.number * self.inodes_per_group + 1
            for first, end in clear_bits(bytes(self._inode_bitmap(group))):
                yield from range(start + first, start + end)

    def seeds_of(self, inodes: Sequence[tuple[int, bytes]]) -> list[int]:
        """What the checksums of inodes, and of their blocks, begin with: number and generation."""
        pieces = [number.to_bytes(4, "little") + raw[100:104] for number, raw in inodes]
        return crc32c_each(pieces, [self.seed] * len(pieces))

    def finish(self) -> None:
        """Bring everything that was taken into the tables."""
        for group in self.groups:
            if group.table:
                self._write_table(group)
        self._write_bitmaps()
        sums = crc32c_each(
            [g.number.to_bytes(4, "little") + g.raw[:30] + bytes(2) + g.raw[32:] for g in self.groups],
            [self.seed] * len(self.groups),
        )
        for group, value in zip(self.groups, sums, strict=True):
            group.raw[30:32] = (value & 0xFFFF).to_bytes(2, "little")
        free = sum(g.count(_FREE_BLOCKS) for g in self.groups)
        self.superblock[12:16] = (free & ONES).to_bytes(4, "little")
        self.superblock[344:348] = (free >> 32).to_bytes(4, "little")
        self.superblock[16:20] = sum(g.count(_FREE_INODES) for g in self.groups).to_bytes(4, "little")
        descriptors = b"".join(g.raw for g in self.groups)
        for group in self.groups:
            if group.number == 0 or has_backup(group.number):
                start = group.number * self.per_group * BLOCK
                self.superblock[90:92] = group.number.to_bytes(2, "little")
                self.superblock[1020:] = crc32c(bytes(self.superblock[:1020])).to_bytes(4, "little")
                os.pwrite(self._fd, self.superblock, start + (0 if group.number else 1024))
                os.pwrite(self._fd, descriptors, start + BLOCK)

    def _write_table(self, group: Group) -> None:
        """Give the inodes of a group their checksums, and its descriptor what follows from the table."""
        table, first = group.table, group.number * self.inodes_per_group + 1
        count = len(table) // INODE_SIZE
        changed = sorted(group.changed)
        raws = [bytes(table[n * INODE_SIZE : (n + 1) * INODE_SIZE]) for n in changed]
        numbered = list(zip((first + n for n in changed), raws, strict=True))
        for n, value in zip(changed, crc32c_each(raws, self.seeds_of(numbered)), strict=True):
            at, data = n * INODE_SIZE, value.to_bytes(4, "little")
            table[at + 124 : at + 126], table[at + 130 : at + 132] = data[:2], data[2:]
        os.pwrite(self._fd, table, group.block(_TABLE) * BLOCK)
        group.put(_UNUSED, self.inodes_per_group - max(count, self.inodes_per_group - group.count(_UNUSED)))

    def _write_bitmaps(self) -> None:
        size = self.inodes_per_group // 8
        for group in self.groups:
            if group.blocks is not None and not group.unused(_BLOCKS_UNUSED):
                os.pwrite(self._fd, group.blocks, group.block(_BLOCK_BITMAP) * BLOCK)
                group.put(_BLOCKS_SUM, crc32c_each([bytes(group.blocks)], [self.seed])[0])
            if group.table:
                bitmap = self._inode_bitmap(group)
                group.raw[18] &= ~_INODES_UNUSED
                free = self.inodes_per_group - int.from_bytes(bitmap[:size], "little").bit_count()
                group.put(_FREE_INODES, free)
                group.put(_DIRECTORIES, group.count(_DIRECTORIES) + group.directories)
                os.pwrite(self._fd, bitmap, group.block(_INODE_BITMAP) * BLOCK)
                group.put(_INODES_SUM, crc32c(bytes(bitmap[:size]), self.seed))


def set_bits(bitmap: bytearray, first: int, end: int) -> None:
    """Set the bits from ``first`` up to ``end``, as far as the bitmap has them."""
    end = min(end, len(bitmap) * 8)
    if first >= end:
        return
    low, high = first // 8, -(-end // 8)
    bits = ((1 << end - first) - 1) << first - low * 8
    value = int.from_bytes(bitmap[low:high], "little") | bits
    bitmap[low:high] = value.to_bytes(high - low, "little")


def clear_bits(bitmap: bytes) -> Iterator[tuple[int, int]]:
    """Runs of bits that are not set, as first and end."""
    digits = format(int.from_bytes(bitmap, "little"), f"0{len(bitmap) * 8}b")[::-1]
    for run in re.finditer("0+", digits):
        yield run.span()
