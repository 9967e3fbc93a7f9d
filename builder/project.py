"""Where do the checkout, the cache and the results live?"""

import os
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError, MachineError


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

    def rendered(self, name: str) -> Path:
        """What was last rendered of a profile; beside dist/NAME, whose every file is signed for."""
        return self.dist / f"{name}.rendered"


def cache_home() -> Path:
    """``$XDG_CACHE_HOME/seatsmith``, as the XDG base directory specification names it."""
    return base_directory("XDG_CACHE_HOME", ".cache") / "seatsmith"


def state_home() -> Path:
    """``$XDG_STATE_HOME/seatsmith``: what must be remembered, unlike the cache."""
    return base_directory("XDG_STATE_HOME", ".local/state") / "seatsmith"


def base_directory(variable: str, below_home: str) -> Path:
    """A base directory; a relative path in its variable is ignored, as the specification asks."""
    if (named := Path(os.environ.get(variable, ""))).is_absolute():
        return named
    try:
        return Path.home() / below_home
    except RuntimeError as e:
        raise MachineError(
            "there is no home directory: HOME is not set, and this user is not in passwd(5)",
            hint=f"set HOME or {variable}",
        ) from e


def yaml_names(folder: Path) -> list[str]:
    """The YAML files of a folder, by name without suffix. Raises OSError where it cannot be listed.

    ``Path.glob`` would show a folder that is closed to us as an empty one.
    """
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.stem for path in paths if path.suffix == ".yaml")


def find_project(start: Path | None = None) -> Project:
    """The checkout around ``start`` (default: the working directory), or ``$SEATSMITH_ROOT``.

    Raises InputError where there is none.
    """
    named = os.environ.get("SEATSMITH_ROOT")
    try:
        here = Path(named) if named else (start or Path.cwd())
    except FileNotFoundError as e:
        raise InputError(
            "the working directory has been removed",
            hint="change into the checkout, or set SEATSMITH_ROOT to it",
        ) from e
    for place in (here.resolve(), *here.resolve().parents):
        if (place / "mkosi.conf").is_file() and (place / "profiles").is_dir():
            dist = Path(os.environ.get("SEATSMITH_DIST") or place / "dist")
            return Project(place, cache_home(), dist)
    raise InputError(
        f"{here} is not inside a Seatsmith checkout (no mkosi.conf and profiles/ there or above)",
        hint="change into the checkout, or set SEATSMITH_ROOT to it",
    )
