"""Which files outlive the replacement of an environment, and how do they reach the new one?

They are read from the old filesystem through a decrypting ``read``, so that they lie nowhere in the clear
but in the new filesystem's scratch file, and go on as members of the tar that it is made from: with owners,
modes, times, hard links, extended attributes and flags. Whoever was root in the old environment chose their
names, also those of attributes: nothing of it is ever given to a program.
"""

import contextlib
import stat
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import BinaryIO

from builder.errors import InputError
from builder.seat.model import OF_THE_IMAGE
from builder.seat.tree import Edit
from builder.volume.ext4fill import CARRIED_FLAGS
from builder.volume.ext4inode import device_number, modified
from builder.volume.ext4read import ENCRYPTED, INLINE, Entry, Filesystem, Missing
from builder.volume.ext4xattr import RECORD, Extended, stored_in, to_record
from builder.volume.tarsink import FLAGS, padded

UNREADABLE = {
    ENCRYPTED: "is encrypted by fscrypt, whose key only the environment itself has",
    INLINE: "is stored in its inode (the ext4 feature inline_data), which is not read here",
}


class Kept:
    """The files below ``paths`` of an old filesystem; what does not exist there is left to the image.

    ``edits`` change small files of these. Raises InputError where that is damaged, and for a path that is a
    link: what is behind it would go.
    """

    def __init__(
        self, filesystem: Filesystem, paths: Sequence[str], edits: Mapping[str, Edit] | None = None
    ) -> None:
        self._filesystem, self._edits = filesystem, edits or {}
        self.roots: dict[str, Entry] = {}
        self.missing: list[str] = []
        """The paths that are not there."""
        wanted = sorted({p.strip("/") for p in paths})
        for path in wanted:
            if any(path == r or path.startswith(f"{r}/") for r in self.roots):
                continue
            self.refuse_link(path, wanted)
            try:
                self.roots[path] = filesystem.find(path)
            except Missing:
                self.missing.append(f"/{path}")

    def refuse_link(self, path: str, wanted: Collection[str]) -> None:
        """Raise InputError where ``path``, or a directory above it, is a link to what would go.

        That is what is neither the image's nor below another of the paths ``wanted``. Behind a link may be
        others, and links on the way.
        """
        for place in (path, *map(str, PurePosixPath(path).parents[:-1])):
            with contextlib.suppress(Missing):
                if not (link := self._filesystem.find(place)).is_link:
                    continue
                there = self._filesystem.resolve(place)
                itself = place == path
                if itself and there.path.split("/")[0] in OF_THE_IMAGE:
                    continue
                if itself and any(f"{there.path}/".startswith(f"{w}/") for w in wanted):
                    continue
                target = self._filesystem.target(link.inode)
                real = f"/{there.path}{path.removeprefix(place)}"
                raise InputError(
                    f"/{path} is to be kept, and /{place} is a link to {target}",
                    hint=f"write {real} in `keep:` of the seat file {'too' if itself else 'instead'}",
                )

    def covers(self, name: str) -> bool:
        """Whether a member of the image's tar makes room for what is kept."""
        return any(name == root or name.startswith(f"{root}/") for root in self.roots)

    def root_of(self, name: str) -> str:
        """The path in `keep:` by which ``name``, or something below it, is kept."""
        return next(
            f"/{r}" for r in self.roots if f"{name}/".startswith(f"{r}/") or r.startswith(f"{name}/")
        )

    @property
    def above(self) -> set[str]:
        """The directories that lead to what is kept."""
        return {str(p) for root in self.roots for p in PurePosixPath(root).parents[:-1]}

    def is_folder(self, name: str) -> bool | None:
        """Whether a directory is there that is kept or leads to what is; None where nothing is."""
        if name in self.above:
            return True
        try:
            return self._filesystem.find(name).is_directory if self.covers(name) else None
        except Missing:
            return None

    def entries(self) -> Iterator[Entry]:
        for root in self.roots.values():
            yield from self._filesystem.walk_from(root)

    def check(self) -> int:
        """Bytes of all kept files. Raises InputError for what cannot be carried over, with its path."""
        size = 0
        for path in filter(self.covers, self._edits):
            self.edited(path)
        for entry in self.entries():
            self.xattrs(entry)
            for flag, what in UNREADABLE.items():
                if entry.inode.flags & flag:
                    raise InputError(
                        f"{'/' + entry.path!r} is to be kept, and {what}",
                        hint="take it out of `keep:` of the seat file, and copy it by hand",
                    )
            size += entry.inode.size if entry.is_file else 0
        return size

    def xattrs(self, entry: Entry) -> list[Extended]:
        """Its attributes, ACLs among them. Raises InputError, with its path, where they cannot be read."""
        try:
            return stored_in(self._filesystem.raw_inode(entry.inode.number), self._filesystem.block)
        except InputError as e:
            raise InputError(f"{'/' + entry.path!r} is to be kept: {e.message}", hint=e.hint) from e

    def edited(self, path: str) -> bytes:
        """A file as its edit makes it; where there is none, of nothing. Raises InputError as edits do."""
        try:
            data = self._filesystem.data(self._filesystem.find(path))
        except Missing:
            data = b""
        return self._edits[path](data)

    def add_to(self, out: BinaryIO, folders: set[str], without: Collection[str] = ()) -> None:
        """Write everything as members of a tar, and directories above it that are not in ``folders``.

        Those are added to ``folders``, and all that are kept. Files ``without`` are left out: something else
        comes in their place.
        """
        seen: dict[int, str] = {}
        for root in self.roots.values():
            for parent in reversed(PurePosixPath(root.path).parents[:-1]):
                if str(parent) not in folders:
                    folders.add(str(parent))
                    self._add(out, self._filesystem.find(str(parent)), seen)
            for entry in self._filesystem.walk_from(root):
                if entry.is_directory:
                    folders.add(entry.path)  # keeps its mode and owner where the overlay has it, too
                if entry.path not in without:
                    self._add(out, entry, seen)

    def _add(self, out: BinaryIO, entry: Entry, seen: dict[int, str]) -> None:
        inode = entry.inode
        raw = self._filesystem.raw_inode(inode.number)
        info = tarfile.TarInfo(f"./{entry.path}")
        info.mode, info.uid, info.gid = stat.S_IMODE(inode.mode), inode.uid, inode.gid
        seconds, nanoseconds = modified(raw)
        info.mtime = seconds
        headers = {"mtime": f"{seconds}.{nanoseconds:09}"} if nanoseconds else {}
        if extended := self.xattrs(entry):
            headers[RECORD.decode()] = to_record(extended)
        if inode.flags & CARRIED_FLAGS and (entry.is_file or entry.is_directory):
            headers[FLAGS.decode()] = str(inode.flags & CARRIED_FLAGS)
        info.pax_headers = headers
        content: Iterator[bytes] = iter(())
        edited = entry.path in self._edits
        if entry.is_directory:
            info.type = tarfile.DIRTYPE
        elif edited:  # not another file's name any more, nor that one its
            data = self.edited(entry.path)
            info.size, content = len(data), iter([data])
        elif inode.number in seen:
            info.type, info.linkname = tarfile.LNKTYPE, f"./{seen[inode.number]}"
        elif entry.is_link:
            info.type, info.linkname = tarfile.SYMTYPE, self._filesystem.target(inode)
        elif entry.is_file:
            info.size = inode.size
            content = self._filesystem.content(entry)
        elif stat.S_ISFIFO(inode.mode):
            info.type = tarfile.FIFOTYPE
        elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(inode.mode) else tarfile.BLKTYPE
            info.devmajor, info.devminor = device_number(raw)
        else:
            return  # a socket: made anew by whoever listens on it
        if not entry.is_directory and not edited:
            seen.setdefault(inode.number, entry.path)
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        for part in content:
            out.write(part)
        out.write(bytes(padded(info.size) - info.size))
