"""Which rebuild statements are there about an image, in files or on a site, and whose of them count?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from builder.errors import InputError
from builder.files import write_atomic
from builder.outputs.checksums import SUMS, read_checksums
from builder.outputs.record import role_of
from builder.outputs.sign import SIGNATURE_LIMIT
from builder.outputs.statement import (
    LIMIT,
    STATEMENT_SUFFIX,
    SignedStatement,
    rebuilders,
    require_rebuilders,
    subjects,
)
from builder.outputs.verify import Report, verify_directory
from builder.publish.index import SAFE_NAME, Release, release_place
from builder.tools import Tools


def read_statements(places: Sequence[Path]) -> list[SignedStatement]:
    """The statements in these files, and in these directories under ``*.rebuild.json``.

    Raises InputError for a place that does not exist and a statement without its signature (``….gpg``).
    """
    found: list[Path] = []
    for place in places:
        if not place.exists():
            raise InputError(f"there is no rebuild statement {place}", hint="make one: seatsmith rebuild")
        found += sorted(place.glob(f"*{STATEMENT_SUFFIX}")) if place.is_dir() else [place]
    return [
        SignedStatement(
            path.name,
            limited(path, LIMIT),
            limited(path.with_name(f"{path.name}.gpg"), SIGNATURE_LIMIT),
        )
        for path in found
    ]


def limited(path: Path, limit: int) -> bytes:
    """A file's content. Raises InputError where it cannot be read or has more than ``limit`` bytes."""
    try:
        with path.open("rb") as f:
            data = f.read(limit + 1)
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}") from e
    if len(data) > limit:
        raise InputError(f"{path} is larger than {limit} bytes")
    return data


def verify_vouched(
    directory: Path,
    *,
    keys: Sequence[bytes],
    statements: Sequence[Path],
    rebuilder_keys: Sequence[bytes],
    number: int,
    tools: Tools | None = None,
) -> tuple[Report, list[str]]:
    """Check a signed result, and that ``number`` others vouch for it; return the report and who they are.

    Each key counts once, and the one that signed the result does not. Raises InputError where there is no
    result, TrustError for one that must not be trusted.
    """
    if not directory.is_dir():
        raise InputError(
            f"there is no image of {directory.name} in {directory}",
            hint="build it, or fetch it: seatsmith pull",
        )
    report = verify_directory(directory, keys=keys, tools=tools)
    report.raise_for_problems()
    assert report.signature is not None  # without one there would be a problem
    found = rebuilders(
        read_statements(statements),
        report.digests,
        keys=rebuilder_keys,
        publisher=report.signature.fingerprint,
        tools=tools,
    )
    require_rebuilders(found, number)
    return report, found


def add_statements(
    root: Path, profiles: Mapping[str, Sequence[Release]], statements: Sequence[SignedStatement], extra: str
) -> dict[str, list[Release]]:
    """Put statements beside the releases that they are about, and name them there.

    Who signed them is for those to judge who pull. Raises InputError for one that fits no release.
    """
    made = {profile: list(releases) for profile, releases in profiles.items()}
    for statement in statements:
        wanted = subjects(statement.data)
        place = next(
            (
                (profile, number)
                for profile, releases in made.items()
                for number, release in enumerate(releases)
                if wanted and wanted == published_images(release_place(root, profile, release.version))
            ),
            None,
        )
        if place is None or not SAFE_NAME.fullmatch(statement.name):
            raise InputError(f"{statement.name} is about no image that is published in {root}")
        profile, number = place
        release = made[profile][number]
        for name, data in ((statement.name, statement.data), (f"{statement.name}.gpg", statement.signature)):
            write_atomic(root / profile / extra / name, data)
        named = sorted({*release.rebuilds, statement.name})
        made[profile][number] = release.model_copy(update={"rebuilds": named})
    return made


def published_images(place: Path) -> dict[str, str]:
    """Digests of a published image by file name. Raises TrustError where they cannot be read."""
    listed = read_checksums(place / SUMS)
    return {name: digest for name, digest in listed.items() if role_of(name)}
