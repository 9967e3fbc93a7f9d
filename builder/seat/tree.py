"""What goes into an environment's filesystem? Its image, less boot files, under the seat's own files."""

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from builder.errors import InputError, TrustError
from builder.volume.tarsink import BLOCK, number, padded, pax

AHEAD = 1 << 20  # bytes that are unpacked at a time
LEFT_OUT = ("boot/EFI", "boot/loader", "efi", "esp")  # contents belong on the ESP; the directories stay

_LONG = b"LK"  # GNU: the next member's name, or link target, is this one's data
_PAX = b"xg"


Edit = Callable[[bytes], bytes]


class Kept(Protocol):
    """Files that are carried over from elsewhere, in place of the image's."""

    @property
    def above(self) -> Collection[str]: ...
    def covers(self, name: str) -> bool: ...
    def add_to(self, out: BinaryIO, folders: set[str], without: Collection[str]) -> None: ...


class Source(Protocol):
    """Something that is read from into a buffer; 0 at its end."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


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
    sha256: str = "",
) -> None:
    """Write a tar of ``image`` (.tar or .tar.zst) with all files below ``overlay`` laid over it.

    A file of the overlay replaces the image's; a directory that the image has keeps the image's mode and
    owner. Files of the overlay belong to root and keep their modes. What is ``kept`` replaces the image's
    files, and the overlay replaces it where both have a file. ``edits`` change small files of the image,
    which keep mode and owner. ``sha256`` is the image's, where it is known.

    Raises InputError for an image that is cut off or damaged, and where a file is to be in the place of a
    directory; TrustError, at the end, for an image that is not what was checked.
    """
    over = {path.relative_to(overlay).as_posix(): path for path in sorted(overlay.rglob("*"))}
    files = {name for name, path in over.items() if path.is_symlink() or not path.is_dir()}
    folders, above, there = over.keys() - files, set(kept.above) if kept else set(), set()
    with opened(image, sha256) as stream:
        for member in members(stream, image):
            if left_out(member) or (kept and kept.covers(member.name)):
                copy(stream, None, padded(member.size), image)
                continue
            refuse_clash(member, files, folders, above, image)
            if member.name in files:
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
    if kept:
        kept.add_to(out, there, files)
    large: dict[str, Any] = {"bufsize": AHEAD, "copybufsize": AHEAD}  # tarfile's own are of some KiB
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", **large) as tar:
        for name, path in over.items():
            if name in files or name not in there:
                add(tar, name, path, epoch)


def refuse_clash(
    member: Member, files: Collection[str], folders: Collection[str], above: Collection[str], image: Path
) -> None:
    """Raise InputError where the image has a file and others a directory, or it a full one and they a file.

    ``files`` and ``folders`` are the seat's own, ``above`` are directories of what is kept.
    """
    parent = member.name.rpartition("/")[0]
    if parent in files:
        raise InputError(f"/{parent} is a directory in {image}, and a file of the seat's own")
    if not member.is_directory and member.name in folders:
        raise InputError(f"/{member.name} is a file in {image}, and a directory of the seat's own")
    if not member.is_directory and member.name in above:
        raise InputError(
            f"/{member.name} is a file in {image}, and a directory of what `keep:` keeps",
            hint="take what is below it out of `keep:` of the seat file, and copy it by hand",
        )


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
def opened(image: Path, sha256: str) -> Iterator["Ahead"]:
    """The tar in ``image``, read and unpacked by another thread, ahead of who uses it."""
    with image.open("rb", buffering=0) as f:
        magic = f.read(4)
        f.seek(0)
        counted = Digested(f)
        source: Source = counted
        with ThreadPoolExecutor(1) as pool:
            if magic == b"\x28\xb5\x2f\xfd":
                import zstandard

                # several frames may follow each other (zstd with threads)
                source = zstandard.ZstdDecompressor().stream_reader(
                    cast("BinaryIO", counted), read_across_frames=True
                )
            yield Ahead(source, pool, image)
        if sha256 and counted.digest() != sha256:
            raise changed(image)


def changed(image: Path) -> TrustError:
    return TrustError(
        f"{image} is not what it was when it was checked",
        hint="somebody has changed it since, or what it lies on does not read the same twice",
    )


class Digested:
    """A file with the digest of all that is read from it: what was checked may read otherwise again."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def readinto(self, buffer: memoryview) -> int:
        done: int = self._file.readinto(buffer) or 0  # type: ignore[attr-defined]
        self._digest.update(buffer[:done])
        return done

    def digest(self) -> str:
        """Of the whole file: what was not needed is read now."""
        while self.read(AHEAD):
            pass
        return self._digest.hexdigest()


class Ahead:
    """Reads by two buffers in turn, so that nothing is copied, and turns zstd's errors into ours."""

    def __init__(self, source: Source, pool: Executor, image: Path) -> None:
        self._source, self._pool, self._image = source, pool, image
        self._buffers = [memoryview(bytearray(AHEAD)) for _ in range(2)]
        self._piece, self._at = self._buffers[0][:0], 0
        self._next = pool.submit(self._fill, self._buffers[0])

    def _fill(self, buffer: memoryview) -> memoryview:
        """A full buffer, but for the last one."""
        done = 0
        while done < len(buffer) and (got := self._source.readinto(buffer[done:])):
            done += got
        return buffer[:done]

    def part(self, size: int) -> memoryview:
        """Up to ``size`` bytes, none at the end; they are to be used before anything else is read."""
        if self._at == len(self._piece):
            self._turn()
        found = self._piece[self._at : self._at + size]
        self._at += len(found)
        return found

    def read(self, size: int) -> bytes:
        """As many bytes as asked for, or those that are left."""
        found = bytes(self.part(size))
        while len(found) < size and (more := self.part(size - len(found))):
            found += more
        return found

    def _turn(self) -> None:
        import zstandard

        try:
            self._piece, self._at = self._next.result(), 0
        except zstandard.ZstdError as e:
            raise InputError(f"{self._image} is damaged: {e}", hint="build or fetch it again") from e
        self._buffers.reverse()  # what is in use is now the second
        if self._piece:
            self._next = self._pool.submit(self._fill, self._buffers[0])


def members(stream: Ahead, image: Path) -> Iterator[Member]:
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


def copy(stream: Ahead, out: BinaryIO | None, size: int, image: Path) -> None:
    while size:
        data = stream.part(size)
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
