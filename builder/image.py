"""How does a profile become an image? Lock, fetch, render, mkosi, and the finished files under one key."""

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder import mkosi, ui
from builder.archive import pack_tree
from builder.chroot import as_root, remove_foreign_tree
from builder.distro import backend
from builder.distro.base import UnknownPackages
from builder.errors import InputError
from builder.files import (
    PART,
    atomic_path,
    exclusive,
    file_digest,
    json_digest,
    no_space_named,
    remove_tree,
    tree_digest,
    write_json,
)
from builder.imagefault import build_failure, lacking, unknown_packages
from builder.keptinitrd import initrd_key, keep_initrd, kept_initrd
from builder.lock import Lock, LockedFile, read_lock, refuse_rollback, write_lock
from builder.profile import Profile
from builder.project import Project
from builder.run import Arg, ProgramError, run
from builder.sources import Source, choose_source, reachable, refuse_silent
from builder.standin.keys import public_key_of
from builder.standin.places import STANDIN_SCHEME, standin_root
from builder.store import Store
from builder.tools import Tools, ensure_tools, tree_key

# what below builder/ an image depends on
SHAPING = (
    "archive.py",
    "broker",
    "distro",
    "image.py",
    "keptinitrd.py",
    "localegen.py",
    "mkosi.py",
    "normalise.py",
    "render",
    "templates",
    "treecheck.py",
)
DONE = "done.json"  # says what is in a finished image's place in the cache
VERSION = r"[a-z0-9][a-z0-9.-]{0,63}"  # os-release(5), less the "_" that parts the names of files
KEPT_ARTIFACTS = 3  # finished images kept in the cache for each profile


@dataclass(frozen=True)
class Artifacts:
    """The finished files of one image build, in the cache under the key of all its inputs."""

    place: Path
    lock: Lock
    version: str
    epoch: int

    @property
    def image(self) -> Path:
        return self.place / "image.tar.zst"

    @property
    def bundle(self) -> Path:
        return self.place / "host.tar.zst"

    @property
    def uki(self) -> Path | None:
        path = self.place / "image.efi"
        return path if path.exists() else None


def store_of(project: Project) -> Store:
    from builder.shared import shared_store

    return Store(project.cache / "store", shared=shared_store())


def lock_path(project: Project, profile: Profile, source: Source) -> Path:
    """Locks of upstream belong into git; the stand-in's lives and dies with the stand-in in the cache."""
    if source is Source.UPSTREAM:
        return project.profiles / f"{profile.name}.upstream.lock"
    return project.locks / f"{profile.name}.standin.lock"


def make_lock(project: Project, profile: Profile, source: Source, *, date: str | None = None) -> Lock:
    """Resolve and write a profile's lock anew."""
    if source is Source.UPSTREAM:
        refuse_silent(backend(profile.distribution).probe_url)
    tools = ensure_tools()
    with at_work(project, profile):
        scratch = scratch_place(project, profile, "resolve")
        try:
            with ui.current().step(f"Resolving the packages of {profile.name} ({source})"):
                lock = backend(profile.distribution).resolve(
                    profile,
                    source=source,
                    date=date,
                    project=project,
                    store=store_of(project),
                    tools=tools,
                    scratch=scratch,
                )
        except UnknownPackages as e:
            raise unknown_packages(project, profile, e) from e
        finally:
            remove_tree(scratch)
        path = lock_path(project, profile, source)
        if source is Source.UPSTREAM and date is None and path.exists():
            refuse_rollback(read_lock(path), lock)
        write_lock(path, lock)
    return lock


def at_work(project: Project, profile: Profile) -> AbstractContextManager[int]:
    """Keeps two builds of one profile apart, by a lock whose descriptor it yields. Raises BusyError."""
    return exclusive(project.cache / "work" / f"{profile.name}.lock", f"the image of {profile.name}")


def obtain_lock(project: Project, profile: Profile, source: Source, *, locked: bool) -> Lock:
    """The lock to build from: obeyed where there is one for this request, else made, unless ``locked``."""
    path = lock_path(project, profile, source)
    hint = f"make it: seatsmith lock {profile.name}"
    if path.exists():
        lock = read_lock(path)
        asked = backend(profile.distribution).request(profile, project, source)
        if (lock.profile, lock.source, lock.request) != (profile.name, source, asked):
            why = "was made for other packages than the profile now asks for"
        elif (lacking := lost(lock, store_of(project))) is not None:
            why = f"is of another machine's stand-in, and the store lacks {lacking}"
            hint = "take it in again: seatsmith store import"
        elif not current(lock, store_of(project)):
            why = "was made for an earlier stand-in"
        else:
            return lock
    else:
        why = "does not exist"
    if locked:
        raise InputError(f"the lock {path} {why}", hint=hint)
    ui.current().say(f"The lock {path} {why}; resolving.")
    return make_lock(project, profile, source)


