"""Where do the checkout, the cache and the results live?"""

import os
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError


@dataclass(frozen=True)
class Project:
    """The places of one checkout. ``root`` may be read-only if ``SEATSMITH_DIST`` points elsewhere."""

    root: Path
    cache: Path
    dist: Path

    @property
    def profiles(self) -> Path:
        return self.root / "profiles"

    @property
    def seats(self) -> Path:
        return self.profiles / "seats"

    @property
    def locks(self) -> Path:
        return self.cache / "locks"


def cache_home() -> Path:
    """``$XDG_CACHE_HOME/seatsmith``, as the XDG base directory specification names it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "seatsmith"


def state_home() -> Path:
    """``$XDG_STATE_HOME/seatsmith``: what must be remembered, unlike the cache."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "seatsmith"


def find_project(start: Path | None = None) -> Project:
    """The checkout around ``start`` (default: the working directory), or ``$SEATSMITH_ROOT``.

    Raises InputError where there is none.
    """
    named = os.environ.get("SEATSMITH_ROOT")
    here = Path(named) if named else (start or Path.cwd())
    for place in (here.resolve(), *here.resolve().parents):
        if (place / "mkosi.conf").is_file() and (place / "profiles").is_dir():
            dist = Path(os.environ.get("SEATSMITH_DIST") or place / "dist")
            return Project(place, cache_home(), dist)
    raise InputError(
        f"{here} is not inside a Seatsmith checkout (no mkosi.conf and profiles/ there or above)",
        hint="change into the checkout, or set SEATSMITH_ROOT to it",
    )
