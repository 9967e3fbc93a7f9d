"""What does ``SHA256SUMS`` say, and is it true of a directory?

The format is that of sha256sum(1) in binary mode, ``DIGEST *NAME``: the one that every version of systemd's
importd and sysupdate looks for first (systemd, src/import/pull-common.c, verify_one()).
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from builder.errors import InputError, TrustError
from builder.files import file_digest, write_atomic

SUMS = "SHA256SUMS"
SIGNATURE = "SHA256SUMS.gpg"
BUNDLE = "SHA256SUMS.sigstore.json"
UNSUMMED = {SUMS, SIGNATURE, BUNDLE}
LIMIT = 1 << 20  # bytes; systemd takes no more, and neither do we
LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[A-Za-z0-9][A-Za-z0-9._+~@:-]*)")


def write_checksums(directory: Path) -> Path:
    """Write SHA256SUMS over every file of ``directory``, sorted by name.

    Old signatures are removed, since they cannot fit. Raises InputError for a name that cannot be listed.
    """
    names = published_names(directory)
    for name in names:
        if not LINE.fullmatch(f"{'0' * 64} *{name}"):
            raise InputError(f"{directory / name}: this file name cannot be listed in {SUMS}")
    digests = file_digests([directory / name for name in names])
    write_sums(directory, {name: digests[directory / name] for name in names})
    return directory / SUMS


def list_also(directory: Path, name: str) -> None:
    """Add one file to SHA256SUMS, whose other files need not be here."""
    listed = read_checksums(directory / SUMS)
    listed[name] = file_digest(directory / name)
    write_sums(directory, listed)


def write_sums(directory: Path, digests: Mapping[str, str]) -> None:
    for old in (SIGNATURE, BUNDLE):
        (directory / old).unlink(missing_ok=True)
    write_atomic(directory / SUMS, "".join(f"{digests[n]} *{n}\n" for n in sorted(digests)))


def published_names(directory: Path) -> list[str]:
    """The names that SHA256SUMS must list: every file but itself and its signature.

    Raises TrustError where there is something else than plain files: it could not be vouched for.
    """
    names = []
    for entry in os.scandir(directory):
        if entry.name in UNSUMMED or (entry.name.startswith(".") and entry.name.endswith(".part")):
            continue
        if entry.is_symlink() or not entry.is_file():
            raise TrustError(f"{entry.path} is not a plain file, so {SUMS} cannot vouch for it")
        names.append(entry.name)
    return sorted(names)


def read_checksums(path: Path, *, what: str | None = None) -> dict[str, str]:
    """Digest by file name, from a file of which no more is read than tells that it is too large.

    Raises TrustError for one that cannot be read or parsed; ``what`` is its name there, by default the path.
    """
    try:
        with path.open("rb") as f:
            data = f.read(LIMIT + 1)
    except OSError as e:
        raise TrustError(f"cannot read {path}: {e.strerror}") from e
    return parse_checksums(data, what=what or str(path))


def parse_checksums(data: bytes, *, what: str = SUMS) -> dict[str, str]:
    """Digest by file name. Raises TrustError for anything but plain lines, each name once."""
    if len(data) > LIMIT:
        raise TrustError(f"{what} is larger than {LIMIT} bytes")
    found: dict[str, str] = {}
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as e:
        raise TrustError(f"{what} is not plain ASCII text") from e
    for number, line in enumerate(lines, 1):
        match = LINE.fullmatch(line)
        if not match:
            raise TrustError(f"{what}:{number}: not a line of sha256sum's: {line[:80]!r}")
        if match["name"] in found:
            raise TrustError(f"{what}:{number}: {match['name']} is listed twice")
        found[match["name"]] = match["digest"]
    return found


def file_digests(paths: Iterable[Path], *, seen: Callable[[int], None] | None = None) -> dict[Path, str]:
    """SHA-256 of several files, two at a time: hashlib works outside the interpreter's lock."""

    def digest(path: Path) -> str:
        value = file_digest(path)
        if seen:
            seen(path.stat().st_size)
        return value

    ordered = sorted(paths, key=lambda p: -p.stat().st_size)  # the largest first, so that none is left alone
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(ordered, pool.map(digest, ordered), strict=True))
