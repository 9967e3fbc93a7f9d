"""Profiles and text pictures for the tests of builder.render."""

from pathlib import Path
from typing import Any

from builder.profile import Profile, load_profile
from builder.project import Project

ROOT = Path(__file__).parents[2]
UUID = "/dev/disk/by-uuid/55550002-4444-4444-8444-444444444444"


def shipped(name: str) -> Profile:
    """A profile as this repository ships it."""
    return load_profile(Project(ROOT, ROOT / "cache", ROOT / "dist"), name)


def profile(name: str = "work", **settings: Any) -> Profile:
    """A small profile with one user; ``settings`` are as in YAML."""
    start: dict[str, Any] = {
        "name": name,
        "display": {"vt": 8, "autologin": "user"},
        "users": [{"name": "user", "uid": 1000}],
    }
    return Profile.model_validate({**start, **settings})


def shared(name: str = "work", **settings: Any) -> Profile:
    """The same with the plain binds of the host's devices."""
    return profile(name, isolation="shared", **settings)


def without_programs(tree: Path) -> Path:
    """A bundle whose programs are empty files, as they have tests of their own."""
    for program in (tree / "usr/lib/seatsmith").rglob("*"):
        if program.suffix == ".py" or program.name == "seatsmith-udev-forward":
            program.write_text("")
    return tree


def picture(tree: Path) -> str:
    """A tree as one text: every path with its mode or link target, and every file's content."""
    parts = []
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree).as_posix()
        if path.is_symlink():
            parts.append(f"=== {name} -> {path.readlink()}\n")
        elif path.is_file():
            parts.append(
                f"=== {name} {path.stat().st_mode & 0o7777:o}\n{path.read_text(encoding='utf-8')}\n"
            )
        elif path.is_dir():
            parts.append(f"=== {name}/ {path.stat().st_mode & 0o7777:o}\n")
    return "".join(parts)
