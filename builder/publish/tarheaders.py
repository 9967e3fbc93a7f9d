"""Which headers of an archive do all programs read alike? Only those are taken.

What tarfile sees is checked, and another program unpacks. Where they differ about a header, an entry would
be unpacked that nobody has checked. GNU tar reads or skips what tarfile takes for the end, prefers
GNU.sparse.name, knows a prefix by POSIX's magic alone, and sees the next entry in what tarfile takes for a
directory's content. So an archive has to be plain pax, as mkosi's and ours are.
"""

import re
import tarfile
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from builder.errors import TrustError

MAGIC = b"ustar\x0000"  # POSIX.1-1988 and later: with a prefix field; GNU's own format has none
EXTENDED = b"x"
SIZED = (b"0", b"\0", EXTENDED)
TYPES = (*SIZED, b"1", b"2", b"3", b"4", b"5", b"6")
NUMBERS = {
    "mode": (100, 108),
    "uid": (108, 116),
    "gid": (116, 124),
    "size": (124, 136),
}  # places in a header
OCTAL = re.compile(rb"[0-7]+[ \0]*")
RECORD = re.compile(rb"([1-9][0-9]{0,8}) [^=\n\0]+=")
KEYWORDS = re.compile(
    r"path|linkpath|size|uid|gid|uname|gname|mtime|atime|ctime|comment"
    r"|(?:SCHILY\.xattr|SCHILY\.acl|RHT\.security)\..+|GNU\.sparse\.(?:major|minor|name|realsize)"
)


def strict_header() -> type[tarfile.TarInfo]:
    """A class of headers for one archive: those that are not plain are a ReadError."""

    class StrictHeader(tarfile.TarInfo):
        extended: int = 0
        """Bytes of the extended header that belongs to this one."""
        waiting: ClassVar[int] = 0

        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                return super().frombuf(buf, encoding, errors)  # the end
            try:
                found = super().frombuf(buf, encoding, errors)
            except tarfile.HeaderError as e:  # tarfile would take it for the end
                raise tarfile.ReadError(f"{e} in the place of a member or the end") from e
            if problem := header_problem(bytes(buf)):
                raise tarfile.ReadError(f"{found.name!r}: {problem}")
            if bytes(buf[156:157]) == EXTENDED:
                if cls.waiting:
                    raise tarfile.ReadError(f"{found.name!r}: an extended header of an extended header")
                cls.waiting = found.size
            else:
                found.extended, cls.waiting = cls.waiting, 0
            return found

        def _proc_pax(self, archive: Any) -> Any:
            """Read as tarfile does; what it read of records has to be what others read, too."""
            source = archive.fileobj
            archive.fileobj = seen = FirstRead(source)
            try:
                found = super()._proc_pax(archive)  # type: ignore[misc]
            finally:
                archive.fileobj = source
            if problem := records_problem(seen.data[: self.size]):
                raise tarfile.ReadError(f"{found.name!r}: {problem}")
            return found

    return StrictHeader


class FirstRead:
    """A stream that remembers what was read first: an extended header's records."""

    def __init__(self, source: Any) -> None:
        self.source, self.data = source, b""

    def read(self, size: int) -> bytes:
        block: bytes = self.source.read(size)
        self.data = self.data or block
        return block

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


def records_problem(data: bytes) -> str | None:
    """Why these are not plain records ``LENGTH KEYWORD=VALUE``, each with a newline at its end."""
    while data:
        match = RECORD.match(data)
        length = int(match[1]) if match else 0
        if match is None or length <= match.end() or data[length - 1 : length] != b"\n":
            return "a record of its extended header is malformed"
        data = data[length:]
    return None


def header_problem(header: bytes) -> str | None:
    kind = header[156:157]
    if header[257:265] != MAGIC:
        return "not a header of the POSIX format"
    if kind not in TYPES:
        return f"a header of type {kind!r}"
    for what, (start, end) in NUMBERS.items():
        if not OCTAL.fullmatch(header[start:end]):
            return f"its {what} is no plain number"
    if kind not in SIZED and int(header[124:136].rstrip(b" \0"), 8):
        return f"an entry of type {kind!r} that has content"
    return None


def check_extended(archive: str, info: tarfile.TarInfo) -> None:
    """Refuse what tarfile has not read of a member's extended header, or what changes how it is read.

    Raises TrustError.
    """
    name = info.pax_headers.get("GNU.sparse.name", info.name)
    if sum(map(record_length, info.pax_headers.items())) != getattr(info, "extended", 0):
        raise TrustError(
            f"{archive}: {name!r}: an extended header that is not whole, or says something twice"
        )
    if unknown := [keyword for keyword in info.pax_headers if not KEYWORDS.fullmatch(keyword)]:
        raise TrustError(f"{archive}: {name!r}: an extended header with {unknown[0]!r}")
    if info.size < 0 or (info.size and info.type not in SIZED):
        raise TrustError(f"{archive}: {name!r}: an entry of type {info.type!r} that has content")
    check_sparse(archive, name, info.pax_headers)


def check_sparse(archive: str, name: str, headers: Mapping[str, str]) -> None:
    """A file with holes is of GNU's format 1.0, whole. Raises TrustError."""
    found = {keyword for keyword in headers if keyword.startswith("GNU.sparse.")}
    whole = (headers.get("GNU.sparse.major"), headers.get("GNU.sparse.minor"), len(found)) == ("1", "0", 4)
    if found and (not whole or "size" in headers):
        raise TrustError(
            f"{archive}: {name!r}: not the one kind of sparse file that all programs read alike"
        )


def record_length(record: tuple[str, str]) -> int:
    """Bytes of a keyword and its value in an extended header: ``LENGTH KEYWORD=VALUE``, with a newline."""
    rest = sum(len(part.encode("utf-8", "surrogateescape")) for part in record) + len(" =\n")
    length = rest + 1
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return length
