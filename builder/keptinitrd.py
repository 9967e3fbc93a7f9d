"""Is the initrd of an earlier build the one that this build would make? Then it need not be made again.

An initrd is an image of its own, made of locked packages and mkosi's settings. What mkosi.extra/, templates
and a profile's files put into the image proper does not reach it, so it outlives their changes.
"""

import re
import shutil
from pathlib import Path

from builder.files import atomic_path, file_digest, json_digest, remove_tree, tree_digest
from builder.lock import Lock
from builder.profile import Profile
from builder.project import Project
from builder.tools import tree_key

SETTINGS = ("mkosi.conf", "mkosi.conf.d", "mkosi.images")
CODE = ("distro", "image.py", "keptinitrd.py", "mkosi.py", "normalise.py")


def initrd_key(project: Project, profile: Profile, lock: Lock, version: str) -> str:
    """The digest of everything that an initrd is made of, and of more."""
    package = Path(__file__).parent
    places = [*(project.root / name for name in SETTINGS), *(package / name for name in CODE)]
    return json_digest(
        {
            "profile": profile.model_dump(mode="json"),
            "lock": lock.model_dump(mode="json"),
            "version": version,
            "tools": tree_key(),
            "code": {place.name: tree_digest(place) for place in places if place.exists()},
        }
    )


def home(project: Project, profile: Profile) -> Path:
    return project.cache / "initrds" / profile.name


def kept_initrd(project: Project, profile: Profile, key: str) -> Path | None:
    """The initrd that was kept under ``key``, if it still is what was put there."""
    for path in home(project, profile).glob(f"{key}-*"):
        if re.fullmatch(r"[0-9a-f]{64}", digest := path.name.partition("-")[2]) and path.is_file():
            if file_digest(path) == digest:
                return path
            path.unlink()
    return None


def keep_initrd(project: Project, profile: Profile, key: str, initrd: Path) -> None:
    """Keep a freshly made initrd, and no other of this profile."""
    final = home(project, profile) / f"{key}-{file_digest(initrd)}"
    with atomic_path(final) as made:
        shutil.copyfile(initrd, made)
    for old in final.parent.iterdir():
        if old != final:
            remove_tree(old)
