"""How do a few files of an ext4 filesystem change without a copy of all of it? debugfs changes a skeleton.

The skeleton is a sparse file with the superblock, the group descriptors, bitmaps and tables, and the
directories on the way to those files. What debugfs(8) changes in it, block by block, is the result; the
caller brings these blocks to where they belong, all at once.
"""

import os
import stat
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from builder.errors import InputError
from builder.tools import Tools
from builder.volume.ext4read import Entry, Filesystem, Missing
from builder.volume.ext4xattr import attribute_block
from builder.volume.read import Read
from builder.volume.traces import data_extents

BLOCK = 4096
_META_BG, _64BIT = 0x10, 0x80  # features
_INODES_UNUSED, _BLOCKS_UNUSED = 0x1, 0x2  # flags of a group: its bitmap was never written
Blocks = dict[int, bytes]  # by byte offset


@dataclass(frozen=True)
class File:
    """A file of root, or a symbolic link."""

    mode: int = 0o644
    data: bytes = b""
    link: str | None = None


def link_to(target: str) -> File:
    return File(0o777, link=target)


Changes = Mapping[str, File | None]  # by path without a leading slash; None: it is to be gone


def changed_blocks(
    read: Read, changes: Changes, *, secrets: Collection[str] = (), tools: Tools, scratch: Path
) -> Blocks:
    """The blocks of the filesystem behind ``read`` that are others after the changes.

    ``scratch`` is a directory for the skeleton and the files. ``secrets`` are paths whose contents never lie
    there, and whose old contents are overwritten. Raises InputError for a filesystem that was not unmounted
    cleanly or has no room.
    """
    with (scratch / "skeleton").open("w+b") as new, (scratch / "skeleton-before").open("w+b") as old:
        skeleton = Skeleton(read, new, old)
        there = Filesystem(skeleton.read)
        if not there.clean:
            raise InputError("the filesystem was not unmounted cleanly", hint="start it once and stop it")
        if there.block_size != BLOCK:
            raise InputError(f"the filesystem has blocks of {there.block_size} bytes, not {BLOCK}")
        for file in (new, old):
            file.truncate(there.size)
        known = {path: found(there, path) for path in with_parents(changes)}
        given_up = {at for path in secrets for at in data_blocks(there, known.get(path))}
        backups = skeleton.add_tables()
        script = scratch / "script"
        lines = commands(with_placeholders(changes, secrets), known, scratch, private=parents(secrets))
        script.write_text("".join(f"{line}\n" for line in lines))
        new.flush()
        said = tools.run(["debugfs", "-w", "-f", script, new.name]).stderr.decode(errors="replace")
        if wrong := [line for line in said.splitlines() if line and not line.startswith("debugfs")]:
            raise InputError(f"the files cannot be changed: {wrong[0]}")
        changed = {at: bytes(BLOCK) for at in given_up} | dict(skeleton.changes(backups))
    fill_in(read, changed, {path: file for path, file in changes.items() if file and path in secrets})
    check(Filesystem(over(read, changed)), changes)
    return changed


