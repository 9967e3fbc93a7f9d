"""What does a publisher offer? ``index.json``: every release by number and digest, signed, with an expiry.

The signature over the index says what is current and until when that may be believed; the one over a
release's SHA256SUMS says that its files are genuine. A mirror that shows old files can only do so until the
index expires, and one that goes back to an older index is found out by its serial number.
"""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from builder.errors import InputError, TrustError

INDEX = "index.json"
INDEX_SIGNATURE = "index.json.gpg"
LIMIT = 8 << 20  # bytes
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
NAME_PATTERN = rf"^{SAFE_NAME.pattern}$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"


class Delta(BaseModel):
    """A patch that makes this release's image from an older one's."""

    model_config = ConfigDict(frozen=True)

    base: str = Field(pattern=NAME_PATTERN)
    """Version that it starts from."""
    file: str = Field(pattern=NAME_PATTERN)
    size: int = Field(ge=0)
    sha256: str = Field(pattern=DIGEST_PATTERN)


class Patch(Delta):
    """A patch that makes another file of this release, not its image, from one of an older release's."""

    source: str = Field(pattern=NAME_PATTERN)
    """File of that version."""
    target: str = Field(pattern=NAME_PATTERN)
    """File of this release."""


class Release(BaseModel):
    """One published version of a profile's image."""

    model_config = ConfigDict(frozen=True)

    release: int = Field(ge=1)
    """Counts up with every release of the profile; what "older" means."""
    version: str = Field(pattern=NAME_PATTERN)
    source: str
    sums: str = Field(pattern=DIGEST_PATTERN)
    """SHA-256 of the release's SHA256SUMS."""
    size: int = Field(ge=0)
    """Bytes of all its files."""
    published: AwareDatetime
    deltas: list[Delta] = []
    patches: list[Patch] = []
    rebuilds: list[str] = []
    """Names of the rebuild statements that others have made of it."""
    diff: str = ""
    """Page that shows what changed since the release before."""
    report: str = ""
    """Page of the boot test."""

    def updates(self) -> dict[str, int]:
        """Bytes that whoever has another version fetches, by that version."""
        steps: list[Delta] = [*self.deltas, *self.patches]
        return {delta.base: sum(s.size for s in steps if s.base == delta.base) for delta in self.deltas}


class Index(BaseModel):
    """Everything that a publisher offers now."""

    model_config = ConfigDict(frozen=True)

    format: int = Field(1, ge=1, le=1)
    serial: int = Field(ge=1)
    """Counts up with every change of the index."""
    published: AwareDatetime
    expires: AwareDatetime
    profiles: dict[str, list[Release]]
    """Releases by profile, the newest first."""

    def latest(self, profile: str) -> Release:
        return self.find(profile, None)

    def find(self, profile: str, version: str | None) -> Release:
        """The newest release of a profile, or the one with this version. Raises InputError."""
        releases = self.profiles.get(profile, [])
        if not releases:
            offered = ", ".join(sorted(self.profiles)) or "nothing"
            raise InputError(f"{profile!r} is not published there", hint=f"what is: {offered}")
        if version is None:
            return max(releases, key=lambda r: r.release)
        for release in releases:
            if release.version == version:
                return release
        offered = ", ".join(r.version for r in releases)
        raise InputError(f"{profile} {version} is not published there", hint=f"what is: {offered}")


def parse_index(data: bytes) -> Index:
    """Read an index whose signature has been checked. Raises TrustError."""
    if len(data) > LIMIT:
        raise TrustError(f"{INDEX} is larger than {LIMIT} bytes")
    try:
        index = Index.model_validate_json(data)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TrustError(f"{INDEX}: {where}: {first['msg']}") from e
    for profile in index.profiles:
        if not SAFE_NAME.fullmatch(profile):
            raise TrustError(f"{INDEX}: {profile!r} is no name of a profile")
    return index


def index_text(index: Index) -> str:
    return index.model_dump_json(indent=1) + "\n"


def release_place(root: Path, profile: str, version: str) -> Path:
    return root / profile / version


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def parse_span(text: str) -> timedelta:
    """A time span such as ``30d``, ``12h`` or ``90m``. Raises InputError."""
    match = re.fullmatch(r"(\d{1,6})([dhm])", text)
    if not match or int(match[1]) == 0:
        raise InputError(f"{text!r} is not a time span", hint="accepted: 30d, 12h, 90m")
    return timedelta(**{{"d": "days", "h": "hours", "m": "minutes"}[match[2]]: int(match[1])})
