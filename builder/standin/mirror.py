"""Is there a stand-in mirror, and where? Makes it from the Debian root where there is none."""

import json
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import ui
from builder.files import atomic_path, exclusive, json_digest, remove_tree, write_json
from builder.project import cache_home
from builder.standin.keys import SigningKey, ensure_key, sign_files
from builder.standin.pacman import ARCHITECTURE, Package, packages, write_packages
from builder.standin.root import ensure_root, root_key
from builder.standin.slices import Root, inventory, slice_root
from builder.tools import Tools, ensure_tools

LAYOUT = 1  # raise when the code makes another mirror of the same root and data


@dataclass(frozen=True)
class Mirror:
    """A stand-in mirror on this machine. ``root`` is what is served: ROOT/repos/DATE/core/os/x86_64/…"""

    root: Path
    date: str  # YYYY/MM/DD
    public_key: Path  # binary OpenPGP
    fingerprint: str
    packages: int
    size: int  # of all files, in bytes


def standin_home() -> Path:
    return cache_home() / "standin"


def mirror_key() -> str:
    return json_digest({"root": root_key(), "data": inventory(), "layout": LAYOUT})[:16]


def ensure_mirror() -> Mirror:
    """The stand-in mirror, made first where it is missing (two minutes, 1.5 GB; from cached .debs one).

    Raises MachineError or ProgramError where the Debian root cannot be made.
    """
    place = standin_home() / "mirrors" / mirror_key()
    ensure_made(place, "the stand-in mirror", build_mirror)
    return read_mirror(place)


def ensure_made(place: Path, what: str, build: Callable[[Path, SigningKey, Tools, Path], None]) -> None:
    """Make a mirror at ``place`` from the Debian root unless it is there; mirrors beside it are removed."""
    if (place / "mirror.json").is_file():
        return
    with exclusive(place.with_suffix(".lock"), what, wait=True):
        if not (place / "mirror.json").is_file():
            tools = ensure_tools()
            tar = ensure_root(standin_home())
            key = ensure_key(standin_home() / "key", tools)
            with atomic_path(place) as made:
                build(tar, key, tools, made)
            forget_others(place)


def read_mirror(place: Path) -> Mirror:
    said: dict[str, Any] = json.loads((place / "mirror.json").read_text())
    return Mirror(root=place, public_key=place / "standin.pgp", **said)


def forget_others(place: Path) -> None:
    """Remove mirrors of earlier keys; nothing finds them any more."""
    for other in place.parent.iterdir():
        if other.is_dir() and other != place and not other.name.startswith("."):
            remove_tree(other)


def build_mirror(tar: Path, key: SigningKey, tools: Tools, place: Path) -> None:
    """Make a whole mirror in the new directory ``place`` from the root at ``tar``."""
    root = Root(tar)
    try:
        with ui.current().step("Reading the stand-in's root"):
            wanted = packages(slice_root(root), root.timestamp)
        top = place / "repos" / root.date
        files = write_packages(root, wanted, top)
        with ui.current().step("Signing packages and databases"):
            sign_files(key, tools, files)
            with ThreadPoolExecutor(2) as pool:
                made = [
                    pool.submit(make_database, top, repository, members, tools)
                    for repository, members in by_repository(wanted).items()
                ]
            databases = [path for future in made for path in future.result()]
            sign_files(key, tools, databases)
        (place / "standin.pgp").write_bytes(key.public.read_bytes())
        said = {
            "date": root.date,
            "fingerprint": key.fingerprint,
            "packages": len(wanted),
            "size": sum(f.stat().st_size for f in place.rglob("*") if f.is_file()),
        }
        write_json(place / "mirror.json", said)
    finally:
        root.close()


def by_repository(wanted: list[Package]) -> dict[str, list[Package]]:
    found: dict[str, list[Package]] = defaultdict(list)
    for package in wanted:
        found[package.repository].append(package)
    return found


def make_database(top: Path, repository: str, members: list[Package], tools: Tools) -> list[Path]:
    """Make REPOSITORY.db and REPOSITORY.files by repo-add."""
    folder = top / repository / "os" / ARCHITECTURE
    tools.run(
        ["repo-add", "--quiet", "--include-sigs", f"{repository}.db.tar.gz", *(p.filename for p in members)],
        options=["--chdir", folder],
    )
    for kind in ("db", "files"):
        link, archive = folder / f"{repository}.{kind}", folder / f"{repository}.{kind}.tar.gz"
        link.unlink(missing_ok=True)
        archive.rename(link)  # a mirror serves no symbolic links, and pacman asks for this name
        archive.with_name(archive.name + ".old").unlink(missing_ok=True)
    return [folder / f"{repository}.db", folder / f"{repository}.files"]