def current(lock: Lock, store: Store) -> bool:
    """Whether a lock's mirror still is as it was: the stand-in may have been made anew."""
    if lock.source is Source.UPSTREAM or is_carried(lock, store):
        return True
    return all(
        place.is_file() and file_digest(place) == file.sha256
        for place, file in mirrored_indexes(lock).items()
    )


def is_carried(lock: Lock, store: Store) -> bool:
    """Whether a lock is of another machine's stand-in, and came with all that it names (store import)."""
    return is_foreign(lock) and lost(lock, store) is None


def lost(lock: Lock, store: Store) -> str | None:
    """What the store lacks of a lock of another machine's stand-in; None where it is whole, or ours."""
    files = lock.files if is_foreign(lock) else []
    return next(filter(None, map(store.lack, files)), None)


def is_foreign(lock: Lock) -> bool:
    from builder.standin.mirror import standin_home

    own = public_key_of(standin_home() / "key")
    keys = {file.sha256 for file in lock.by_kind("key")}
    return bool(keys) and not (own.is_file() and file_digest(own) in keys)


def mirrored_indexes(lock: Lock) -> dict[Path, LockedFile]:
    """The databases that a lock of the stand-in was made from, where the stand-in has them now."""
    found = {}
    for file in lock.by_kind("database", "index"):
        url = lock.mirrors[file.repository]
        if url.startswith(STANDIN_SCHEME):
            root, path = standin_root(url)
            found[root / path / file.path] = file
    return found


def scratch_place(project: Project, profile: Profile, purpose: str) -> Path:
    """A fresh directory for one run; what a killed run left there is removed first."""
    place = project.cache / "work" / f"{profile.name}.{purpose}"
    remove_foreign_tree(place)
    place.mkdir(parents=True)
    return place


def code_digest(project: Project) -> str:
    """Digest of everything of ours that shapes an image: mkosi's settings, templates, some modules."""
    package = Path(__file__).parent
    paths = [*sorted(project.root.glob("mkosi.*")), *(package / name for name in SHAPING)]
    return json_digest({path.name: tree_digest(path) for path in paths})


def image_key(project: Project, profile: Profile, lock: Lock, version: str) -> str:
    """The digest of all inputs; equal keys give equal images."""
    inputs = {
        "profile": profile.model_dump(mode="json"),
        "files": tree_digest(project.profiles / profile.files) if profile.files else None,
        "lock": json_digest(lock.model_dump(mode="json")),
        "version": version,
        "tools": tree_key(),
        "code": code_digest(project),
    }
    return json_digest(inputs)[:32]


