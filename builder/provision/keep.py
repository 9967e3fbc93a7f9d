"""Which files outlive the replacement of an environment, and how do they reach the new one?

They are read from the old filesystem through a decrypting ``read``, so that they lie nowhere in the clear
but in the new filesystem's scratch file, and go on as members of the tar that it is made from: with owners,
modes, times and hard links. Of extended attributes mkfs.ext4 takes file capabilities alone; debugfs sets the
others, ACLs among them, afterwards.
"""

import io
import os
import stat
import struct
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from builder.errors import InputError
from builder.tools import Tools
from builder.volume.ext4read import Entry, Filesystem

FROM_TAR = "security.capability"

_EA_MAGIC = 0xEA020000
_EA_ENTRY = struct.Struct("<BBHIII")  # name length, prefix, value offset, value inode, value size, hash
_PREFIXES = {1: "user.", 4: "trusted.", 6: "security.", 7: "system."}
_ACLS = {2: "system.posix_acl_access", 3: "system.posix_acl_default"}
_ACL_WITH_ID = (0x02, 0x08)  # ACL_USER, ACL_GROUP


class Kept:
    """The files below ``paths`` of an old filesystem; what does not exist there is left to the image."""

    def __init__(self, filesystem: Filesystem, paths: Sequence[str]) -> None:
        self._filesystem = filesystem
        self.roots: dict[str, Entry] = {}
        for path in sorted({p.strip("/") for p in paths}):
            if any(path == r or path.startswith(f"{r}/") for r in self.roots):
                continue
            try:
                self.roots[path] = filesystem.find(path)
            except InputError:
                continue

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

    def add_to(self, tar: tarfile.TarFile, folders: set[str]) -> None:
        """Add everything; directories above it that are not in ``folders`` come from the old filesystem."""
        seen: dict[int, str] = {}
        for root in self.roots.values():
            for parent in reversed(PurePosixPath(root.path).parents[:-1]):
                if str(parent) not in folders:
                    folders.add(str(parent))
                    self._add(tar, self._filesystem.find(str(parent)), seen)
            for entry in self._filesystem.walk_from(root):
                self._add(tar, entry, seen)

    def _add(self, tar: tarfile.TarFile, entry: Entry, seen: dict[int, str]) -> None:
        inode = entry.inode
        raw = self._filesystem.raw_inode(inode.number)
        info = tarfile.TarInfo(f"./{entry.path}")
        info.mode, info.uid, info.gid = stat.S_IMODE(inode.mode), inode.uid, inode.gid
        seconds, nanoseconds = modified(raw)
        info.mtime = seconds
        headers = {"mtime": f"{seconds}.{nanoseconds:09}"} if nanoseconds else {}
        if capability := self.attributes(raw).get(FROM_TAR):
            headers[f"SCHILY.xattr.{FROM_TAR}"] = capability.decode("utf-8", "surrogateescape")
        info.pax_headers = headers
        content: io.RawIOBase | None = None
        if entry.is_directory:
            info.type = tarfile.DIRTYPE
        elif entry.is_link:
            info.type, info.linkname = tarfile.SYMTYPE, self._filesystem.target(inode)
        elif inode.number in seen:
            info.type, info.linkname = tarfile.LNKTYPE, f"./{seen[inode.number]}"
        elif entry.is_file:
            info.size = inode.size
            content = Content(self._filesystem.contents(inode))
        elif stat.S_ISFIFO(inode.mode):
            info.type = tarfile.FIFOTYPE
        elif stat.S_ISCHR(inode.mode) or stat.S_ISBLK(inode.mode):
            info.type = tarfile.CHRTYPE if stat.S_ISCHR(inode.mode) else tarfile.BLKTYPE
            info.devmajor, info.devminor = device_number(raw)
        else:
            return  # a socket: made anew by whoever listens on it
        if not entry.is_directory:
            seen.setdefault(inode.number, entry.path)
        tar.addfile(info, content)

    def set_attributes(self, tools: Tools, image: Path, scratch: Path) -> None:
        """Give the files in a new filesystem those extended attributes that did not come with the tar.

        ``scratch`` is a directory for their values while debugfs(8) reads them.
        """
        lines: list[str] = []
        with image.open("rb") as f:
            new = Filesystem(lambda offset, length: os.pread(f.fileno(), length, offset))
            for entry in self.entries():
                values = self.attributes(self._filesystem.raw_inode(entry.inode.number))
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

    def attributes(self, raw: bytes) -> dict[str, bytes]:
        """Extended attributes of an inode, those in it and those in a block of its own."""
        found: dict[str, bytes] = {}
        extra = struct.unpack_from("<H", raw, 128)[0] if len(raw) > 130 else 0
        start = 128 + extra
        if extra and start + 4 <= len(raw) and struct.unpack_from("<I", raw, start)[0] == _EA_MAGIC:
            found |= parse_attributes(raw[start + 4 :], 0)
        number = struct.unpack_from("<I", raw, 104)[0] | struct.unpack_from("<H", raw, 118)[0] << 32
        if number:
            block = self._filesystem.block(number)
            if struct.unpack_from("<I", block)[0] != _EA_MAGIC:
                raise InputError("the ext4 filesystem is damaged (extended attributes)")
            found |= parse_attributes(block, 32)
        return found


