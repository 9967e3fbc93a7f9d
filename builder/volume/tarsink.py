"""How does a tar that somebody writes become calls of a Filler? It is parsed as it comes, and never kept.

Plain ustar, GNU's long names, pax headers, and files with holes as GNU tar and pax write them (version 1.0).
"""

import io
import stat
from collections.abc import Callable
from typing import Any

from builder.errors import InputError
from builder.volume.ext4fill import Attributes, Filler
from builder.volume.ext4xattr import INDEX_SECURITY, RECORD, Extended, from_record

BLOCK = 512
_KINDS = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}
_FILES = b"0\x007S"
_CAPABILITY = b"SCHILY.xattr.security.capability"
FLAGS = b"SEATSMITH.flags"  # of an inode, as a decimal number
_LARGEST_HEADER = 16 << 20  # bytes of one extended header


def number(field: bytes) -> int:
    """Octal, or base 256 where the first bit is set (GNU, for large files)."""
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def pax(data: bytes) -> dict[bytes, bytes]:
    found, at = {}, 0
    while at < len(data):
        space = data.index(b" ", at)
        end = at + int(data[at:space])
        key, _, value = data[space + 1 : end - 1].partition(b"=")
        found[key] = value
        at = end
    return found


def padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


class TarSink(io.RawIOBase):
    """Write a tar to it as to a file, then ``finish()``. Raises InputError for what cannot be unpacked."""

    def __init__(self, filler: Filler) -> None:
        super().__init__()
        self._filler = filler
        self._header = b""
        self._left = self._padding = 0  # bytes of the content, and behind it
        self._take: Callable[[memoryview], None] = self._nothing
        self._end: Callable[[], None] = self._no_end
        self._extended: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._over = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        size = len(view)
        while view:
            if self._left:
                part = view[: self._left]
                self._left -= len(part)
                self._take(part)
                view = view[len(part) :]
                if not self._left:
                    self._end()
            elif self._padding:
                skipped = min(self._padding, len(view))
                self._padding -= skipped
                view = view[skipped:]
            else:
                part = view[: BLOCK - len(self._header)]
                self._header += part
                view = view[len(part) :]
                if len(self._header) == BLOCK:
                    header, self._header = self._header, b""
                    self._member(header)
        return size

    def finish(self) -> None:
        """Raises InputError where the tar ends before its end mark."""
        if not self._over or self._left or self._header:
            raise InputError("the tree is cut off")
        self._filler.finish()

    def _nothing(self, part: memoryview) -> None:
        pass

    def _no_end(self) -> None:
        pass

    def _member(self, header: bytes) -> None:
        if not any(header):
            self._over = True
            return
        self._over = False
        kind, size = header[156:157], number(header[124:136])
        if kind in b"xgLK":
            if size > _LARGEST_HEADER:
                raise InputError("the tree has an extended header of more than 16 MiB")
            self._content(size, self._gather, lambda: self._extend(kind))
            return
        extended, self._extended = self._extended, {}
        size = int(extended.get(b"size", size))
        name = extended.get(b"GNU.sparse.name") or extended.get(b"path") or short_name(header)
        path = plain(name)
        if kind in _FILES:
            attributes = attributes_of(header, stat.S_IFREG, extended)
            if any(key.startswith(b"GNU.sparse.") for key in extended):
                self._sparse(path, attributes, extended, size)
                return
            self._content(size, self._filler.write, lambda: self._filler.end_file(path, attributes))
            return
        self._content(size, self._nothing, self._no_end)
        if kind == b"5":
            self._filler.add_folder(path, attributes_of(header, stat.S_IFDIR, extended))
            return
        target = extended.get(b"linkpath") or header[157:257].split(b"\0")[0]
        if kind == b"1":
            self._filler.add_link(path, plain(target))
        elif kind == b"2":
            self._filler.add_symlink(path, target, attributes_of(header, stat.S_IFLNK, extended))
        elif kind in _KINDS:
            self._filler.add_special(path, attributes_of(header, _KINDS[kind], extended))
        else:
            raise InputError(f"the tree has a member of a kind that is not known: {kind!r}")

    def _content(self, size: int, take: Callable[[memoryview], None], end: Callable[[], None]) -> None:
        """What becomes of the bytes that follow."""
        self._left, self._padding = size, padded(size) - size
        self._take, self._end = take, end
        if not size:
            end()

    def _gather(self, part: memoryview) -> None:
        self._parts.append(bytes(part))

    def _extend(self, kind: bytes) -> None:
        data, self._parts = b"".join(self._parts), []
        if kind == b"x":
            self._extended |= pax(data)
        elif kind != b"g":
            self._extended[b"path" if kind == b"L" else b"linkpath"] = data.rstrip(b"\0")

    def _sparse(self, path: bytes, attributes: Attributes, extended: dict[bytes, bytes], size: int) -> None:
        """A file whose content begins with a map of where its parts belong."""
        if extended.get(b"GNU.sparse.major") != b"1" or extended.get(b"GNU.sparse.minor") != b"0":
            raise InputError("the tree has a file with holes in a form that is not known")
        real = int(extended[b"GNU.sparse.realsize"])
        parts = Parts(self._filler, real)
        self._content(size, parts.take, lambda: parts.end(path, attributes))


