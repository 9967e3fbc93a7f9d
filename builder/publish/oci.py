"""How does a registry hold what a published directory does? As OCI artifacts (builder/registry.py).

    REPOSITORY:PROFILE_VERSION   one layer for each file of a release, under its name
    REPOSITORY:PROFILE_extra     package diffs, deltas, rebuild statements
    REPOSITORY:index             the signed index

What comes from a registry is checked like what comes from a web server.
"""

from pathlib import Path

from builder import ui
from builder.errors import InputError
from builder.publish.index import INDEX, INDEX_SIGNATURE, parse_index, release_place
from builder.registry import Repository

INDEX_TAG = "index"
EXTRA = "extra"


def push(root: Path, target: str) -> list[str]:
    """Copy a published directory into a repository; return the tags. The index comes last.

    Raises InputError for a directory without an index, MachineError for a registry that refuses.
    """
    repository = Repository(target)
    try:
        index = parse_index((root / INDEX).read_bytes())
    except OSError as e:
        raise InputError(f"{root} is no published directory: {e.strerror}") from e
    tags = []
    for profile, releases in index.profiles.items():
        parts = {f"{profile}_{r.version}": release_place(root, profile, r.version) for r in releases}
        if any((root / profile / EXTRA).iterdir()):
            parts[f"{profile}_{EXTRA}"] = root / profile / EXTRA
        for tag, place in parts.items():
            with ui.current().step(f"Pushing {tag}"):
                repository.upload(tag, list(place.iterdir()))
            tags.append(tag)
    repository.upload(INDEX_TAG, [root / INDEX, root / INDEX_SIGNATURE, root / "keys.gpg"])
    return [*tags, INDEX_TAG]


def place_of(name: str) -> tuple[str, str]:
    """Tag and file name of what has this path in the static directory."""
    folder, _, title = name.rpartition("/")
    return folder.replace("/", "_") or INDEX_TAG, title
