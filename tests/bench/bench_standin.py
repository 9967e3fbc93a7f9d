"""How long do the tools tree and the stand-in's mirror take, next to mmdebstrap alone?

The tree is fetched anew; the mirror is made from the .deb files of an earlier one.
"""

import os
import tempfile
from pathlib import Path

from builder.files import remove_tree
from builder.project import cache_home, find_project
from builder.run import run
from builder.standin.mirror import ensure_mirror, standin_home
from builder.standin.root import build_root, root_key
from builder.tools import SUITE, build_tree, ensure_tools, package_list
from tests.bench.bench_image import seatsmith, seconds, timed


def bench() -> list[tuple[str, str]]:
    ensure_tools()
    ensure_mirror()
    with tempfile.TemporaryDirectory(dir=cache_home(), prefix="b.") as scratch:
        return [*tools_tree(Path(scratch)), *mirror(Path(scratch))]


def tools_tree(place: Path) -> list[tuple[str, str]]:
    """Our tree, and what mmdebstrap makes of the same packages when it is told nothing more."""
    ours = timed(lambda: build_tree(place / "tools", package_list(), "the tools tree"))
    remove_tree(place / "tools")
    mode = "root" if os.geteuid() == 0 else "unshare"
    argv = ["mmdebstrap", "--variant=minbase", f"--mode={mode}", f"--include={','.join(package_list())}"]
    plain = timed(lambda: run([*argv, "--format=tar", SUITE, place / "plain.tar"], env=dict(os.environ)))
    (place / "plain.tar").unlink()
    return [
        ("tools tree, fetched anew", seconds(ours)),
        ("tools tree / mmdebstrap alone", f"{ours / plain:.2f}×"),
    ]


def mirror(place: Path) -> list[tuple[str, str]]:
    """A Debian root from cached .deb files, then the signed mirror out of it."""
    caches = place / "c/seatsmith"  # short: a path of gpg's socket has 107 bytes at most
    home = caches / standin_home().name
    home.mkdir(parents=True)
    (caches / "tools").symlink_to(cache_home() / "tools")
    tar = home / "roots" / f"{root_key()}.tar"
    root = timed(lambda: build_root(tar, debs=standin_home() / "debs"))
    environment = {"XDG_CACHE_HOME": os.fspath(caches.parent)}
    rest = timed(lambda: seatsmith(find_project(Path(__file__)), "standin", env=environment))
    (caches / "tools").unlink()  # a link: what it leads to stays
    return [
        ("stand-in's mirror, from cached .deb files", seconds(root + rest)),
        ("mirror / its Debian root alone", f"{(root + rest) / root:.2f}×"),
    ]
