"""Is an image the same when somebody else builds it? A second build under other conditions, compared."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from builder import mkosi
from builder.errors import CheckFailed
from builder.files import exclusive, file_digest, remove_tree
from builder.image import (
    DONE,
    build_artifacts,
    epoch_of,
    fetch,
    obtain_lock,
    run_build,
    scratch_place,
    version_of,
)
from builder.imagediff import describe_difference
from builder.lock import Lock
from builder.profile import Profile
from builder.project import Project
from builder.run import Arg
from builder.sources import Source
from builder.tools import Tools, ensure_tools

OTHER_UMASK = 0o027
OTHER_ENVIRONMENT = {"TZ": "Pacific/Kiritimati", "LANG": "tr_TR.UTF-8", "LC_ALL": "tr_TR.UTF-8"}
OTHER_HOSTNAME = "elsewhere"
# In libfaketime's notation. Keys of Arch's packagers expire, and pacman then refuses what they signed.
FAKE_OFFSETS = {Source.STANDIN: "+400d", Source.UPSTREAM: "+1d"}
FAKETIME = "usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@dataclass(frozen=True)
class Conditions:
    """How a build's surroundings differ from those of another, and what the differences are called."""

    named: list[str] = field(default_factory=list)
    prefix: list[str] = field(default_factory=list)
    """Words before mkosi's own command line."""
    environment: dict[str, str] = field(default_factory=dict)
    options: list[Arg] = field(default_factory=list)
    """Options for mkosi."""


@dataclass(frozen=True)
class Outcome:
    """Digests of the compared files, by name, and what was different about the second build."""

    digests: dict[str, str]
    conditions: list[str]


def verify_reproducible(project: Project, profile: Profile, source: Source) -> Outcome:
    """Build a profile twice and compare. Raises CheckFailed naming the first differing files."""
    lock = obtain_lock(project, profile, source, locked=False)
    first = build_artifacts(project, profile, lock)
    with built_elsewhere(project, profile, lock, version_of(lock)) as (made, conditions):
        return Outcome(compared(first.place, made), conditions)


@contextlib.contextmanager
def built_elsewhere(
    project: Project, profile: Profile, lock: Lock, version: str
) -> Iterator[tuple[Path, list[str]]]:
    """The files of a build from scratch under other conditions, and what these were called."""
    fetch(project, lock)
    tools = ensure_tools()
    lock_file = project.cache / "work" / f"{profile.name}.verify.lock"
    with exclusive(lock_file, f"verifying {profile.name}") as held:
        scratch = scratch_place(project, profile, "verify")
        try:
            made, elsewhere = scratch / "made", scratch / "another place"
            made.mkdir()
            elsewhere.mkdir()
            build = mkosi.Build(profile, lock, version, epoch_of(lock), elsewhere, scratch / "cache")
            with other_conditions(tools, lock.source) as conditions:
                run_build(
                    build,
                    project,
                    tools,
                    made,
                    held=held,
                    prefix=conditions.prefix,
                    environment=conditions.environment,
                    options=conditions.options,
                )
            yield made, conditions.named
        finally:
            remove_tree(scratch)


@contextlib.contextmanager
def other_conditions(tools: Tools, source: Source) -> Iterator[Conditions]:
    """Another umask, time zone, locale, host name, number of CPUs and time of day, as far as we may."""
    named = ["another directory", f"umask {OTHER_UMASK:04o}", "another time zone and locale"]
    prefix: list[str] = []
    if os.geteuid() == 0:
        named.append("another host name")
        renamed = f'hostname {OTHER_HOSTNAME} && exec "$@"'
        prefix = ["unshare", "--uts", "--", "sh", "-c", renamed, "sh"]
    cpus = os.sched_getaffinity(0)
    if len(cpus) > 1:
        named.append(f"1 CPU instead of {len(cpus)}")
    options: list[Arg] = []
    if tools.root is not None and (tools.root / FAKETIME).exists():
        offset = FAKE_OFFSETS[source]
        named.append(f"a clock {offset.strip('+d')} days ahead")
        # for the package manager and all scripts. Not by ld.so.preload: then mkosi's own cp would take the
        # shifted times that stat(2) reports for real ones, as NO_FAKE_STAT does not reach it.
        clock = {"LD_PRELOAD": f"/{FAKETIME}", "FAKETIME": offset, "NO_FAKE_STAT": "1"}
        options = [word for name, value in clock.items() for word in ("--environment", f"{name}={value}")]
    umask = os.umask(OTHER_UMASK)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield Conditions(named, prefix, OTHER_ENVIRONMENT, options)
    finally:
        os.umask(umask)
        os.sched_setaffinity(0, cpus)


def compared(first: Path, second: Path) -> dict[str, str]:
    """Digests of the files of two builds. Raises CheckFailed where one differs."""
    digests = {}
    files = (path for place in (first, second) for path in place.iterdir() if path.is_file())
    for name in sorted({path.name for path in files} - {DONE}):
        path, other = first / name, second / name
        if not path.exists() or not other.exists():
            one = "first" if path.exists() else "second"
            raise CheckFailed(f"{name} was made by the {one} of the two builds alone")
        digests[name] = file_digest(path)
        if file_digest(other) == digests[name]:
            continue
        what = describe_difference(path, other)
        kept = first.parent / f"differs-{name}"
        shutil.copyfile(other, kept)
        raise CheckFailed(
            f"{name} of the two builds differs:\n" + "\n".join(f"  {line}" for line in what),
            hint=f"the second build's file is kept: {kept} (the first: {path})",
        )
    return digests