class Parts:
    """The content of a file with holes: the map, padded to a block, and all parts in a row."""

    def __init__(self, filler: Filler, size: int) -> None:
        self._filler, self._size = filler, size
        self._head = b""
        self._map: list[tuple[int, int]] | None = None
        self._at = 0

    def take(self, part: memoryview) -> None:
        if self._map is None:
            self._head += part
            numbers = self._head.split(b"\n")
            wanted = 1 + 2 * int(numbers[0]) if len(numbers) > 1 else 0
            if not wanted or len(numbers) <= wanted:
                return
            length = padded(sum(len(n) + 1 for n in numbers[:wanted]))
            if len(self._head) < length:
                return
            values = [int(n) for n in numbers[1:wanted]]
            self._map = list(zip(values[::2], values[1::2], strict=True))
            part = memoryview(self._head)[length:]
        while self._map and part:
            (start, length), *rest = self._map
            self._holes(start)
            here = part[:length]
            self._filler.write(here)
            self._at += len(here)
            part = part[len(here) :]
            self._map = [(start + len(here), length - len(here)), *rest] if length > len(here) else rest

    def _holes(self, end: int) -> None:
        while self._at < end:
            size = min(end - self._at, 1 << 20)
            self._filler.write(bytes(size))
            self._at += size

    def end(self, path: bytes, attributes: Attributes) -> None:
        self._holes(self._size)
        self._filler.end_file(path, attributes)


def short_name(header: bytes) -> bytes:
    prefix = header[345:500].rstrip(b"\0") if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" if prefix else b"") + header[:100].split(b"\0")[0]


def plain(name: bytes) -> bytes:
    """A member's name without a dot or slash at its ends."""
    found = name.removeprefix(b"./").strip(b"/")
    return b"" if found == b"." else found


def attributes_of(header: bytes, kind: int, extended: dict[bytes, bytes]) -> Attributes:
    seconds, _, fraction = extended.get(b"mtime", b"").partition(b".")
    device = (number(header[329:337]), number(header[337:345])) if kind in _KINDS.values() else (0, 0)
    return Attributes(
        kind | number(header[100:108]) & 0o7777,
        int(extended.get(b"uid") or number(header[108:116])),
        int(extended.get(b"gid") or number(header[116:124])),
        int(seconds) if seconds else number(header[136:148]),
        int(fraction[:9].ljust(9, b"0")) if fraction else 0,
        device,
        xattrs_of(extended),
        int(extended.get(FLAGS, b"0")),
    )


def xattrs_of(extended: dict[bytes, bytes]) -> tuple[Extended, ...]:
    """Of an image's tar a file's capability alone; all of them of what we carry over from another."""
    if record := extended.get(RECORD):
        return from_record(record)
    value = extended.get(_CAPABILITY, b"")
    return (Extended(INDEX_SECURITY, b"capability", value),) if value else ()
