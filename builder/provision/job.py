"""What is asked for when an environment is replaced, and what is told afterwards?"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import InputError
from builder.files import json_digest
from builder.profile import Profile
from builder.provision.accounts import Hashes
from builder.seat.images import Image
from builder.seat.overlay import hosts
from builder.seat.plan import Environment, Plan


@dataclass(frozen=True)
class Job:
    """What is to be put in an environment's place. ``passphrases`` are by environment.

    ``extents`` is the new volume's size, by default that of the present one. ``old`` says whether there is
    a present one (there is none where an environment is added).
    """

    plan: Plan
    profiles: Mapping[str, Profile]
    environment: Environment
    image: Image
    passphrases: Mapping[str, bytearray]
    keep: tuple[str, ...] = ()
    recovery: bool = False
    passwords: Hashes = field(default_factory=dict)
    """Hashes of users' passwords that are given anew; others are taken over from the old environment."""
    hostname: str | None = None
    """A host name that is given anew; else that of the old environment stays, or the image's."""
    extents: int | None = None
    old: bool = True
    running: str | None = None
    """The host that we run on, if it is one of this seat's."""
    root: Path = Path("/")
    """Where the root of the running host is mounted."""

    @property
    def name(self) -> str:
        return self.environment.name

    @property
    def is_host(self) -> bool:
        return self.name in hosts(self.plan)

    @property
    def uki(self) -> Path:
        """A host's new kernel. Raises InputError where the image has none."""
        if self.image.uki is None:
            raise InputError(f"the image of {self.name} brings no kernel, so it cannot be a host")
        return self.image.uki

    @property
    def given(self) -> str:
        """A digest of what is given anew but for secrets, the users and the host name; or nothing."""
        found = [sorted(self.passwords), self.hostname or ""]
        return json_digest(found) if any(found) else ""

    def made_of(self, extents: int) -> str:
        """A digest of what a new volume is made of beside image, old filesystem and secrets."""
        profiles = {name: profile.model_dump_json() for name, profile in self.profiles.items()}
        return json_digest([self.old, sorted(self.keep), extents, repr(self.plan), profiles])


@dataclass
class Report:
    """What a replacement did. ``recovery`` is the new recovery key, to be shown once and wiped."""

    run: str
    resumed: str | None = None
    """The step at which an interrupted run was taken up."""
    kept: int = 0
    """Bytes of kept files."""
    encrypted: int = 0
    dropped: list[str] = field(default_factory=list)
    """Volumes that were given up for it."""
    seconds: dict[str, float] = field(default_factory=dict)
    recovery: bytearray | None = None
    hosts: list[str] = field(default_factory=list)
    """What became of the files that hosts have for the environment."""
