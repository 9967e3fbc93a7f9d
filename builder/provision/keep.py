"""Which files outlive the replacement of an environment, and how do they reach the new one?

They are read from the old filesystem through a decrypting ``read``, so that they lie nowhere in the clear
but in the new filesystem's scratch file, and go on as members of the tar that it is made from: with owners,
modes, times and hard links. Of extended attributes a Filler takes file capabilities alone; debugfs sets the
others, ACLs among them, afterwards.
"""

import contextlib
import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from builder.errors import InputError
from builder.tools import Tools
from builder.volume.ext4fill import CAPABILITY
from builder.volume.ext4inode import device_number, extended_attributes, modified
from builder.volume.ext4read import Entry, Filesystem, Missing
from builder.volume.tarsink import padded

FROM_TAR = CAPABILITY  # the one extended attribute that comes with the tar


class Kept:
    """The files below ``paths`` of an old filesystem; what does not exist there is left to the image.

    Raises InputError where that is damaged, and for a path that is a link: what is behind it would go.
    """

    def __init__(self, filesystem: Filesystem, paths: Sequence[str]) -> None:
        self._filesystem = filesystem
        self.roots: dict[str, Entry] = {}
        for path in sorted({p.strip("/") for p in paths}):
            if any(path == r or path.startswith(f"{r}/") for r in self.roots):
                continue
            self.refuse_link(path)
            with contextlib.suppress(Missing):
                self.roots[path] = filesystem.find(path)

    def refuse_link(self, path: str) -> None:
        """Raise InputError where ``path``, or a directory above it, is a link to a directory."""
        for place in (path, *map(str, PurePosixPath(path).parents[:-1])):
            with contextlib.suppress(Missing):
                if not (link := self._filesystem.find(place)).is_link:
                    continue
                target = self._filesystem.target(link.inode)
                there = os.path.normpath(f"/{PurePosixPath(place).parent / target}")
                if self._filesystem.find(there).is_directory:
                    raise InputError(
                        f"/{path} is to be kept, and /{place} is a link to {target}",
                        hint=f"write {there}{path.removeprefix(place)} in `keep:` of the seat file instead",
                    )

    def covers(self, name: str) -> bool:
        """Whether a member of the image's tar makes room for what is kept."""
        return any(name == root or name.startswith(f"{root}/") for root in self.roots)

    def entries(self) -> Iterator[Entry]:
        for root in self.roots.values():
            yield from self._filesystem.walk_from(root)

    @property
    def size(self) -> int:
        """Bytes of all kept files."""
        return sum(entry.inode.size for entry in self.entries() if entry.is_file)

    def add_to(self, out: BinaryIO, folders: set[str]) -> None:
        """Write everything as members of a tar, and directories above it that are not in ``folders``."""
        seen: dict[int, str] = {}
        for root in self.roots.values():
            for parent in reversed(PurePosixPath(root.path).parents[:-1]):
                if str(parent) not in folders:
                    folders.add(str(parent))
                    self._add(out, self._filesystem.find(str(parent)), seen)
            for entry in self._filesystem.walk_from(root):
                self._add(out, entry, seen)

    def _add(self, out: BinaryIO, entry: Entry, seen: dict[int, str]) -> None:
        inode = entry.inode
        raw = self._filesystem.raw_inode(inode.number)
        info = tarfile.TarInfo(f"./{entry.path}")
        info.mode, info.uid, info.gid = stat.S_IMODE(inode.mode), inode.uid, inode.gid
        seconds, nanoseconds = modified(raw)
        info.mtime = seconds
        headers = {"mtime": f"{seconds}.{nanoseconds:09}"} if nanoseconds else {}
        if capability := extended_attributes(raw, self._filesystem.block).get(FROM_TAR):
            headers[f"SCHILY.xattr.{FROM_TAR}"] = capability.decode("utf-8", "surrogateescape")
        info.pax_headers = headers
        content: Iterator[bytes] = iter(())
        if entry.is_directory:
            info.type = tarfile.DIRTYPE
        elif entry.is_link:
            info.type, info.linkname = tarfile.SYMTYPE, self._filesystem.target(inode)
        elif inode.number in seen:
            info.type, info.linkname = tarfile.LNKTYPE, f"./{seen[inode.number]}"
        elif entry.is_file:
            info.size = inode.size
            content = self._filesystem.contents(inode)
        elif stat.S_ISFIFO(inode.mode):
            info.type = tarfile.FIFOTYPE
        elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(inode.mode) else tarfile.BLKTYPE
            info.devmajor, info.devminor = device_number(raw)
        else:
            return  # a socket: made anew by whoever listens on it
        if not entry.is_directory:
            seen.setdefault(inode.number, entry.path)
        out.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))
        for part in content:
            out.write(part)
        out.write(bytes(padded(info.size) - info.size))

    def set_attributes(self, tools: Tools, image: Path, scratch: Path) -> None:
        """Give the files in a new filesystem those extended attributes that did not come with the tar.

        ``scratch`` is a directory for their values while debugfs(8) reads them.
        """
        lines: list[str] = []
        with image.open("rb") as f:
            new = Filesystem(lambda offset, length: os.pread(f.fileno(), length, offset))
            for entry in self.entries():
                raw = self._filesystem.raw_inode(entry.inode.number)
                values = extended_attributes(raw, self._filesystem.block)
                values.pop(FROM_TAR, None)
                if not values:
                    continue
                number = new.find(entry.path).inode.number
                for name, value in values.items():
                    path = scratch / f"attribute-{len(lines)}"
                    path.write_bytes(value)
                    lines.append(f'ea_set -f {path} <{number}> "{name}"')
        if lines:
            script = scratch / "attributes"
            script.write_text("\n".join(lines) + "\n")
            said = tools.run(["debugfs", "-w", "-f", script, image]).stderr.decode(errors="replace")
            if wrong := [line for line in said.splitlines() if line and not line.startswith("debugfs")]:
                raise InputError(f"extended attributes of kept files cannot be set: {wrong[0]}")
