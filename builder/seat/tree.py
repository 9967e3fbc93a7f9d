"""What goes into an environment's filesystem? Its image, less boot files, under the seat's own files."""

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from builder.errors import InputError
from builder.volume.tarsink import BLOCK, number, padded, pax

COPY = 1 << 20
AHEAD = 4 << 20  # bytes that are unpacked at a time
LEFT_OUT = ("boot/EFI", "boot/loader", "efi", "esp")  # contents belong on the ESP; the directories stay

_LONG = b"LK"  # GNU: the next member's name, or link target, is this one's data
_PAX = b"xg"


Edit = Callable[[bytes], bytes]


class Kept(Protocol):
    """Files that are carried over from elsewhere, in place of the image's."""

    def covers(self, name: str) -> bool: ...
    def add_to(self, tar: tarfile.TarFile, folders: set[str]) -> None: ...


class Reader(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True)
class Member:
    """One member of a tar as it lies in the stream: all its headers, its normalised name, bytes of data."""

    name: str
    headers: bytes
    size: int
    is_directory: bool


def write_tree(
    image: Path,
    overlay: Path,
    out: BinaryIO,
    *,
    epoch: int,
    kept: Kept | None = None,
    edits: Mapping[str, Edit] | None = None,
) -> None:
    """Write a tar of ``image`` (.tar or .tar.zst) with all files below ``overlay`` laid over it.

    A file of the overlay replaces the image's; a directory that the image has keeps the image's mode and
    owner. Files of the overlay belong to root and keep their modes. What is ``kept`` replaces the image's
    files, and the overlay replaces it where both have a file. ``edits`` change small files of the image,
    which keep mode and owner. Raises InputError for an image that is
    cut off or damaged.
    """
    over = {path.relative_to(overlay).as_posix(): path for path in sorted(overlay.rglob("*"))}
    files = {name for name, path in over.items() if path.is_symlink() or not path.is_dir()}
    there = set()
    with opened(image) as stream:
        for member in members(stream, image):
            if member.name in files or left_out(member) or (kept and kept.covers(member.name)):
                copy(stream, None, padded(member.size), image)
                continue
            if member.is_directory:
                there.add(member.name)
            if edits and member.name in edits:
                data = edits[member.name](stream.read(padded(member.size))[: member.size])
                out.write(resized(member.headers, len(data)) + data.ljust(padded(len(data)), b"\0"))
                continue
            out.write(member.headers)
            copy(stream, out, padded(member.size), image)
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        if kept:
            kept.add_to(tar, there)
        for name, path in over.items():
            if name in files or name not in there:
                add(tar, name, path, epoch)


def resized(headers: bytes, size: int) -> bytes:
    """A member's headers with another size, and the checksum that goes with it."""
    last = bytearray(headers[-BLOCK:])
    last[124:136] = b"%011o\0" % size
    last[148:156] = b" " * 8
    last[148:156] = b"%06o\0 " % sum(last)
    return headers[:-BLOCK] + bytes(last)


def left_out(member: Member) -> bool:
    return any(member.name.startswith(f"{folder}/") for folder in LEFT_OUT)


@contextlib.contextmanager
def opened(image: Path) -> Iterator[Reader]:
    """The tar in ``image``; a packed one is unpacked ahead of the reader, by another thread."""
    with image.open("rb") as f:
        magic = f.read(4)
        f.seek(0)
        if magic != b"\x28\xb5\x2f\xfd":
            yield f
            return
        import zstandard

        # several frames may follow each other (zstd with threads)
        reader = zstandard.ZstdDecompressor().stream_reader(f, read_across_frames=True)
        with ThreadPoolExecutor(1) as pool:
            yield Ahead(reader, pool, image)


class Ahead:
    """Reads until there is as much as asked for or the end, and turns zstd's errors into ours."""

    def __init__(self, reader: Reader, pool: Executor, image: Path) -> None:
        self._reader, self._pool, self._image = reader, pool, image
        self._piece, self._at = b"", 0
        self._next: Future[bytes] | None = pool.submit(reader.read, AHEAD)

    def read(self, size: int = -1, /) -> bytes:
        end = self._at + size
        if end <= len(self._piece):
            found = self._piece[self._at : end]
            self._at = end
            return found
        parts = [self._piece[self._at :]]
        left = end - len(self._piece)
        while left > 0 and (piece := self._following()):
            parts.append(piece[:left])
            self._piece, self._at = piece, min(left, len(piece))
            left -= len(parts[-1])
        if left > 0:
            self._piece, self._at = b"", 0
        return b"".join(parts)

    def _following(self) -> bytes:
        """The next piece; empty at the end."""
        import zstandard

        if self._next is None:
            return b""
        try:
            piece = self._next.result()
        except zstandard.ZstdError as e:
            raise InputError(f"{self._image} is damaged: {e}", hint="build or fetch it again") from e
        self._next = self._pool.submit(self._reader.read, AHEAD) if piece else None
        return piece


def members(stream: Reader, image: Path) -> Iterator[Member]:
    """The members of a tar; the caller reads each one's data (padded to whole blocks) before the next."""
    headers, name = b"", None
    while True:
        header = stream.read(BLOCK)
        if len(header) < BLOCK:
            raise InputError(f"{image} is cut off (no end mark)", hint="build or fetch it again")
        if not any(header):
            return
        if int(header[148:156].strip(b" \0") or b"0", 8) != sum(header[:148]) + 256 + sum(header[156:]):
            raise InputError(f"{image} is damaged (a tar header's checksum)", hint="build or fetch it again")
        kind, size = header[156:157], number(header[124:136])
        headers += header
        if kind in _LONG or kind in _PAX:
            data = stream.read(padded(size))
            if len(data) < padded(size):
                raise InputError(f"{image} is cut off", hint="build or fetch it again")
            headers += data
            if kind == b"L":
                name = data[:size].rstrip(b"\0")
            elif kind == b"x":
                values = pax(data[:size])
                name = values.get(b"GNU.sparse.name") or values.get(b"path") or name
                if b"size" in values:
                    raise InputError(f"{image} holds a file of more than 8 GiB")
            continue
        if name is None:
            prefix = header[345:500].rstrip(b"\0") if header[257:263] == b"ustar\0" else b""
            name = (prefix + b"/" if prefix else b"") + header[:100].split(b"\0")[0]
        text = name.decode(errors="surrogateescape").removeprefix("./").strip("/")
        yield Member(text, headers, size, kind == b"5")
        headers, name = b"", None


def copy(stream: Reader, out: BinaryIO | None, size: int, image: Path) -> None:
    while size:
        data = stream.read(min(size, COPY))
        if not data:
            raise InputError(f"{image} is cut off", hint="build or fetch it again")
        if out is not None:
            out.write(data)
        size -= len(data)


def add(tar: tarfile.TarFile, name: str, path: Path, epoch: int) -> None:
    info = tar.gettarinfo(path, arcname=f"./{name}")
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = epoch
    info.type = tarfile.REGTYPE if info.islnk() else info.type
    data = path.read_bytes() if info.isreg() else b""
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
