"""How do files get into a new ext4 filesystem quickly? All blocks in a row, all tables at the end.

mkfs.ext4 puts files in one block at a time, and reads and writes their inodes for each: two system calls
and a checksum for every 4096 bytes. Here a file's blocks are taken and written by the megabyte, and all
else once. As with mkfs.ext4, blocks of zeros are left out of files, and directories have no index.
"""

import os
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from builder.errors import InputError
from builder.volume.crc32c import crc32c, crc32c_each
from builder.volume.ext4edit import BLOCK
from builder.volume.ext4layout import INODE_SIZE, Layout
from builder.volume.ext4xattr import Extended, in_block, in_inode
from builder.volume.xts import write_all

ROOT = 2
TOGETHER = 1 << 20  # bytes of small files that are written by one call
DIRECT = 256 << 10  # bytes that are written from where they are
_INODE = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHHHHIIIIIII")
_EXTENTS, _SHORTEST_BLOCK_LINK = 0x80000, 60
CARRIED_FLAGS = 0xF8  # chattr(1): sync, immutable, append only, no dump, no access times
_IN_INODE, _IN_BLOCK = 4, (BLOCK - 12) // 12  # extents
_LONGEST_EXTENT = 0x8000  # blocks
_TAIL = struct.Struct("<IHBBI")  # struct ext4_dir_entry_tail
_ROOM = BLOCK - _TAIL.size  # of a directory's block
_KINDS = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFLNK: 7,
}
_SHORT_BLOCKS = (64, 128, 256, 1024)  # bytes
_ZEROS = bytes(BLOCK)

Extent = list[int]  # first block in the file, first block of the disk, number of blocks


@dataclass(frozen=True, slots=True)
class Attributes:
    """What an inode says beside its content.

    ``mode`` is with the kind of file; of ``flags`` only CARRIED_FLAGS are taken.
    """

    mode: int
    uid: int = 0
    gid: int = 0
    seconds: int = 0
    nanoseconds: int = 0
    device: tuple[int, int] = (0, 0)
    extended: tuple[Extended, ...] = ()
    flags: int = 0


@dataclass(slots=True)
class Folder:
    """A directory while names are added to it; ``extents`` are blocks that it has already."""

    number: int
    parent: int
    attributes: Attributes
    names: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    folders: dict[bytes, "Folder"] = field(default_factory=dict)
    extents: list[Extent] = field(default_factory=list)