def epoch_of(lock: Lock) -> int:
    return int(datetime.strptime(lock.snapshot, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())


def version_of(lock: Lock) -> str:
    """The image's version: the date of its packages; os-release(5) allows digits, a-z, '.', '_' and '-'."""
    dotted = lock.snapshot.replace("-", ".")
    return dotted if lock.source is Source.UPSTREAM else f"{dotted}-{lock.source}"


def checked_version(text: str) -> str:
    """Raises InputError for what cannot be the version of an image."""
    if not re.fullmatch(VERSION, text):
        hint = "accepted: digits, a to z, '.' and '-', such as 2026.11.01"
        raise InputError(f"{text!r} is no version", hint=hint)
    return text


def build_artifacts(
    project: Project, profile: Profile, lock: Lock, *, version: str | None = None, force: bool = False
) -> Artifacts:
    """Build a profile's image from its lock, or find it finished in the cache."""
    version = checked_version(version or version_of(lock))
    key = image_key(project, profile, lock, version)
    place = project.cache / "images" / profile.name / key
    artifacts = Artifacts(place, lock, version, epoch_of(lock))
    if not force and is_whole(place):
        return artifacts
    with at_work(project, profile) as held:
        tools = ensure_tools()
        fetch(project, lock)
        scratch = scratch_place(project, profile, "image")
        cache = incremental_cache(project, profile, lock)
        initrd_of = initrd_key(project, profile, lock, version)
        # mkosi clears its output of what begins with the image's name
        reusable = profile.bootable and not force and not mkosi.INITRD.startswith(profile.name)
        kept = kept_initrd(project, profile, initrd_of) if reusable else None
        build = mkosi.Build(profile, lock, version, epoch_of(lock), scratch, cache, kept)
        try:
            with no_space_named(project.cache), atomic_path(place) as made:
                made.mkdir()
                run_build(build, project, tools, made, held=held)
                if profile.bootable and kept is None:
                    keep_initrd(project, profile, initrd_of, build.made_initrd)
                write_json(made / DONE, {path.name: file_digest(path) for path in finished(made)})
        finally:
            remove_tree(scratch)
        prune(place.parent, keep=place)
    return artifacts


def finished(place: Path) -> list[Path]:
    """The files of a finished image in the cache."""
    return sorted(path for path in place.iterdir() if path.is_file() and path.name != DONE)


def is_whole(place: Path) -> bool:
    """Whether a finished image is as it was put there: dist/NAME shares its files by hard links."""
    try:
        noted = json.loads((place / DONE).read_text())
        return bool(noted == {path.name: file_digest(path) for path in finished(place)})
    except (OSError, ValueError):
        return False


def fetch(project: Project, lock: Lock) -> None:
    """Bring everything that the lock names into the store."""
    store = store_of(project)
    if all(store.has(f) for f in lock.files):
        return
    with reachable(lock.mirrors) as urls:
        store.fetch(lock, urls)


def incremental_cache(project: Project, profile: Profile, lock: Lock) -> Path:
    """mkosi's cache of installed packages, one for each state of the lock; older ones are removed.

    How we become root counts, too: what an ordinary user had before that was done all belonged to root.
    """
    parent = project.cache / "incremental" / profile.name
    place = parent / json_digest([lock.model_dump(mode="json"), tree_key(), *as_root([])])[:16]
    for old in parent.glob("*"):
        if old != place:
            remove_foreign_tree(old)
    return place


def run_build(
    build: mkosi.Build,
    project: Project,
    tools: Tools,
    made: Path,
    *,
    held: int,
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    options: Sequence[Arg] = (),
) -> None:
    """Run mkosi, while the lock ``held`` is, and move what it made into ``made`` under fixed names.

    ``prefix``, ``environment`` and ``options`` are for comparing builds: words before the command line, more
    environment variables, more options for mkosi.
    """
    name = build.profile.name
    mkosi.prepare(build, project, store=store_of(project), tools=tools)
    argv, base_environment = mkosi.command(build, project, tools, [*options, "--force", "build"])
    env = {**base_environment, **(environment or {})}
    log = build.scratch / "mkosi.log"
    try:
        with ui.current().step(f"Building the image of {name} {build.version} with mkosi"):
            run([*prefix, *argv], env=env, log_to=log, cwd=project.root, held=held)
    except ProgramError as e:
        kept = project.cache / "logs" / f"{name}.mkosi.log"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
        raise lacking(project, build.profile, log) or build_failure(name, log, kept) from e
    (build.output / f"{name}.tar.zst").rename(made / "image.tar.zst")
    uki = build.output / f"{name}.efi"
    if uki.exists():
        shutil.copyfile(uki, made / "image.efi")
    bundle = build.rendered / "host"
    from builder.render import render_host_bundle, sound_user

    render_host_bundle(build.profile, bundle, host_user=sound_user(build.profile))
    pack_tree(bundle, made / "host.tar.zst", epoch=build.epoch)
    shutil.copytree(build.rendered, made / "rendered", symlinks=True)


def prune(parent: Path, *, keep: Path) -> None:
    """Keep the newest few finished images of a profile, and nothing unfinished."""
    places = sorted((p for p in parent.iterdir() if p.is_dir()), key=lambda p: p.stat().st_mtime)
    unfinished = [p for p in places if p.suffix == PART]  # of killed builds: the caller is the only one
    for old in [*unfinished, *[p for p in places if p not in unfinished][:-KEPT_ARTIFACTS]]:
        if old != keep:
            remove_tree(old)


def source_for(profile: Profile, wanted: str) -> Source:
    return choose_source(wanted, backend(profile.distribution).probe_url)


def interactive_mkosi(project: Project, profile: Profile, source: str, words: list[str]) -> int:
    """Call mkosi with a profile's settings and the caller's terminal; its exit status is returned."""
    lock = obtain_lock(project, profile, source_for(profile, source), locked=False)
    tools = ensure_tools()
    fetch(project, lock)
    with at_work(project, profile):
        scratch = scratch_place(project, profile, "mkosi")
        cache = incremental_cache(project, profile, lock)
        build = mkosi.Build(profile, lock, version_of(lock), epoch_of(lock), scratch, cache)
        mkosi.prepare(build, project, store=store_of(project), tools=tools)
        argv, environment = mkosi.command(build, project, tools, list[Arg](words or ["summary"]))
        return subprocess.run(argv, env=environment, cwd=project.root, check=False).returncode
