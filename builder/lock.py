"""What exactly goes into an image? The lock names every input by size and digest."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from builder.errors import InputError
from builder.files import write_atomic
from builder.sources import Source

FORMAT = 1


class LockedFile(BaseModel):
    """One file of a mirror, as the lock pins it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["package", "database", "signature", "stage", "tree", "index"]
    repository: str
    """Which of the lock's mirrors it comes from: a key of ``Lock.mirrors``."""
    path: str
    """Relative to the mirror's URL."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    name: str = ""
    version: str = ""
    sha512: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    @property
    def filename(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def title(self) -> str:
        """What a person calls it."""
        return f"{self.name} {self.version}".strip() or self.filename


class Lock(BaseModel):
    """The exact inputs of one profile's image, from one source."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    profile: str
    distribution: str
    source: Source
    snapshot: str
    """Date of the mirror's state, YYYY-MM-DD; also the image's version and SOURCE_DATE_EPOCH."""
    request: str
    """Digest of what the profile asked for (packages, repositories); a lock made for another is stale."""
    mirrors: dict[str, str]
    """URL of each repository; the stand-in's are ``standin:`` plus a path, since its port changes."""
    files: list[LockedFile]

    def packages(self) -> list[LockedFile]:
        return [f for f in self.files if f.kind == "package"]

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


def read_lock(path: Path) -> Lock:
    """Read a lock. Raises InputError naming what is wrong in it."""
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError as e:
        raise InputError(f"there is no lock {path}", hint="make one with: seatsmith lock PROFILE") from e
    return parse_lock(text, path)


def parse_lock(text: str, path: Path) -> Lock:
    """Read a lock's text; ``path`` is what errors name."""
    try:
        data: Any = json.loads(text)
    except ValueError as e:
        raise InputError(f"{path}: not a lock: {e}", hint="renew it with: seatsmith lock PROFILE") from e
    try:
        return Lock.model_validate(data)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: {where}: {first['msg']}", hint="renew it with: seatsmith lock PROFILE"
        ) from e