class Filler:
    """Puts files into the empty filesystem in the open file ``fd``, one after the other."""

    def __init__(self, fd: int, *, epoch: int) -> None:
        self._fd, self._epoch = fd, epoch
        self.layout = Layout(fd)
        self._buffer = memoryview(bytearray(TOGETHER))
        self._gathered = 0  # bytes of it
        self._at = 0  # where its first byte belongs
        self._extents: list[Extent] = []
        self._whole = 0  # blocks of the file so far
        self._rest = b""  # of its last block, as long as that is not whole
        self.root = self._existing(ROOT)
        for number, name in existing_names(self._pread(self.root.extents)):  # lost+found
            self.root.folders[name] = self._existing(number)
            self.root.names[name] = number, _KINDS[stat.S_IFDIR]

    def _existing(self, number: int) -> Folder:
        """The root, or a directory in it, as mkfs.ext4 made it."""
        raw = self.layout.inode(number)
        mode, _, _, _, _, mtime = struct.unpack_from("<HHIIII", raw)
        count = struct.unpack_from("<H", raw, 42)[0]
        extents = []
        for n in range(count):
            logical, length, high, low = struct.unpack_from("<IHHI", raw, 52 + n * 12)
            extents.append([logical, low | high << 32, length])
        return Folder(number, ROOT, Attributes(mode, seconds=mtime), extents=extents)

    def _pread(self, extents: Sequence[Extent]) -> bytes:
        return b"".join(os.pread(self._fd, count * BLOCK, start * BLOCK) for _, start, count in extents)

    def folder(self, path: bytes) -> Folder:
        """The directory of a path; those on the way that nobody has named belong to root."""
        found = self.root
        for step in path.split(b"/") if path else ():
            below = found.folders.get(step)
            if below is None:
                below = self._new_folder(found, step, Attributes(stat.S_IFDIR | 0o755, seconds=self._epoch))
            found = below
        return found

    def _new_folder(self, parent: Folder, name: bytes, attributes: Attributes) -> Folder:
        number = self.layout.take_inode(directory=True)
        self._name(parent, name, number, _KINDS[stat.S_IFDIR])
        made = parent.folders[name] = Folder(number, parent.number, attributes)
        return made

    def _name(self, parent: Folder, name: bytes, number: int, kind: int) -> None:
        if name in parent.names or not 0 < len(name) < 256 or name in (b".", b"..") or b"\0" in name:
            raise InputError(f"the tree has a name twice, or one that cannot be: {os.fsdecode(name)!r}")
        parent.names[name] = number, kind

    def add_folder(self, path: bytes, attributes: Attributes) -> None:
        """Add a directory, or give one that is there these attributes."""
        head, _, name = path.rpartition(b"/")
        parent = self.folder(head)
        there = parent.folders.get(name) if path else self.root
        if there is None:
            self._new_folder(parent, name, attributes)
        else:
            there.attributes = attributes

    def add_link(self, path: bytes, target: bytes) -> None:
        """Add another name of a file."""
        head, _, name = target.rpartition(b"/")
        known = self.folder(head).names.get(name)
        if known is None or known[1] == _KINDS[stat.S_IFDIR]:
            raise InputError(f"the tree has a link to {os.fsdecode(target)}, which is not in it")
        self.layout.add_link(known[0])
        head, _, name = path.rpartition(b"/")
        self._name(self.folder(head), name, *known)

    def add_symlink(self, path: bytes, target: bytes, attributes: Attributes) -> None:
        if len(target) < _SHORTEST_BLOCK_LINK:
            self._add(path, attributes, target.ljust(60, b"\0"), len(target))
            return
        if len(target) >= BLOCK:
            raise InputError(f"{os.fsdecode(path)}: the link's target is too long")
        self.write(target)
        self.end_file(path, attributes)

    def add_special(self, path: bytes, attributes: Attributes) -> None:
        """Add a device or a FIFO (linux/kdev_t.h: old_encode_dev, new_encode_dev)."""
        major, minor = attributes.device
        numbers = (major << 8 | minor, 0)
        if major > 255 or minor > 255:
            numbers = (0, minor & 0xFF | major << 8 | (minor & ~0xFF) << 12)
        block = struct.pack("<II", *numbers) if stat.S_IFMT(attributes.mode) != stat.S_IFIFO else b""
        self._add(path, attributes, block.ljust(60, b"\0"), 0)

    def write(self, data: bytes | memoryview) -> None:
        """Add to the content of the file that is to come: of any length, best whole blocks."""
        if self._rest:
            missing = BLOCK - len(self._rest)
            self._rest += data[:missing]
            data = data[missing:]
            if len(self._rest) < BLOCK:
                return
            rest, self._rest = self._rest, b""
            self._put(rest)
        whole = len(data) // BLOCK * BLOCK
        if whole < len(data):
            self._rest = bytes(data[whole:])
        if whole:
            self._put(data[:whole])

    def _put(self, data: bytes | memoryview) -> None:
        """Take blocks for whole blocks of data, but for those that are zeros."""
        start = None
        for at in range(0, len(data), BLOCK):
            if data[at] or bytes(data[at : at + BLOCK]) != _ZEROS:
                start = at if start is None else start
            elif start is not None:
                self._put_dense(data[start:at], self._whole + start // BLOCK)
                start = None
        if start is not None:
            self._put_dense(data[start:] if start else data, self._whole + start // BLOCK)
        self._whole += len(data) // BLOCK

    def _put_dense(self, data: bytes | memoryview, logical: int) -> None:
        done, count = 0, len(data) // BLOCK
        while done < count:
            start, got = self.layout.take_blocks(count - done)
            part = data if got == count else data[done * BLOCK : (done + got) * BLOCK]
            end = self._gathered + len(part)
            if start * BLOCK != self._at + self._gathered or end > TOGETHER:
                self.flush()
                self._at, end = start * BLOCK, len(part)
            if len(part) >= DIRECT:
                self.flush()
                write_all(self._fd, part, start * BLOCK)
                self._at, end = start * BLOCK + len(part), 0
            else:
                self._buffer[self._gathered : end] = part
            self._gathered = end
            extend(self._extents, logical + done, start, got)
            done += got

    def flush(self) -> None:
        """Write what has gathered."""
        write_all(self._fd, self._buffer[: self._gathered], self._at)
        self._at, self._gathered = self._at + self._gathered, 0

    def end_file(self, path: bytes, attributes: Attributes) -> None:
        """Give the content that was written a name."""
        size = self._whole * BLOCK + len(self._rest)
        if self._rest:
            rest, self._rest = self._rest.ljust(BLOCK, b"\0"), b""
            self._put(rest)
        extents, self._extents, self._whole = self._extents, [], 0
        head, _, name = path.rpartition(b"/")
        number = self.layout.take_inode(directory=False)
        self._name(self.folder(head), name, number, _KINDS[stat.S_IFMT(attributes.mode)])
        self._store(number, attributes, extents, size, links=1)

    def _add(self, path: bytes, attributes: Attributes, block: bytes, size: int) -> None:
        head, _, name = path.rpartition(b"/")
        number = self.layout.take_inode(directory=False)
        self._name(self.folder(head), name, number, _KINDS[stat.S_IFMT(attributes.mode)])
        self.layout.put_inode(number, self._inode(attributes, size=size, links=1, block=block))

    def _store(
        self, number: int, attributes: Attributes, extents: list[Extent], size: int, *, links: int
    ) -> None:
        """Store an inode with content; where it has more extents than fit, they get blocks of their own."""
        blocks = sum(count for _, _, count in extents)
        entries, depth = [leaf(extent) for extent in extents], 0
        while len(entries) > _IN_INODE:
            seed = crc32c(number.to_bytes(4, "little") + bytes(4), self.layout.seed)
            above = []
            for at in range(0, len(entries), _IN_BLOCK):
                part = entries[at : at + _IN_BLOCK]
                node = tree_node(part, _IN_BLOCK, depth).ljust(BLOCK - 4, b"\0")
                start, _ = self.layout.take_blocks(1)
                os.pwrite(self._fd, node + crc32c(node, seed).to_bytes(4, "little"), start * BLOCK)
                above.append(part[0][:4] + struct.pack("<IHH", start & 0xFFFFFFFF, start >> 32, 0))
                blocks += 1
            entries, depth = above, depth + 1
        block = tree_node(entries, _IN_INODE, depth).ljust(60, b"\0")
        raw = self._inode(attributes, size=size, links=links, block=block, blocks=blocks, flags=_EXTENTS)
        self.layout.put_inode(number, raw)

    def _inode(
        self, a: Attributes, *, size: int, links: int, block: bytes, blocks: int = 0, flags: int = 0
    ) -> bytes:
        """An inode without its checksum; blocks are counted in units of 512 bytes."""
        area, rest = in_inode(a.extended, INODE_SIZE - _INODE.size)
        attributes = self._attribute_block(rest) if rest else 0
        blocks += bool(rest)
        flags |= a.flags & CARRIED_FLAGS
        low, extra = a.seconds & 0xFFFFFFFF, a.nanoseconds << 2
        extra |= (a.seconds - (low - (low >> 31 << 32))) >> 32 & 3
        units = blocks * (BLOCK // 512)
        raw = _INODE.pack(
            *(a.mode, a.uid & 0xFFFF, size & 0xFFFFFFFF, low, low, low, 0, a.gid & 0xFFFF, links),
            *(units & 0xFFFFFFFF, flags, 0, block, 0, attributes & 0xFFFFFFFF),
            *(size >> 32, 0, units >> 32, attributes >> 32),
            *(a.uid >> 16, a.gid >> 16, 0, 0, 32, 0, extra, extra, extra, self._epoch & 0xFFFFFFFF, 0, 0, 0),
        )
        return raw + area

    def _attribute_block(self, extended: Sequence[Extended]) -> int:
        number, _ = self.layout.take_blocks(1)
        os.pwrite(self._fd, in_block(extended, number, self.layout.seed), number * BLOCK)
        return number

    def finish(self) -> None:
        """Write the directories and all tables."""
        todo, folders = [self.root], []
        while todo:
            folder = todo.pop()
            folders.append(folder)
            todo += reversed(folder.folders.values())
        blocks = [directory_blocks(folder) for folder in folders]
        seeds = self.layout.seeds_of([(f.number, bytes(INODE_SIZE)) for f in folders])
        starts = [seed for seed, each in zip(seeds, blocks, strict=True) for _ in each]
        sums = iter(block_sums([block for each in blocks for block in each], starts))
        for folder, each in zip(folders, blocks, strict=True):
            data = b"".join(
                b.ljust(_ROOM, b"\0") + _TAIL.pack(0, _TAIL.size, 0, 0xDE, next(sums)) for b in each
            )
            there = sum(count for _, _, count in folder.extents)
            extents, at = [e[:] for e in folder.extents], 0
            for _, start, count in folder.extents:
                os.pwrite(self._fd, data[at : at + count * BLOCK], start * BLOCK)
                at += count * BLOCK
            self._extents = extents
            if data[at:]:
                self._put_dense(data[at:], there)
            self._extents = []
            links = 2 + len(folder.folders)
            self._store(
                folder.number, folder.attributes, extents, len(data), links=links if links <= 65000 else 1
            )
        self.flush()
        self.layout.finish()


def extend(extents: list[Extent], logical: int, start: int, count: int) -> None:
    """Add blocks to a file's extents."""
    if extents:
        last = extents[-1]
        room = _LONGEST_EXTENT - last[2]
        if (last[0] + last[2], last[1] + last[2]) == (logical, start) and room:
            more = min(count, room)
            last[2] += more
            logical, start, count = logical + more, start + more, count - more
    while count:
        part = min(count, _LONGEST_EXTENT)
        extents.append([logical, start, part])
        logical, start, count = logical + part, start + part, count - part


def leaf(extent: Extent) -> bytes:
    logical, start, count = extent
    return struct.pack("<IHHI", logical, count, start >> 32, start & 0xFFFFFFFF)


def tree_node(entries: Sequence[bytes], room: int, depth: int) -> bytes:
    """A node of an extent tree (struct ext4_extent_header)."""
    return struct.pack("<HHHHI", 0xF30A, len(entries), room, depth, 0) + b"".join(entries)


def existing_names(data: bytes) -> list[tuple[int, bytes]]:
    """Inode and name of what mkfs.ext4 put into the root."""
    found, at = [], 0
    while at < len(data):
        number, length, size, _ = struct.unpack_from("<IHBB", data, at)
        name = data[at + 8 : at + 8 + size]
        if number and name not in (b".", b".."):
            found.append((number, name))
        at += length
    return found


def directory_blocks(folder: Folder) -> list[bytes]:
    """A directory's blocks, up to where zeros follow; as many at least as it has already."""
    found: list[bytes] = []
    parts: list[bytes] = []
    used = last = 0  # bytes in the block, and the length of its last entry

    def close() -> None:
        nonlocal parts, used, last
        if parts:
            length = last + _ROOM - used
            head = parts[-1]
            parts[-1] = head[:4] + struct.pack("<H", length) + head[6:]
        else:
            parts = [struct.pack("<IHBB", 0, _ROOM, 0, 0)]
        found.append(b"".join(parts))
        parts, used, last = [], 0, 0

    kind = _KINDS[stat.S_IFDIR]
    dots = {b".": (folder.number, kind), b"..": (folder.parent, kind)}
    for name, (number, sort) in (dots | folder.names).items():
        length = 8 + -(-len(name) // 4) * 4
        if used + length > _ROOM:
            close()
        parts.append(struct.pack("<IHBB", number, length, len(name), sort) + name.ljust(length - 8, b"\0"))
        used, last = used + length, length
    close()
    while len(found) < sum(count for _, _, count in folder.extents):
        close()
    return found


def block_sums(blocks: Sequence[bytes], starts: Sequence[int]) -> list[int]:
    """Checksums of directories' blocks; most are short, and what follows in them is zeros."""
    found = [0] * len(blocks)
    ends = (*_SHORT_BLOCKS, _ROOM)
    for shortest, longest in pairwise((-1, *ends)):
        chosen = [n for n, block in enumerate(blocks) if shortest < len(block) <= longest]
        pieces = [blocks[n].ljust(longest, b"\0") for n in chosen]
        sums = crc32c_each(pieces, [starts[n] for n in chosen], zeros=_ROOM - longest)
        for n, value in zip(chosen, sums, strict=True):
            found[n] = value
    return found
