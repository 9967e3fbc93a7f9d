"""What must a distribution be able to do for us? The interface that Arch and Gentoo both implement."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from builder.errors import InputError
from builder.lock import Lock
from builder.profile import Profile
from builder.project import Project
from builder.sources import Source
from builder.store import Store
from builder.tools import Tools


class UnknownPackages(InputError):
    """The package manager knows no such packages; ``answers`` has a line about each, by name."""

    def __init__(self, answers: dict[str, str]) -> None:
        super().__init__("\n".join(answers.values()), hint="see packages.add in the profile")
        self.answers = answers


@dataclass(frozen=True)
class Prepared:
    """What mkosi needs for one build: settings by section, as in mkosi.conf(5)."""

    settings: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    initrd: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """More settings for the initrd, which is an image of its own."""


class Backend(Protocol):
    """One distribution. All methods leave the caller's files alone except below ``scratch``."""

    probe_url: str
    """What answers when the upstream source can be reached."""

    def request(self, profile: Profile, project: Project, source: Source) -> str:
        """Digest of everything that makes a lock stale when it changes."""
        ...

    def resolve(
        self,
        profile: Profile,
        *,
        source: Source,
        date: str | None,
        project: Project,
        store: Store,
        tools: Tools,
        scratch: Path,
    ) -> Lock:
        """Ask the distribution's own package manager what has to be installed. Needs the network.

        Raises InputError for an unknown package, TrustError for a bad signature or key.
        """
        ...

    def prepare(
        self, profile: Profile, lock: Lock, *, store: Store, project: Project, tools: Tools, scratch: Path
    ) -> Prepared:
        """Lay the locked files out below ``scratch`` as the package manager wants them; no network."""
        ...
