"""How long does an image take, next to plain mkosi, curl and tar? From the stand-in, for `work`."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from builder import mkosi
from builder.files import remove_tree
from builder.image import epoch_of, obtain_lock, store_of, version_of
from builder.lock import Lock
from builder.profile import load_profile
from builder.project import Project, cache_home, find_project
from builder.run import Arg, run
from builder.sources import Source, reachable
from builder.store import Store
from builder.tools import Tools, ensure_tools

PROFILE = "work"
SHARED = ("tools", "standin", "store", "keyrings", "locks")  # of the cache; the rest is made anew


def bench() -> list[tuple[str, str]]:
    tools = ensure_tools()
    project = find_project(Path(__file__))
    profile = load_profile(project, PROFILE)
    seatsmith(project, "image", PROFILE, "--source", "standin")  # everything is there from here on
    lock = obtain_lock(project, profile, Source.STANDIN, locked=True)
    with tempfile.TemporaryDirectory(dir=cache_home(), prefix="bench.") as scratch:
        place = Path(scratch)
        return [
            ("seatsmith --help", seconds(median(lambda: seatsmith(project, "--help"), 5))),
            *nothing_changed(project),
            *builds(project, lock, tools, place),
            *fetching(project, lock, place),
            *packing(project, place, tools),
        ]


def nothing_changed(project: Project) -> list[tuple[str, str]]:
    took = median(lambda: seatsmith(project, "image", PROFILE, "--source", "standin"), 5)
    return [(f"seatsmith image {PROFILE}, nothing changed", seconds(took))]


def builds(project: Project, lock: Lock, tools: Tools, place: Path) -> list[tuple[str, str]]:
    """A full build, one after a changed file, and mkosi by itself with the same settings."""
    copy = checkout(project, place / "checkout")
    caches = place / "caches"
    (caches / "seatsmith").mkdir(parents=True)
    for name in SHARED:
        (caches / "seatsmith" / name).symlink_to(project.cache / name)
    environment = {"XDG_CACHE_HOME": os.fspath(caches), "SEATSMITH_ROOT": os.fspath(copy)}

    def image() -> float:
        return timed(lambda: seatsmith(project, "image", PROFILE, "--source", "standin", env=environment))

    full = image()
    with (copy / "mkosi.extra/etc/bench").open("w") as f:
        f.write("changed\n")
    changed = image()
    alone = mkosi_alone(project, lock, tools, place)
    for name in SHARED:  # links: what they lead to stays
        (caches / "seatsmith" / name).unlink()
    return [
        ("full build from a filled store", seconds(full)),
        ("mkosi alone: same packages, settings and output", seconds(alone)),
        ("full build / mkosi alone", f"{full / alone:.2f}×"),
        ("build after a changed file", seconds(changed)),
        ("changed file / full build", f"{changed / full:.2f}×"),
    ]


def mkosi_alone(project: Project, lock: Lock, tools: Tools, place: Path) -> float:
    """The time of one mkosi process that has everything laid out and no cache of installed packages."""
    build = mkosi.Build(
        load_profile(project, PROFILE),
        lock,
        version_of(lock),
        epoch_of(lock),
        place / "alone",
        place / "alone cache",
    )
    build.scratch.mkdir()
    mkosi.prepare(build, project, store=store_of(project), tools=tools)
    argv, environment = mkosi.command(build, project, tools, ["--force", "build"])
    took = timed(lambda: run(argv, env=environment, log_to=place / "mkosi.log", cwd=project.root))
    remove_tree(build.scratch)
    remove_tree(build.cache)
    return took


def fetching(project: Project, lock: Lock, place: Path) -> list[tuple[str, str]]:
    """All packages over loopback: into an empty store with every digest checked, and by curl without."""
    size = sum(f.size for f in lock.files)
    with reachable(lock.mirrors) as urls:
        store = Store(place / "store")
        ours = timed(lambda: store.fetch(lock, urls))
        rows = [(f"fetch {len(lock.files)} files, {size >> 20} MiB, digests checked", seconds(ours))]
        if shutil.which("curl"):
            (place / "curl").mkdir()
            names = [f"{urls[f.repository].rstrip('/')}/{f.path}" for f in lock.files]
            listing = "".join(f'url = "{url}"\nremote-name\n' for url in names).encode()
            argv = ["curl", "-sf", "-Z", "--parallel-max", "8", "--config", "-"]
            theirs = timed(lambda: run(argv, stdin=listing, cwd=place / "curl"))
            rows += [
                ("the same by curl --parallel, nothing checked", seconds(theirs)),
                ("store / curl", f"{ours / theirs:.2f}×"),
            ]
    remove_tree(place / "store")
    remove_tree(place / "curl")
    return rows


def packing(project: Project, place: Path, tools: Tools) -> list[tuple[str, str]]:
    """Our packing of a finished tree against plain tar and zstd at the same level."""
    tree = place / "pack" / PROFILE
    tree.mkdir(parents=True)
    image = next((project.dist / PROFILE).glob("*_x86-64.tar.zst"))
    run(["tar", "-x", "--zstd", "--numeric-owner", "-f", image, "-C", tree])
    argv: list[Arg] = [
        "sh",
        "-c",
        'tar -c -C "$0" . | zstd -q -T0 -3 -o "$1"',
        tree,
        place / "plain.tar.zst",
    ]
    plain = timed(lambda: run(argv))
    environment = {**os.environ, "IMAGE_NAME": PROFILE, "OUTPUTDIR": os.fspath(place / "pack")}
    ours = timed(lambda: run([project.root / "mkosi.postoutput"], env=environment))
    return [
        ("pack an image's tree, the same bits everywhere", seconds(ours)),
        ("plain tar | zstd -3", seconds(plain)),
        ("ours / plain", f"{ours / plain:.2f}×"),
    ]


def checkout(project: Project, copy: Path) -> Path:
    """What an image is made from, without results and caches."""
    copy.mkdir(parents=True)
    for source in (project.profiles, *project.root.glob("mkosi.*")):
        if source.is_dir():
            shutil.copytree(source, copy / source.name, symlinks=True)
        else:
            shutil.copy2(source, copy / source.name)
    (copy / "builder").mkdir()
    for name in mkosi.FINALIZE:
        shutil.copy2(project.root / name, copy / name)
    return copy


def seatsmith(project: Project, *words: str, env: dict[str, str] | None = None) -> None:
    argv = [sys.executable, "-m", "builder", *words]
    result = subprocess.run(
        argv,
        cwd=project.root,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def median(work: Callable[[], object], times: int) -> float:
    return statistics.median(timed(work) for _ in range(times))


def seconds(took: float) -> str:
    return f"{took:.2f} s"
