"""What does a binhost offer, and is a gpkg the package that it is said to be?

A binhost's index, `Packages`, is text: a head and one paragraph a package, of lines ``KEY: value``, parted
by empty lines (portage, lib/portage/getbinpkg.py). Nobody signs it, and portage compares no name in it with
the name inside of the package, so a lock pins both and `check_inner_name` compares them.
"""

import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError, TrustError
from builder.lock import safe_path

MAX_INDEX = 64 << 20  # bytes; the official one has 20 MiB
MAX_METADATA = 16 << 20  # bytes, unpacked
LINE = re.compile(r"([A-Z][A-Za-z0-9_]*):(?: (.*))?")
PVR = r"[0-9][0-9.]*[a-z]?(?:_(?:alpha|beta|pre|rc|p)[0-9]*)*(?:-r[0-9]+)?"  # PMS 3.2
CPV = re.compile(rf"(?P<cp>[A-Za-z0-9_][A-Za-z0-9+_.-]*/[A-Za-z0-9_][A-Za-z0-9+_-]*?)-(?P<version>{PVR})")


@dataclass(frozen=True)
class Binary:
    """One paragraph of the index."""

    cpv: str
    build_id: str
    path: str
    """Relative to the index."""
    size: int
    sha1: str
    text: str

    @property
    def cp(self) -> str:
        return split_cpv(self.cpv)[0]

    @property
    def version(self) -> str:
        return split_cpv(self.cpv)[1]


@dataclass(frozen=True)
class Index:
    head: dict[str, str]
    head_text: str
    packages: tuple[Binary, ...]

    @property
    def timestamp(self) -> int:
        """When the index was made, in seconds since 1970."""
        return int(self.head["TIMESTAMP"])

    def find(self, cpv: str, build_id: str) -> Binary | None:
        return next((p for p in self.packages if (p.cpv, p.build_id) == (cpv, build_id)), None)

    def only(self, paths: set[str]) -> str:
        """The text of an index of these packages alone."""
        parts = [self.head_text, *(p.text for p in self.packages if p.path in paths)]
        return "\n\n".join(parts) + "\n\n"


def split_cpv(cpv: str) -> tuple[str, str]:
    """Category and name, and version with revision. Raises InputError for anything else."""
    found = CPV.fullmatch(cpv)
    if found is None:
        raise InputError(f"{cpv!r} is not a package: category/name-version")
    return found["cp"], found["version"]


def parse_index(data: bytes, where: str) -> Index:
    """Read `Packages`; ``where`` is what errors name. Raises InputError for what portage would not write."""
    if len(data) > MAX_INDEX:
        raise InputError(f"{where}: not an index: larger than {MAX_INDEX >> 20} MiB")
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        raise InputError(f"{where}: not an index: {e}") from e
    paragraphs = [p for p in re.split(r"\n{2,}", text.strip("\n")) if p]
    if not paragraphs:
        raise InputError(f"{where}: the index is empty")
    head = parse_paragraph(paragraphs[0], where)
    if not re.fullmatch(r"[0-9]{1,12}", head.get("TIMESTAMP", "")):
        raise InputError(f"{where}: the index does not say when it was made (TIMESTAMP)")
    packages = tuple(parse_package(p, where) for p in paragraphs[1:])
    paths = [p.path for p in packages]
    if len(set(paths)) != len(paths):
        raise InputError(f"{where}: the index names a path twice")
    return Index(head, paragraphs[0], packages)


def parse_paragraph(text: str, where: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        found = LINE.fullmatch(line)
        if found is None or found[1] in fields:
            raise InputError(f"{where}: {line[:60]!r} is not a line of an index: KEY: value, each key once")
        fields[found[1]] = found[2] or ""
    return fields


def parse_package(text: str, where: str) -> Binary:
    fields = parse_paragraph(text, where)
    cpv = fields.get("CPV", "")
    split_cpv(cpv)
    path, size, sha1 = (fields.get(key, "") for key in ("PATH", "SIZE", "SHA1"))
    try:
        safe_path(path)
    except ValueError as e:
        raise InputError(f"{where}: {cpv}: {e}") from e
    if not re.fullmatch(r"[0-9]{1,12}", size) or not re.fullmatch(r"[0-9a-f]{40}", sha1):
        raise InputError(f"{where}: {cpv} has no SIZE or no SHA1")
    build_id = fields.get("BUILD_ID", "")
    if not re.fullmatch(r"[0-9]{0,12}", build_id):
        raise InputError(f"{where}: {cpv}: {build_id!r} is no BUILD_ID")
    return Binary(cpv, build_id, path, int(size), sha1, text)


def check_inner_name(gpkg: Path, cpv: str) -> None:
    """Refuse a gpkg (GLEP 78) whose own metadata name another package than ``cpv``.

    A signature says who made a package, not which it is: another package with a good signature could be put
    in its place. Raises TrustError.
    """
    found = inner_name(gpkg)
    if found != cpv:
        raise TrustError(
            f"{gpkg.name} is said to be {cpv} and is {found}",
            hint="the mirror or the way to it put another package in its place",
        )


def inner_name(gpkg: Path) -> str:
    """CATEGORY/PF of a gpkg. Raises TrustError where it cannot be told."""
    import zstandard

    try:
        with tarfile.open(gpkg, "r:") as outer:
            for member in outer:
                name = member.name.rpartition("/")[2]
                if not name.startswith("metadata.tar") or name.endswith(".sig"):
                    continue
                stream = outer.extractfile(member)
                if stream is None or member.size > MAX_METADATA:
                    break
                data = stream.read()
                if name.endswith(".zst"):
                    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data))
                    data = reader.read(MAX_METADATA + 1)
                return name_in_metadata(data)
    except (tarfile.TarError, zstandard.ZstdError, OSError, EOFError) as e:
        raise TrustError(f"{gpkg.name} is not a gpkg: {e}") from e
    raise TrustError(f"{gpkg.name} is not a gpkg: it holds no metadata")


def name_in_metadata(data: bytes) -> str:
    if len(data) > MAX_METADATA:
        raise TrustError("the metadata of a gpkg are too large")
    found: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as inner:
        for member in inner:
            key = member.name.rpartition("/")[2]
            stream = inner.extractfile(member) if key in ("CATEGORY", "PF") else None
            if stream is not None:
                if key in found:
                    raise TrustError(f"the metadata of a gpkg say {key} twice")
                found[key] = stream.read(1024).decode(errors="replace").strip()
    return f"{found.get('CATEGORY', '?')}/{found.get('PF', '?')}"
