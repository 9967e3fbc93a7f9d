"""What is in an image's archive? Members one after the other, without unpacking and within limits.

Read as the unpackers read it: every zstd frame counts (a checker that stops after the first one would see
another archive than zstd(1) does), and after the end of the archive there may be nothing but zeros.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from builder.errors import TrustError
from builder.files import CHUNK
from builder.publish.tarheaders import check_extended, strict_header

KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.GNUTYPE_SPARSE: "file",
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "fifo",
}
CAPABILITY = "SCHILY.xattr.security.capability"


@dataclass(frozen=True)
class Limits:
    """How much an archive may become. A small file that claims to be a huge tree is an attack."""

    unpacked: int = 64 << 30
    """Bytes of the archive once decompressed, and of the files in it."""
    ratio: int = 200
    """Decompressed bytes for each compressed one, beyond the first 64 MiB."""
    members: int = 5_000_000
    window: int = 1 << 27
    """Bytes of memory that decompression may ask for: what zstd(1) allows by default."""

    def allowed(self, compressed: int) -> int:
        """Bytes that so many compressed ones may become."""
        return min(self.unpacked, (64 << 20) + self.ratio * compressed)


@dataclass(frozen=True)
class Member:
    """One entry. ``path`` has no leading ``./``; the archive's root is the empty string."""

    path: str
    raw: str
    """The name as it is in the archive."""
    kind: str
    mode: int
    uid: int
    gid: int
    size: int
    target: str = ""
    digest: str = ""
    capabilities: bool = False
    """File capabilities (capabilities(7)) are set."""


def members(
    archive: Path, *, limits: Limits | None = None, digests: bool = False, strict: bool = False
) -> Iterator[Member]:
    """The members of a .tar.zst, .tar.gz or .tar; contents are digested only if asked for.

    ``strict``: refuse what another program might unpack to something else (tarheaders.py). Raises TrustError
    for an archive that is damaged, exceeds ``limits`` or goes on after its end.
    """
    import zstandard

    limits = limits or Limits()
    try:
        with archive.open("rb") as f:
            stream = Bounded(decompressed(f, archive.name, limits), f, archive, limits)
            source = cast("IO[bytes]", stream)
            header = strict_header() if strict else tarfile.TarInfo
            with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK, tarinfo=header) as tar:
                yield from read_members(tar, archive, limits, digests, strict)
                rest = cast("IO[bytes]", tar.fileobj)
                while block := rest.read(CHUNK):
                    if block.strip(b"\0"):
                        raise TrustError(f"{archive.name}: something follows the end of the archive")
    except (tarfile.TarError, zstandard.ZstdError, zlib.error, EOFError, OSError, ValueError) as e:
        raise TrustError(f"{archive.name}: not a whole archive: {e}") from e


def read_members(
    tar: tarfile.TarFile, archive: Path, limits: Limits, digests: bool, strict: bool
) -> Iterator[Member]:
    total = 0
    for count, info in enumerate(tar, 1):
        total += info.size
        if count > limits.members:
            raise TrustError(f"{archive.name}: has more than the limit of {limits.members} members")
        if total > limits.unpacked:
            raise TrustError(f"{archive.name}: unpacks to more than the limit of {limits.unpacked} bytes")
        if strict:
            check_extended(archive.name, info)
        digest = ""
        if digests and info.isreg() and (content := tar.extractfile(info)) is not None:
            digest = hashlib.file_digest(cast("Any", content), "sha256").hexdigest()
        # unpackers take the first of these that there is, and whole; tarfile the last one, without a slash
        names = info.pax_headers
        name = names.get("GNU.sparse.name", names.get("path", info.name))
        yield Member(
            path=normal(name),
            raw=name,
            kind=KINDS.get(info.type, f"type {info.type!r}"),
            mode=info.mode & 0o7777,
            uid=info.uid,
            gid=info.gid,
            size=info.size,
            target=info.linkname if info.issym() or info.islnk() else "",
            digest=digest,
            capabilities=CAPABILITY in info.pax_headers,
        )


def normal(name: str) -> str:
    """A member's name without ``./`` and doubled or trailing slashes; ``..`` stays to be seen."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def decompressed(f: IO[bytes], name: str, limits: Limits) -> IO[bytes]:
    if name.endswith(".zst"):
        import zstandard

        reader = zstandard.ZstdDecompressor(max_window_size=limits.window)
        return cast("IO[bytes]", reader.stream_reader(f, read_size=CHUNK, read_across_frames=True))
    if name.endswith(".gz"):
        import gzip

        return cast("IO[bytes]", gzip.GzipFile(fileobj=f))
    return f


class Bounded:
    """A stream that refuses to become larger than its limits."""

    def __init__(self, stream: IO[bytes], compressed: IO[bytes], archive: Path, limits: Limits) -> None:
        self.stream, self.compressed, self.archive, self.limits = stream, compressed, archive, limits
        self.done = 0

    def read(self, size: int) -> bytes:
        block = self.stream.read(size)
        self.done += len(block)
        if self.done > self.limits.allowed(self.compressed.tell()):
            raise TrustError(
                f"{self.archive.name}: unpacks to more than {self.done} bytes, which is no plausible image",
            )
        return block
