"""What is the smallest Gentoo image that is really made? One of the stand-in, with a package from source."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import zstandard

from builder.distro.packagesets import package_sets
from builder.lock import Lock, read_lock
from builder.project import Project, cache_home
from tests.support.tinyproject import CHECKOUT, copy_checkout

PROFILE = """\
distribution: gentoo
display:
  vt: 8
users:
  - name: user
audio:
  server: none
packages:
  add: [{add}]
  remove: [{remove}]
gentoo:
  package_use:
    app-misc/standin-hello: [polite]
  keep_portage: false
  slim: {slim}
"""
BUILT = [("app-misc/standin-hello", "1.0"), ("virtual/pager", "1")]  # no mirror has packages of them
HELLO = "usr/share/standin-hello/"


@dataclass(frozen=True)
class GentooImage:
    project: Project
    lock: Lock
    members: dict[str, tarfile.TarInfo]
    hello: dict[str, str]
    """What is in the files of the package that was built from source."""
    manifest: dict[str, object]


def seatsmith(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    places = {"SEATSMITH_ROOT": os.fspath(project.root), "SEATSMITH_DIST": os.fspath(project.dist)}
    return subprocess.run(
        [sys.executable, "-m", "builder", *words],
        cwd=CHECKOUT,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        timeout=1500,
    )


def make_gentoo_image(
    root: Path, name: str, *, add: Set[str], keep: Set[str] = frozenset(), slim: bool = False
) -> GentooImage:
    """Make the image of a profile ``name`` in a copy of the checkout; ``keep`` is what stays of its sets."""
    project = Project(root, cache_home(), root / "dist")
    copy_checkout(root)
    sets = package_sets("gentoo")
    remove = ", ".join(sorted({*sets["base"], *sets["x11"]} - keep))
    text = PROFILE.format(add=", ".join(sorted(add)), remove=remove, slim="true" if slim else "false")
    (project.profiles / f"{name}.yaml").write_text(text)
    result = seatsmith(project, "image", name, "--source", "standin")
    assert result.returncode == 0, result.stderr[-4000:]
    place = project.dist / name
    members, hello = {}, {}
    with (
        next(place.glob(f"{name}_*_x86-64.tar.zst")).open("rb") as raw,
        zstandard.ZstdDecompressor().stream_reader(raw) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        for member in tar:
            path = member.name.removeprefix("./")
            members[path] = member
            if path.startswith(HELLO) and (content := tar.extractfile(member)):
                hello[path.removeprefix(HELLO)] = content.read().decode()
    lock = read_lock(next(place.glob(f"{name}_*_x86-64.lock")))
    return GentooImage(project, lock, members, hello, json.loads((place / "manifest.json").read_text()))
