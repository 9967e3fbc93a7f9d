"""What is in an ext4 filesystem? Reads names, attributes and contents through any ``read(offset, length)``.

It reads what mkfs.ext4 makes today: extents, 64-bit block numbers, linear and hashed directories. Neither
mounting nor a copy in the clear is needed: an encrypted volume is looked into through a decrypting ``read``.
The layout is that of the kernel's Documentation/filesystems/ext4/.
"""

import hashlib
import stat
import struct
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from builder.errors import InputError
from builder.volume.cipher import SECTOR, Sectors
from builder.volume.read import Read

ROOT_INODE = 2
_MAGIC, _EXTENTS_MAGIC = 0xEF53, 0xF30A
_FLAG_EXTENTS = 0x80000
ENCRYPTED, INLINE = 0x800, 0x10000000  # flags of an inode
_INCOMPAT_64BIT, _INCOMPAT_RECOVER = 0x80, 0x4
_CHUNK = 1 << 16
_CACHED = 64  # chunks
_LARGEST = 16 << 20  # bytes of a file that is read as a whole: a tree of others may hold one of terabytes
_LINKS = 40  # that the kernel follows in a path (path_resolution(7))
_PART = 1 << 20  # of a file's content at a time


@dataclass(frozen=True)
class Inode:
    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    flags: int
    block: bytes
    """Extents, or the target of a short symbolic link."""


@dataclass(frozen=True)
class Entry:
    """A file, directory, link or device with its path below the root ("" for the root itself)."""

    path: str
    inode: Inode

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.inode.mode)

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.inode.mode)

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.inode.mode)


