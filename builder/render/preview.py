"""What is rendered for a profile, and what did a change of the profile change in it?"""

import difflib
from collections.abc import Iterator
from pathlib import Path

from builder.files import atomic_path, refuse_foreign
from builder.profile import Profile
from builder.render.bundle import render_host_bundle
from builder.render.host import sound_user
from builder.render.image import mkosi_settings, render_image
from builder.render.templates import write_file


def render_all(profile: Profile, dest: Path, *, host_user: str | None = None) -> None:
    """Render everything that follows from the profile alone: ``image/``, ``host/`` and ``mkosi.conf``."""
    render_image(profile, dest / "image")
    render_host_bundle(profile, dest / "host", host_user=host_user or sound_user(profile))
    lines = [f"{key}={value}" for key, value in mkosi_settings(profile).items()]
    write_file(dest, "mkosi.conf", "\n".join(["[Content]", *lines, ""]))


def keep_rendered(profile: Profile, final: Path, *, host_user: str | None = None) -> None:
    """Render into ``final``, replacing what was rendered there before as a whole."""
    refuse_foreign(final, ("image",), "an earlier rendering")
    with atomic_path(final) as made:
        render_all(profile, made, host_user=host_user)


def tree_diff(old: Path, new: Path) -> Iterator[str]:
    """Unified diff between two trees of text files; links and modes count, and a missing tree is empty."""
    before, after = tree_text(old), tree_text(new)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name):
            continue
        was, now = before.get(name), after.get(name)
        yield from difflib.unified_diff(
            was or [],
            now or [],
            f"a/{name}" if was is not None else "/dev/null",
            f"b/{name}" if now is not None else "/dev/null",
            lineterm="",
        )


def tree_text(root: Path) -> dict[str, list[str]]:
    """The lines of every file below ``root``; a link is the one line ``-> target``."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = [f"-> {path.readlink()}"]
        elif path.is_file():
            found[name] = path.read_text(encoding="utf-8", errors="replace").splitlines()
            if path.stat().st_mode & 0o111:
                found[name].insert(0, "(executable)")
    return found
