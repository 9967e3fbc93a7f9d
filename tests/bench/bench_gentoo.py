"""How long does a Gentoo image take, next to emerge merging the same packages into a directory?

BENCH_PROFILE names another profile than `gentoo-work`.
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from builder.chroot import as_root, inside
from builder.distro.gentoo.backend import Gentoo, unpacked_tree
from builder.distro.gentoo.config import PKGDIR, REPOSITORY, build_environment
from builder.distro.gentoo.emerge import OPTIONS, TARGET
from builder.distro.gentoo.releases import kept_of
from builder.distro.gentoo.resolve import unpack_stage
from builder.image import fetch, obtain_lock, store_of
from builder.lock import Lock
from builder.profile import load_profile
from builder.project import Project, cache_home, find_project
from builder.run import run
from builder.sources import Source
from builder.tools import Tools, ensure_tools
from tests.bench.bench_image import SHARED, checkout, median, seatsmith, seconds, timed

PROFILE = os.environ.get("BENCH_PROFILE", "gentoo-work")


def bench() -> list[tuple[str, str]]:
    tools = ensure_tools()
    project = find_project(Path(__file__))
    lock = obtain_lock(project, load_profile(project, PROFILE), Source.STANDIN, locked=False)
    fetch(project, lock)
    with tempfile.TemporaryDirectory(dir=cache_home(), prefix="b.") as scratch:
        return [
            (f"{PROFILE}: packages", str(len(lock.packages()))),
            *builds(project, lock, tools, Path(scratch)),
        ]


def builds(project: Project, lock: Lock, tools: Tools, place: Path) -> list[tuple[str, str]]:
    """A full build, one where nothing and one where a file changed, and emerge by itself."""
    copy = checkout(project, place / "checkout")
    caches = place / "c/seatsmith"  # short: a path of gpg's socket has 107 bytes at most
    caches.mkdir(parents=True)
    for name in SHARED:
        (caches / name).symlink_to(project.cache / name)
    environment = {"XDG_CACHE_HOME": os.fspath(caches.parent), "SEATSMITH_ROOT": os.fspath(copy)}

    def image() -> None:
        seatsmith(project, "image", PROFILE, "--source", "standin", env=environment)

    full = timed(image)
    nothing = median(image, 5)
    with (copy / "mkosi.extra/etc/bench").open("w") as f:
        f.write("changed\n")
    changed = timed(image)
    alone = emerge_alone(project, lock, tools, place / "alone")
    for name in SHARED:  # links: what they lead to stays
        (caches / name).unlink()
    return [
        ("full build from a filled store", seconds(full)),
        ("emerge alone: the same packages into directories", seconds(alone)),
        ("full build / emerge alone", f"{full / alone:.2f}×"),
        ("build after a changed file", seconds(changed)),
        ("changed file / full build", f"{changed / full:.2f}×"),
        ("nothing changed", seconds(nothing)),
    ]


def emerge_alone(project: Project, lock: Lock, tools: Tools, place: Path) -> float:
    """The time of emerge alone, for the image and for its initrd; what it works in is laid out before."""
    place.mkdir()
    profile = load_profile(project, PROFILE)
    store = store_of(project)
    Gentoo().prepare(profile, lock, store=store, project=project, tools=tools, scratch=place)
    tree = unpacked_tree(kept_of(lock.files, "tree"), store, project.cache / "gentoo")
    requests = json.loads((place / "gentoo/request.json").read_text())
    return sum(merged(request, place, tree, tools) for request in requests.values())


def merged(request: dict[str, Any], place: Path, tree: Path, tools: Tools) -> float:
    """The time of one emerge, on top of a stage3 or from one into an empty directory."""
    laid, stage, target = place / "gentoo", place / "stage", place / "target"
    unpack_stage(laid / "stage3.tar.xz", stage)
    target.mkdir()
    binds = {laid / "portage": "/etc/portage", laid / "pkgdir": PKGDIR, target: TARGET}
    for within in (REPOSITORY, *binds.values()):
        run(as_root(["mkdir", "-p", f"{stage}{within}"]))
    root = [f"--root={TARGET}"] if request["slim"] else []
    argv = ["emerge", *root, *OPTIONS, *request["atoms"]]
    environment = build_environment()
    readable = {tree: REPOSITORY}
    took = timed(
        lambda: inside(stage, argv, tools=tools, binds=binds, readable=readable, environment=environment)
    )
    run(as_root(["rm", "-rf", "--one-file-system", stage, target]))
    return took