class Skeleton:
    """The parts of a filesystem that were read, in two files: one to change and one to compare with."""

    def __init__(self, read: Read, new: BinaryIO, old: BinaryIO) -> None:
        self._read, self._new, self._old = read, new, old
        self._there: set[int] = set()

    def read(self, offset: int, length: int) -> bytes:
        """Read as the filesystem, and keep the blocks."""
        first, end = offset // BLOCK * BLOCK, -(-(offset + length) // BLOCK) * BLOCK
        data = self._read(first, end - first)
        for at in range(0, len(data), BLOCK):
            if first + at not in self._there:
                self._there.add(first + at)
                for file in (self._new, self._old):
                    os.pwrite(file.fileno(), data[at : at + BLOCK], first + at)
        return data[offset - first :][:length]

    def add_tables(self) -> set[int]:
        """Take in all that says what is free and where inodes are; return the offsets of its backups.

        Backups need not follow: the kernel does not renew them either.
        """
        superblock = self.read(1024, 1024)

        def word(at: int) -> int:
            return int(struct.unpack_from("<I", superblock, at)[0])

        def short(at: int) -> int:
            return int(struct.unpack_from("<H", superblock, at)[0])

        if word(96) & _META_BG:
            raise InputError("the filesystem has its group descriptors all over it (meta_bg)")
        wide = bool(word(96) & _64BIT)
        blocks = word(4) | (word(336) << 32 if wide else 0)
        per_group, inodes, inode_size, size = word(32), word(40), short(88), short(254) if wide else 32
        groups = -(-blocks // per_group)
        descriptors = self.read(BLOCK, -(-groups * size // BLOCK) * BLOCK)
        for n in range(groups):
            group = read_group(descriptors[n * size :][:size], inodes)
            for block in group.bitmaps:
                self.read(block * BLOCK, BLOCK)
            if group.inodes:
                self.read(group.table * BLOCK, group.inodes * inode_size)
        room = 1 + len(descriptors) // BLOCK + short(206)
        first = (n * per_group for n in range(1, groups) if has_backup(n))
        return {(block + k) * BLOCK for block in first for k in range(room)}

    def changes(self, backups: set[int]) -> Iterator[tuple[int, bytes]]:
        """Blocks that are others now, or were written where nothing had been read."""
        new = self._new.fileno()
        for start, end in data_extents(new, 0, os.fstat(new).st_size):
            for at in range(start // BLOCK * BLOCK, end, BLOCK):
                data = os.pread(new, BLOCK, at)
                known = at in self._there
                if at not in backups and not (known and data == os.pread(self._old.fileno(), BLOCK, at)):
                    yield at, data


@dataclass(frozen=True)
class Group:
    """A block group: its bitmaps that were ever written, and its table with so many inodes that were."""

    bitmaps: tuple[int, ...]
    table: int
    inodes: int


def read_group(descriptor: bytes, per_group: int) -> Group:
    """Read a group descriptor (Documentation/filesystems/ext4/group_descr.rst)."""
    low = struct.unpack_from("<III", descriptor)
    high = struct.unpack_from("<III", descriptor, 32) if len(descriptor) >= 64 else (0, 0, 0)
    blocks, inodes, table = (one | other << 32 for one, other in zip(low, high, strict=True))
    flags = struct.unpack_from("<H", descriptor, 18)[0]
    unused = struct.unpack_from("<H", descriptor, 28)[0]
    unused |= struct.unpack_from("<H", descriptor, 50)[0] << 16 if len(descriptor) >= 64 else 0
    if flags & _INODES_UNUSED:
        return Group(() if flags & _BLOCKS_UNUSED else (blocks,), table, 0)
    bitmaps = (inodes,) if flags & _BLOCKS_UNUSED else (blocks, inodes)
    return Group(bitmaps, table, max(per_group - unused, 0))


def has_backup(group: int) -> bool:
    """Whether a group holds copies of superblock and descriptors: 1 and the powers of 3, 5 and 7."""
    for base in (3, 5, 7):
        power = 1
        while power < group:
            power *= base
        if power == group:
            return True
    return False


def with_parents(changes: Changes) -> list[str]:
    """All paths that are concerned, directories first."""
    paths = {str(p) for path in changes for p in [PurePosixPath(path), *PurePosixPath(path).parents]}
    return sorted(paths - {"."})


def found(filesystem: Filesystem, path: str) -> Entry | None:
    try:
        entry = filesystem.find(f"/{path}")
    except Missing:
        return None
    if entry.is_directory:
        list(filesystem.names(entry.inode))  # its blocks are needed
    elif entry.is_file:
        list(filesystem.extents(entry.inode))
    if attributes := attribute_block(filesystem.raw_inode(entry.inode.number)):
        filesystem.block(attributes)
    return entry


def parents(paths: Collection[str]) -> set[str]:
    return {str(PurePosixPath(path).parent) for path in paths}


def data_blocks(filesystem: Filesystem, entry: Entry | None) -> list[int]:
    """Where the contents of a file are, as byte offsets in its filesystem."""
    if entry is None or not entry.is_file:
        return []
    extents = filesystem.extents(entry.inode)
    return [(block + n) * BLOCK for _, count, block in extents if block is not None for n in range(count)]


def with_placeholders(changes: Changes, secrets: Collection[str]) -> dict[str, File | None]:
    """The changes with as many other bytes (and no zeros, which would become a hole) for what is secret."""
    return {
        path: replace(file, data=b"#" * len(file.data)) if file and path in secrets else file
        for path, file in changes.items()
    }


def fill_in(read: Read, changed: Blocks, secrets: Mapping[str, File]) -> None:
    """Put the contents of secret files in place of their placeholders."""
    mixed = Filesystem(over(read, dict(changed)))
    for path, file in secrets.items():
        for n, at in enumerate(data_blocks(mixed, mixed.find(f"/{path}"))):
            changed[at] = file.data[n * BLOCK : (n + 1) * BLOCK].ljust(BLOCK, b"\0")


def commands(
    changes: Changes, known: Mapping[str, Entry | None], scratch: Path, *, private: Collection[str] = ()
) -> Iterator[str]:
    """debugfs's commands. Only what is named here is removed; directories that become empty stay.

    Of directories that are made, those that are ``private`` are for root alone.
    """
    for number, path in enumerate(with_parents(changes)):
        entry, new = known[path], changes.get(path)
        if path not in changes:
            if entry is None:
                yield f"cd {quoted(str(PurePosixPath('/', path).parent))}"
                yield f"mkdir {quoted(PurePosixPath(path).name)}"
                yield f"sif {quoted(f'/{path}')} mode {'040700' if path in private else '040755'}"
            elif not entry.is_directory:
                raise InputError(f"/{path} is no directory")
            continue
        if entry is not None:
            if entry.is_directory:
                raise InputError(f"/{path} is a directory")
            yield f"rm {quoted(f'/{path}')}"
        if new is None:
            continue
        name = quoted(PurePosixPath(path).name)
        yield f"cd {quoted(str(PurePosixPath('/', path).parent))}"
        if new.link is not None:
            yield f"symlink {name} {quoted(new.link)}"
            continue
        source = scratch / f"file-{number}"
        source.write_bytes(new.data)
        yield f"write {quoted(str(source))} {name}"
        yield f"sif {name} mode {stat.S_IFREG | new.mode:#o}".replace("0o", "0")
        yield f"sif {name} uid 0"
        yield f"sif {name} gid 0"


def quoted(word: str) -> str:
    """A word for debugfs's command line (libss): in quotes, and a quote is two."""
    if any(character in word for character in "\n\0") or not word:
        raise InputError(f"{word!r} cannot be written by debugfs")
    return '"' + word.replace('"', '""') + '"'


def over(read: Read, blocks: Mapping[int, bytes]) -> Read:
    """A ``read`` that finds these blocks in place of its own."""

    def mixed(offset: int, length: int) -> bytes:
        first, end = offset // BLOCK * BLOCK, -(-(offset + length) // BLOCK) * BLOCK
        parts = [blocks.get(at) or read(at, BLOCK) for at in range(first, end, BLOCK)]
        return b"".join(parts)[offset - first :][:length]

    return mixed


def check(filesystem: Filesystem, changes: Changes) -> None:
    """Raise InputError unless each file is now as it is to be: debugfs fails silently."""
    for path, wanted in changes.items():
        if read_file(filesystem, path) != wanted:
            raise InputError(f"debugfs did not change /{path} as it should have")


def read_file(filesystem: Filesystem, path: str) -> File | None:
    """A file or link as it is there; None for what is neither."""
    try:
        entry = filesystem.find(f"/{path}")
    except Missing:
        return None
    if entry.is_link:
        return link_to(filesystem.target(entry.inode))
    if entry.is_file:
        return File(entry.inode.mode & 0o7777, filesystem.data(entry))
    return None
