"""What exactly goes into an image? The lock names every input by size and digest."""

import json
import re
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from builder.errors import InputError, TrustError
from builder.files import write_atomic
from builder.profile.checks import ProfileName
from builder.profile.model import Distribution
from builder.sources import Source
from builder.standin.places import STANDIN_SCHEME

MAX_LOCK = 64 << 20  # bytes; one of a thousand packages has 0.4 MiB
MAX_FILE = 1 << 40  # bytes
RENEW = "renew it with: seatsmith lock PROFILE"


def safe_path(text: str) -> str:
    """A path that stays below a mirror's URL and needs no quoting in it."""
    parts = text.split("/")
    if not re.fullmatch(r"[A-Za-z0-9/@._+:~^=,!-]+", text) or not parts or {"", ".", ".."} & set(parts):
        raise ValueError(f"{text!r} is not a plain relative path")
    return text


def mirror_url(text: str) -> str:
    if not re.fullmatch(rf"(https?|file)://[!-~]+|{STANDIN_SCHEME}[!-~]*", text):
        raise ValueError(f"{text!r} is not a mirror's URL")
    return text


def real_date(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text) or date.fromisoformat(text).year < 2000:
        raise ValueError(f"{text!r} is not a date of this century")
    return text


Word = Annotated[str, Field(pattern=r"^[!-~]*$", max_length=255)]
RepositoryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9@_+][A-Za-z0-9@._+-]*$", max_length=64)]


class LockedFile(BaseModel):
    """One file of a mirror, as the lock pins it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    kind: Literal["package", "tool", "distfile", "database", "signature", "stage", "tree", "index", "key"]
    """A ``tool`` is a package that only building others takes, and no image has."""
    repository: RepositoryName
    """Which of the lock's mirrors it comes from: a key of ``Lock.mirrors``."""
    path: Annotated[str, Field(max_length=1024), AfterValidator(safe_path)]
    """Relative to the mirror's URL."""
    size: int = Field(ge=0, le=MAX_FILE)
    """Bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: Word = ""
    version: Word = ""
    sha512: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    @property
    def filename(self) -> str:
        return PurePosixPath(self.path).name

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.name} {self.version}".strip() or self.filename


class Lock(BaseModel):
    """The exact inputs of one profile's image, from one source."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1] = 1
    profile: ProfileName
    distribution: Distribution
    source: Source
    snapshot: Annotated[str, AfterValidator(real_date)]
    """Date of the mirror's state, YYYY-MM-DD; also the image's version and SOURCE_DATE_EPOCH."""
    request: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of what the profile asked for (packages, repositories); a lock made for another is stale."""
    mirrors: dict[RepositoryName, Annotated[str, AfterValidator(mirror_url)]]
    """URL of each repository; the stand-in's are ``standin:`` plus a path, since its port changes."""
    files: list[LockedFile]
    builds: dict[Word, list[tuple[Word, Word]]] = {}
    """Name and version of what no mirror has as a package, by the image (``image``, ``initrd``) that it is
    built from source for."""

    @model_serializer(mode="wrap")
    def without_no_builds(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Most locks name no builds, and read as they did before there were any."""
        said: dict[str, Any] = handler(self)
        return said if self.builds else {k: v for k, v in said.items() if k != "builds"}

    @model_validator(mode="after")
    def fits_together(self) -> Self:
        places = set()
        for file in self.files:
            if file.repository not in self.mirrors:
                raise ValueError(
                    f"{file.path} is said to come from {file.repository!r}, which has no mirror"
                )
            if (place := (file.repository, file.path)) in places:
                raise ValueError(f"{file.repository} {file.path} is there twice")
            places.add(place)
        if self.builds and len(self.by_kind("tree")) != 1:
            raise ValueError("packages are to be built, and there is no one ebuild tree to build them from")
        return self

    def packages(self) -> list[LockedFile]:
        return [f for f in self.files if f.kind == "package"]

    def installed(self) -> list[LockedFile]:
        """The file that each installed package came in; of one that is built, a distfile or the tree."""
        found = self.packages()
        sources = {(f.name, f.version): f for f in reversed(self.by_kind("distfile"))}
        for name, version in sorted({row for rows in self.builds.values() for row in rows}):
            came = sources.get((name, version)) or self.by_kind("tree")[0]
            found.append(came.model_copy(update={"name": name, "version": version}))
        return found

    def by_kind(self, *kinds: str) -> list[LockedFile]:
        return [f for f in self.files if f.kind in kinds]


def lock_text(lock: Lock) -> str:
    """A lock as JSON with one file a line, so that a diff of two locks reads as a diff of packages."""
    head = lock.model_dump(mode="json", exclude={"files"})
    lines = [json.dumps(f.model_dump(exclude_defaults=True), ensure_ascii=False) for f in lock.files]
    body = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    return f'{body},\n "files": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def write_lock(path: Path, lock: Lock) -> None:
    write_atomic(path, lock_text(lock))


def refuse_rollback(before: Lock, after: Lock) -> None:
    """Refuse a renewed lock with an older stage, tree or index: its packages have holes that are known now.

    They are told apart by version where that says when they were made. Raises TrustError.
    """
    known = {(f.kind, f.name): f.version for f in before.by_kind("stage", "tree", "index") if f.version}
    for file in after.by_kind("stage", "tree", "index"):
        was = known.get((file.kind, file.name), "")
        if (len(file.version), file.version) < (len(was), was):
            raise TrustError(
                f"the mirror offers {file.name} {file.version}, older than the {was} of the lock before",
                hint="try another mirror; if you want the older state, remove the lock first",
            )


def read_lock(path: Path) -> Lock:
    """Read a lock. Raises InputError naming what is wrong in it."""
    try:
        with path.open("rb") as f:
            data = f.read(MAX_LOCK + 1)
    except FileNotFoundError as e:
        raise InputError(f"there is no lock {path}", hint="make one with: seatsmith lock PROFILE") from e
    except OSError as e:
        raise InputError(f"cannot read the lock {path}: {e.strerror}") from e
    return parse_lock(data, path)


def parse_lock(data: bytes, path: Path) -> Lock:
    """Read a lock's bytes; ``path`` is what errors name."""
    if len(data) > MAX_LOCK:
        raise InputError(f"{path}: not a lock: larger than {MAX_LOCK >> 20} MiB", hint=RENEW)
    try:
        text = data.decode()
        json.loads(text, object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: not a lock: {e}", hint=RENEW) from e
    try:
        return Lock.model_validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {where}: {what}" if where else f"{path}: {what}", hint=RENEW) from e


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON leaves open which of two equal keys counts; a lock must not."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return found
