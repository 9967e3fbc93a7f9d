"""Which images must CI build for a change, and did two builders get the same?"""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from builder.errors import CheckFailed, InputError
from builder.image import SHAPING
from builder.outputs.checksums import SUMS, parse_checksums
from builder.outputs.record import role_of
from builder.profile import profile_names, resolve_profile
from builder.project import Project
from builder.run import Result, run
from builder.sources import AUTO, Source

RELEASE_TAGS = "v*"
SHARED = ("mkosi.", "requirements.lock", "builder/tools.py", "builder/tools-packages.txt")


def matrix(project: Project, since: str | None = None, *, only: Collection[str] | None = None) -> list[str]:
    """The profiles whose image a change since a git revision can have altered, sorted; ``only`` of these.

    ``since`` is by default the tag of the last release before this commit; without one, all profiles.
    Raises InputError for a revision that git does not know, or a profile that is not there.
    """
    since = since or last_release(project)
    names = list(profile_names(project))
    if unknown := sorted(set(only or ()) - {*names}):
        raise InputError(f"no profile is named {unknown[0]!r}", hint=f"accepted: {', '.join(sorted(names))}")
    names = [name for name in names if only is None or name in only]
    if since is None:
        return sorted(names)
    changed = changed_files(project, since)
    shaping = tuple(f"builder/{part}" for part in SHAPING) + SHARED
    if any(path.startswith(shaping) for path in changed):
        return sorted(names)
    return sorted(name for name in names if any(touches(project, name, path) for path in changed))


def touches(project: Project, name: str, path: str) -> bool:
    """Whether a file of the checkout is one that this profile is made of."""
    resolved = resolve_profile(project, name)
    profile, changed = resolved.profile, project.root / path
    files = {*resolved.files, *(project.profiles / r.key for r in profile.repositories)}
    files |= {project.profiles / f"{name}.upstream.lock"}
    if changed in files:
        return True
    return profile.files is not None and changed.is_relative_to(project.profiles / profile.files)


def last_release(project: Project) -> str | None:
    """The tag of the release before this commit: where this one is tagged, it is what is to be released."""
    describe = ["describe", "--tags", "--match", RELEASE_TAGS]
    tagged = git(project, *describe, "--exact-match").returncode == 0
    found = git(project, *describe, "--abbrev=0", "HEAD^" if tagged else "HEAD")
    return found.text.strip() if found.returncode == 0 else None


def changed_files(project: Project, since: str) -> list[str]:
    found = git(project, "diff", "--name-only", "-z", since, "--")
    if found.returncode != 0:
        said = found.stderr.decode(errors="replace").strip().partition("\n")[0]  # a page of usage may follow
        raise InputError(
            f"git knows no revision {since!r}: {said}",
            hint="in CI, fetch the whole history (fetch-depth: 0)",
        )
    return [path for path in found.text.split("\0") if path]


def git(project: Project, *words: str) -> Result:
    return run(["git", "-C", project.root, *words], env=dict(os.environ), check=False, timeout=60)


def compare(first: Path, second: Path) -> dict[str, str]:
    """The digests of the image files that two builders agree on. Raises CheckFailed where they do not.

    Both are results, or directories of several; only SHA256SUMS is read.
    """
    ours, theirs = all_digests(first), all_digests(second)
    differing = [
        f"  {name}: {ours.get(name, 'missing')} and {theirs.get(name, 'missing')}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise CheckFailed(
            f"{first} and {second} are not the same image:\n" + "\n".join(differing),
            hint="seatsmith diff FIRST SECOND shows the packages and files",
        )
    return ours


def all_digests(place: Path) -> dict[str, str]:
    """Digests of a result's image files, or of those of each result in a directory."""
    results = [] if (place / SUMS).exists() else sorted(p.parent for p in place.glob(f"*/{SUMS}"))
    if not results:
        return image_digests(place)
    return {name: digest for result in results for name, digest in image_digests(result).items()}


def sources(words: str) -> list[str]:
    """The sources of a pipeline's images, the first of which is released; ``auto`` where none is said.

    Raises InputError for a word that is no source.
    """
    found = list(dict.fromkeys(words.split())) or [AUTO]
    accepted = [AUTO, *Source]
    if unknown := [word for word in found if word not in accepted]:
        raise InputError(f"no source is named {unknown[0]!r}", hint=f"accepted: {', '.join(accepted)}")
    return found


def gitlab_pipeline(template: str, names: list[str], origins: list[str]) -> str:
    """GitLab's jobs for these profiles and sources: ci/gitlab/images.yml, with its matrix filled in."""
    import yaml

    jobs: dict[str, Any] = yaml.safe_load(template)
    if not names:  # a pipeline without a job is an error
        jobs = {"nothing": {"script": ["echo no image is concerned"]}}
    for job in jobs.values():
        if isinstance(job, dict) and "parallel" in job:
            job["parallel"] = {"matrix": [{"PROFILE": names, "SOURCE": origins}]}
        if isinstance(job, dict) and "RELEASED" in job:
            job["RELEASED"] = origins[0]
    return yaml.safe_dump(jobs, sort_keys=False, width=1000)


def image_digests(place: Path) -> dict[str, str]:
    """Digests of a result's image, host bundle and UKI, by name. Raises InputError where there is none."""
    try:
        listed = parse_checksums((place / SUMS).read_bytes(), what=str(place / SUMS))
    except OSError as e:
        raise InputError(f"cannot read {place / SUMS}: {e.strerror}") from e
    found = {name: digest for name, digest in listed.items() if role_of(name) not in (None, "lock")}
    if not found:
        raise InputError(f"{place / SUMS} lists no image")
    return found