class Content(io.RawIOBase):
    """A file object over the pieces of a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int = -1, /) -> bytes:
        parts = []
        while size > 0:
            if not self._rest:
                self._rest = next(self._pieces, b"")
            if not self._rest:
                break
            parts.append(self._rest[:size])
            size -= len(parts[-1])
            self._rest = self._rest[len(parts[-1]) :]
        return b"".join(parts)


def parse_attributes(area: bytes, at: int) -> dict[str, bytes]:
    """Entries from byte ``at`` of an area, whose values' offsets count from its start."""
    found = {}
    while at + _EA_ENTRY.size <= len(area) and area[at : at + 4] != bytes(4):
        length, prefix, offset, inode, size, _ = _EA_ENTRY.unpack_from(area, at)
        name = area[at + _EA_ENTRY.size :][:length].decode(errors="surrogateescape")
        value = area[offset : offset + size]
        if inode or len(value) != size:
            raise InputError(f"extended attribute {name!r} is stored in a way that is not read here")
        if prefix in _ACLS:
            found[_ACLS[prefix]] = acl(value)
        elif prefix in _PREFIXES and not (prefix == 7 and name == "data"):
            found[_PREFIXES[prefix] + name] = value
        at += -(-(_EA_ENTRY.size + length) // 4) * 4
    return found


def acl(stored: bytes) -> bytes:
    """An ACL as getxattr(2) gives it, from ext4's shorter form (fs/ext4/acl.h)."""
    out, at = struct.pack("<I", 2), 4
    while at + 4 <= len(stored):
        tag, permissions = struct.unpack_from("<HH", stored, at)
        at += 4
        owner = 0xFFFFFFFF
        if tag in _ACL_WITH_ID:
            owner = struct.unpack_from("<I", stored, at)[0]
            at += 4
        out += struct.pack("<HHI", tag, permissions, owner)
    return out


def modified(raw: bytes) -> tuple[int, int]:
    """Seconds and nanoseconds of the last change; two bits of the extra field are seconds beyond 2038."""
    seconds = struct.unpack_from("<i", raw, 16)[0]
    if len(raw) < 140:
        return seconds, 0
    extra = struct.unpack_from("<I", raw, 136)[0]
    return seconds + ((extra & 3) << 32), extra >> 2


def device_number(raw: bytes) -> tuple[int, int]:
    old, new = struct.unpack_from("<II", raw, 40)
    if old:
        return old >> 8 & 0xFF, old & 0xFF
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00
