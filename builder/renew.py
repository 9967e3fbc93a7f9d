"""What would newer packages change? Renews locks, builds before and after, and writes it for a reviewer."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from builder.deliver import deliver
from builder.errors import InputError
from builder.files import linked, remove_tree, write_atomic
from builder.image import lock_path, make_lock, obtain_lock, source_for
from builder.lock import Lock, read_lock, write_lock
from builder.profile import load_profile, profile_names
from builder.project import Project
from builder.publish.diff import ImageDiff, diff_images
from builder.publish.diffview import as_html, as_text
from builder.sources import Source

SUMMARY = "summary.md"
SHOWN = 60  # lines of one section in the summary; a change's description is limited on the services
LIMIT = 60_000  # characters of the summary


@dataclass(frozen=True)
class Renewal:
    """One profile's lock, renewed. ``diff`` is None where its packages are the same as before."""

    profile: str
    before: str
    after: str
    diff: ImageDiff | None


def renew(
    project: Project, names: list[str], to: Path, *, source: str = "auto", date: str | None = None
) -> str:
    """Renew the locks of profiles (all without names) and build them; return the summary, as Markdown.

    ``to`` gets the summary, a page for each difference, and the locks that belong into the checkout. dist/
    holds the new images afterwards. A lock whose packages are the same stays as it was.
    """
    if to.exists() and any(to.iterdir()):
        raise InputError(f"{to} is not empty", hint="name a new directory")
    to.mkdir(parents=True, exist_ok=True)
    names = names or sorted(profile_names(project))
    found = [renew_one(project, name, to, source, date) for name in names]
    text = summary(found)
    write_atomic(to / SUMMARY, text)
    return text


def renew_one(project: Project, name: str, to: Path, source: str, date: str | None) -> Renewal:
    profile = load_profile(project, name)
    origin = source_for(profile, source)
    before = obtain_lock(project, profile, origin, locked=False)
    place = deliver(project, profile, source=origin).place
    after = make_lock(project, profile, origin, date=date)
    path = lock_path(project, profile, origin)
    if contents(before) == contents(after):
        write_lock(path, before)
        return Renewal(name, before.snapshot, after.snapshot, None)
    old = to / f".{name}.old"
    try:
        old.mkdir()
        for file in place.iterdir():
            linked(file, old / file.name)
        deliver(project, profile, source=origin)
        diff = diff_images(old, place)
    finally:
        remove_tree(old)
    write_atomic(to / f"{name}.diff.html", as_html(diff))
    if origin is Source.UPSTREAM:  # the stand-in's lock lives in the cache
        shutil.copyfile(path, to / path.name)
    return Renewal(name, before.snapshot, read_lock(path).snapshot, diff)


def contents(lock: Lock) -> set[tuple[str, str]]:
    """What a lock installs; its databases change from day to day."""
    built = {row for rows in lock.builds.values() for row in rows}
    return built | {(file.name, file.sha256) for file in lock.by_kind("package", "distfile")}


def summary(found: list[Renewal]) -> str:
    lines = ["Newer packages, built and compared with what there was.", ""]
    for one in found:
        lines += [f"## {one.profile}: {one.before} → {one.after}", ""]
        if one.diff is None:
            lines += ["The same packages as before; its lock stays.", ""]
        else:
            lines += ["```", as_text(one.diff, shown=SHOWN), "```", ""]
    text = "\n".join(lines)
    if len(text) > LIMIT:
        text = text[:LIMIT] + "\n```\n\n… cut here; the pages among the artifacts have all.\n"
    return text