def decrypting(read: Read, key: bytearray) -> Read:
    """A ``read`` of the payload in the clear over a ``read`` of it as it lies on the disk."""
    sectors = Sectors(key)
    cache: OrderedDict[int, bytes] = OrderedDict()

    def decrypted(offset: int, length: int) -> bytearray:
        """Whole sectors."""
        data = bytearray(read(offset, length))
        del data[len(data) // SECTOR * SECTOR :]
        sectors.decrypt(data, len(data), offset)
        return data

    def chunk(number: int) -> bytes:
        if number not in cache:
            cache[number] = bytes(decrypted(number * _CHUNK, _CHUNK))
            if len(cache) > _CACHED:
                cache.popitem(last=False)
        cache.move_to_end(number)
        return cache[number]

    def clear(offset: int, length: int) -> bytes:
        if length > _CHUNK:  # read once, as a rule
            start = offset // SECTOR * SECTOR
            end = -(-(offset + length) // SECTOR) * SECTOR
            return bytes(memoryview(decrypted(start, end - start))[offset - start :][:length])
        first, last = offset // _CHUNK, (offset + length - 1) // _CHUNK
        whole = b"".join(chunk(n) for n in range(first, last + 1))
        return whole[offset - first * _CHUNK :][:length]

    return clear


class Missing(InputError):
    """A path that a filesystem does not have: no damage, and no reason to stop for who can do without."""


class Filesystem:
    """An ext4 filesystem. Raises InputError where it is none or is damaged."""

    def __init__(self, read: Read) -> None:
        self._read = read
        superblock = read(1024, 1024)
        if len(superblock) < 1024 or struct.unpack_from("<H", superblock, 56)[0] != _MAGIC:
            raise InputError("there is no ext4 filesystem (wrong magic number)")
        low, log_size = (struct.unpack_from("<I", superblock, at)[0] for at in (4, 24))
        self.block_size = 1024 << min(log_size, 6)
        incompat = struct.unpack_from("<I", superblock, 96)[0]
        high = struct.unpack_from("<I", superblock, 336)[0] if incompat & _INCOMPAT_64BIT else 0
        self.size = (low | high << 32) * self.block_size
        self.uuid = str(UUID(bytes=superblock[104:120]))
        self.label = superblock[120:136].rstrip(b"\0").decode(errors="replace")
        self.clean = (
            bool(struct.unpack_from("<H", superblock, 58)[0] & 1) and not incompat & _INCOMPAT_RECOVER
        )
        self.state = hashlib.sha256(superblock).hexdigest()
        """Changes whenever the filesystem is mounted for writing."""
        self.inodes = struct.unpack_from("<I", superblock, 0)[0]
        self._per_group = struct.unpack_from("<I", superblock, 40)[0]
        self._inode_size = struct.unpack_from("<H", superblock, 88)[0]
        self._descriptor = struct.unpack_from("<H", superblock, 254)[0] if incompat & _INCOMPAT_64BIT else 32
        if not self._per_group or not 128 <= self._inode_size <= 4096 or not 32 <= self._descriptor <= 1024:
            raise InputError("the ext4 superblock is damaged")

    def inode(self, number: int) -> Inode:
        raw = self.raw_inode(number)
        mode, uid, size, _, _, mtime = struct.unpack_from("<HHIIII", raw)
        gid, flags = struct.unpack_from("<H", raw, 24)[0], struct.unpack_from("<I", raw, 32)[0]
        size |= struct.unpack_from("<I", raw, 108)[0] << 32
        uid_high, gid_high = struct.unpack_from("<HH", raw, 120)
        return Inode(
            number, mode, uid | uid_high << 16, gid | gid_high << 16, size, mtime, flags, raw[40:100]
        )

    def raw_inode(self, number: int) -> bytes:
        """The whole inode as it lies in its table."""
        group, index = divmod(number - 1, self._per_group)
        table_at = self.block_size if self.block_size > 1024 else 2048
        descriptor = self._read(table_at + group * self._descriptor, self._descriptor)
        if not 0 < number <= self.inodes or len(descriptor) < self._descriptor:
            raise InputError(f"there is no inode {number}")
        table = struct.unpack_from("<I", descriptor, 8)[0]
        if self._descriptor >= 64:
            table |= struct.unpack_from("<I", descriptor, 40)[0] << 32
        raw = self._read(table * self.block_size + index * self._inode_size, self._inode_size)
        if len(raw) < self._inode_size:
            raise InputError(f"inode {number} lies outside of the filesystem")
        return raw

    def block(self, number: int) -> bytes:
        return self._read(number * self.block_size, self.block_size)

    def walk(self) -> Iterator[Entry]:
        """Every name, the root first, a directory before what is in it, sorted within each."""
        yield from self.walk_from(Entry("", self.inode(ROOT_INODE)))

    def walk_from(self, entry: Entry) -> Iterator[Entry]:
        """The same for a part: the entry itself and all below it, however deep.

        Raises InputError for a directory with two names, as only a damaged filesystem has: it may be a loop.
        """
        todo, seen = [(entry.path, entry.inode.number)], set()
        while todo:
            path, number = todo.pop()
            found = Entry(path, self.inode(number))
            yield found
            if not found.is_directory:
                continue
            if number in seen:
                raise InputError(f"directory {f'/{path}'!r} has two names; the filesystem is damaged")
            seen.add(number)
            below = sorted(self.listed(found), reverse=True)
            todo += [(f"{path}/{name}" if path else name, child) for name, child in below]

    def listed(self, folder: Entry) -> list[tuple[str, int]]:
        """``names`` of a directory; its path is in the InputError for a damaged one, or for no directory."""
        if not folder.is_directory:
            raise InputError(f"{'/' + folder.path!r} is no directory")
        try:
            return list(self.names(folder.inode))
        except InputError as e:
            raise InputError(f"{'/' + folder.path!r} cannot be read: {e.message}", hint=e.hint) from e

    def names(self, directory: Inode) -> Iterator[tuple[str, int]]:
        """Names and inode numbers in a directory; index blocks of hashed ones look like empty entries."""
        for block in self.contents(directory):
            at = 0
            while at + 8 <= len(block):
                number, length, name_length, _ = struct.unpack_from("<IHBB", block, at)
                if length < 8:
                    raise InputError(f"directory (inode {directory.number}) is damaged")
                name = block[at + 8 : at + 8 + name_length]
                if number and name not in (b".", b".."):
                    yield name.decode(errors="surrogateescape"), number
                at += length

    def find(self, path: str) -> Entry:
        """The entry of a path, links not followed.

        Raises Missing where there is none, and InputError where a directory on the way is damaged.
        """
        found = Entry("", self.inode(ROOT_INODE))
        for step in (s for s in path.split("/") if s):
            number = dict(self.listed(found)).get(step) if found.is_directory else None
            if number is None:
                raise Missing(f"there is no {path}")
            found = Entry(f"{found.path}/{step}".removeprefix("/"), self.inode(number))
        return found

    def resolve(self, path: str) -> Entry:
        """The entry that a path leads to, links followed, each from the root of this filesystem.

        Raises Missing where it leads nowhere.
        """
        found, todo, links = Entry("", self.inode(ROOT_INODE)), path.split("/"), 0
        while todo:
            step = todo.pop(0)
            if step in ("", "."):
                continue
            if step == "..":
                found = self.find(found.path.rpartition("/")[0])
                continue
            below = self.find(f"{found.path}/{step}")
            if not below.is_link:
                found = below
                continue
            links += 1
            target = self.target(below.inode)
            if links > _LINKS:
                raise Missing(f"there is no {path}: too many links")
            todo = [*target.split("/"), *todo]
            found = Entry("", self.inode(ROOT_INODE)) if target.startswith("/") else found
        return found

    def target(self, link: Inode) -> str:
        if link.size < 60 and not link.flags & _FLAG_EXTENTS:
            return link.block[: link.size].decode(errors="surrogateescape")
        return self._data(link).decode(errors="surrogateescape")

    def data(self, entry: Entry) -> bytes:
        """The content of a small file.

        Raises InputError, with the path, for one that is large, encrypted by fscrypt, damaged, or no file.
        """
        try:
            if entry.is_file:
                return self._data(entry.inode)
        except InputError as e:
            raise InputError(f"{'/' + entry.path!r} cannot be read: {e.message}", hint=e.hint) from e
        kind = "a directory" if entry.is_directory else "a link" if entry.is_link else "a device or the like"
        raise InputError(f"{'/' + entry.path!r} cannot be read: it is {kind}, not a file")

    def _data(self, inode: Inode) -> bytes:
        if inode.size > _LARGEST or inode.flags & ENCRYPTED:
            what = "encrypted by fscrypt" if inode.flags & ENCRYPTED else f"larger than {_LARGEST >> 20} MiB"
            raise InputError(f"it is {what}")
        return b"".join(self.contents(inode))

    def digest(self, inode: Inode) -> str:
        digest = hashlib.sha256()
        for part in self.contents(inode):
            digest.update(part)
        return digest.hexdigest()

    def content(self, entry: Entry) -> Iterator[bytes]:
        """``contents`` of a file, with its path in the InputError."""
        try:
            yield from self.contents(entry.inode)
        except InputError as e:
            raise InputError(f"{'/' + entry.path!r} cannot be read: {e.message}", hint=e.hint) from e

    def contents(self, inode: Inode) -> Iterator[bytes]:
        """A file's bytes, a block or more at a time; holes are zeros."""
        if inode.flags & INLINE or (inode.size and not inode.flags & _FLAG_EXTENTS):
            raise InputError(f"inode {inode.number} is stored in a way that is not read here")
        position = 0
        for logical, count, physical in sorted(self._extents(inode.block, 0)):
            yield from zeros(min(logical * self.block_size, inode.size) - position)
            position = max(position, logical * self.block_size)
            end = min((logical + count) * self.block_size, inode.size)
            if physical is None:
                yield from zeros(end - position)
                position = end
            while position < end:
                at = (physical or 0) * self.block_size + position - logical * self.block_size
                part = self._read(at, min(_PART, end - position))
                if not part:
                    raise InputError(f"inode {inode.number} lies outside of the filesystem")
                yield part
                position += len(part)
        yield from zeros(inode.size - position)

    def extents(self, inode: Inode) -> Iterator[tuple[int, int, int | None]]:
        """First block in the file, number of blocks, first block on the disk (None: not written)."""
        if inode.flags & _FLAG_EXTENTS:
            yield from self._extents(inode.block, 0)

    def _extents(self, node: bytes, level: int) -> Iterator[tuple[int, int, int | None]]:
        magic, entries, _, depth = struct.unpack_from("<HHHH", node)
        if magic != _EXTENTS_MAGIC or level > 5 or 12 + entries * 12 > len(node):
            raise InputError("the ext4 filesystem is damaged (extents)")
        for n in range(entries):
            if depth:
                _, low, high = struct.unpack_from("<IIH", node, 12 + n * 12)
                block = self._read((low | high << 32) * self.block_size, self.block_size)
                yield from self._extents(block, level + 1)
                continue
            logical, length, high, low = struct.unpack_from("<IHHI", node, 12 + n * 12)
            unwritten = length > 0x8000
            yield logical, length - 0x8000 if unwritten else length, None if unwritten else low | high << 32


def zeros(size: int) -> Iterator[bytes]:
    while size > 0:
        part = min(size, _CHUNK)
        yield bytes(part)
        size -= part
