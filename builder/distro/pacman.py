"""How is pacman called, configured and given keys, and how are its databases read?

Formats: pacman.conf(5), repo-add(8); a sync database is a tar of NAME-VERSION/desc in ``%FIELD%`` blocks.
"""

import base64
import contextlib
import difflib
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from builder.errors import InputError, MachineError, SeatsmithError, TrustError
from builder.lock import MAX_FILE
from builder.run import Arg, ProgramError, Result
from builder.tools import Tools

DOCUMENTATION = ("doc", "man", "groff", "gtk-doc", "info")
MAX_DESC = 1 << 20  # bytes


@dataclass(frozen=True)
class SyncPackage:
    """One package as a sync database describes it."""

    repository: str
    name: str
    version: str
    filename: str
    size: int
    sha256: str
    signature: bytes


def pacman_conf(servers: dict[str, str], *, levels: dict[str, str], gpgdir: Path, docs: bool) -> str:
    """A pacman.conf(5) with these repositories, in this order."""
    lines = ["[options]", "Architecture = x86_64", "SigLevel = Required", "LocalFileSigLevel = Optional"]
    lines += [f"GPGDir = {gpgdir}", "ParallelDownloads = 5"]
    if not docs:
        lines += [f"NoExtract = usr/share/{place}/*" for place in DOCUMENTATION]
    for name, url in servers.items():
        lines += ["", f"[{name}]", f"SigLevel = {levels[name]}", f"Server = {url}"]
    return "\n".join(lines) + "\n"


def become_root() -> list[str]:
    """mkosi-sandbox options with which pacman believes to be root when the caller is not."""
    return [] if os.geteuid() == 0 else ["--become-root", "--suppress-chown"]


def run_pacman(
    tools: Tools, scratch: Path, conf: Path, argv: Sequence[str], *, check: bool = True
) -> Result:
    """Run pacman on an empty root below ``scratch``."""
    for name in ("root", "db", "cache"):
        (scratch / name).mkdir(exist_ok=True)
    words: list[Arg] = [
        "pacman",
        "--root",
        scratch / "root",
        "--dbpath",
        scratch / "db",
        "--cachedir",
        scratch / "cache",
    ]
    words += [
        "--config",
        conf,
        "--logfile",
        "/dev/null",
        "--noconfirm",
        "--noprogressbar",
        "--color",
        "never",
    ]
    return tools.run([*words, *argv], options=become_root(), check=check)


def refused(error: ProgramError, what: str, urls: dict[str, str]) -> SeatsmithError:
    """Pacman's own words, once, as the error they stand for."""
    text = error.output
    lines = [line for line in text.splitlines() if line.startswith(("error:", "warning:"))]
    message = f"{what}:\n" + "\n".join(
        f"  pacman: {line}" for line in dict.fromkeys(lines or [text.strip()])
    )
    if unsigned := re.search(r"'([^']+)\.db\.sig' .*\b404\b", text):
        return TrustError(
            f"the database of repository {unsigned[1]} is not signed",
            hint="ask whoever runs it, or write siglevel: Required DatabaseOptional",
        )
    if re.search(r"signature|unknown trust|key \"?[0-9A-F]{8}|PGP", text):
        return TrustError(
            message, hint="the repository is not signed by the key that the profile or lock names"
        )
    named = [name for name in urls if f"'{name}.db" in text] or list(urls)
    return MachineError(message, hint=f"is {urls[named[0]]} right, and does it answer?")


def near_names(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=3)
    return f"; did you mean {', '.join(near)}?" if near else ""


def read_database(path: Path) -> dict[str, SyncPackage]:
    """All packages of a sync database by name. Raises InputError where it is damaged."""
    import zstandard

    packages = {}
    damage = (tarfile.TarError, KeyError, ValueError, EOFError, zlib.error, lzma.LZMAError)
    try:
        with opened(path) as stream, tarfile.open(fileobj=stream, mode="r|*") as tar:
            for info in tar:
                if info.isfile() and info.name.endswith("/desc"):
                    if info.size > MAX_DESC:
                        raise ValueError(f"{info.name} has {info.size} bytes")
                    text = tar.extractfile(info).read().decode()  # type: ignore[union-attr]
                    package = sync_package(path.stem, fields_of(text))
                    packages[package.name] = package
    except (*damage, zstandard.ZstdError) as e:
        what = f"{e} is missing" if isinstance(e, KeyError) else str(e)
        raise InputError(f"package database {path.name} is damaged: {what}") from e
    return packages


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """A database as a stream that tarfile can read: it knows gzip, bzip2 and xz, but not yet zstd."""
    with path.open("rb") as f:
        magic = f.read(4)
        f.seek(0)
        if magic != b"\x28\xb5\x2f\xfd":  # RFC 8878
            yield f
            return
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(f) as stream:
            yield cast("IO[bytes]", stream)


def fields_of(text: str) -> dict[str, str]:
    """The ``%FIELD%`` blocks of a desc file; of a list, the lines."""
    fields = {}
    for block in text.split("\n\n"):
        head, _, body = block.strip("\n").partition("\n")
        if head.startswith("%") and head.endswith("%"):
            fields[head.strip("%")] = body
    return fields


def sync_package(repository: str, fields: dict[str, str]) -> SyncPackage:
    filename = fields["FILENAME"]
    size, sha256 = int(fields["CSIZE"]), fields["SHA256SUM"]
    if not 0 <= size <= MAX_FILE or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise ValueError(f"size {size} and digest {sha256!r} of {filename} cannot be")
    for field in (fields["NAME"], fields["VERSION"], filename):
        if not re.fullmatch(r"[A-Za-z0-9@_+][A-Za-z0-9@._+:~^-]*", field):
            raise ValueError(f"{field!r} cannot be of a package")
    return SyncPackage(
        repository=repository,
        name=fields["NAME"],
        version=fields["VERSION"],
        filename=filename,
        size=size,
        sha256=sha256,
        signature=base64.b64decode(fields.get("PGPSIG", "")),
    )
