"""How do a lock and its inputs travel to another machine, and what may leave the store?"""

from pathlib import Path

from builder.files import atomic_path
from builder.image import fetch, make_lock, obtain_lock, source_for, store_of
from builder.lock import read_lock, write_lock
from builder.profile import Profile
from builder.project import Project
from builder.sources import Source
from builder.store import Pruned


def export_inputs(project: Project, profile: Profile, source: str, archive: Path) -> int:
    """Write a profile's lock and its inputs into one tar; return the number of files."""
    origin = source_for(profile, source)
    lock = obtain_lock(project, profile, origin, locked=False)
    if origin is Source.STANDIN and not lock.by_kind("key"):  # made before locks named it
        lock = make_lock(project, profile, origin)
    fetch(project, lock)
    with atomic_path(archive) as made:
        return store_of(project).export(lock, made)


def import_inputs(project: Project, archive: Path) -> tuple[str, int]:
    """Take an exported tar in; return the profile's name and the number of files."""
    lock, count = store_of(project).load(archive)
    path = project.profiles if lock.source is Source.UPSTREAM else project.locks
    write_lock(path / f"{lock.profile}.{lock.source}.lock", lock)
    return lock.profile, count


def prune_store(project: Project, *, dry_run: bool) -> Pruned:
    """Remove from the store what no lock of the project names, be it in the cache, profiles/ or dist/.

    Raises InputError where one of them cannot be read, and removes nothing then.
    """
    places = [*project.locks.glob("*.lock"), *project.profiles.glob("*.lock")]
    places += project.dist.glob("*/*.lock")
    kept = {file.sha256 for place in sorted(places) for file in read_lock(place).files}
    return store_of(project).prune(kept, dry_run=dry_run)
