#!/usr/bin/env python3
"""How are a Gentoo image's packages installed? By the stage3's own portage, without network.

mkosi runs this as a prepare script, with the tools tree's Python; it imports nothing of this package. What
it needs is in $SRCDIR/gentoo (builder/distro/gentoo/backend.py lays it out). `request.json` says what to
install into the image that the first argument names, and whether on top of a stage3, or into an empty root
from a stage3 beside it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SANDBOX = "/usr/lib/python3/dist-packages/mkosi/sandbox.py"
MOUNTED = ("boot", "efi")  # where mkosi and bootctl(1) look for them; a stage3 has no /efi
TARGET = "/target"  # in the stage3, where the image's root is when it is another
ASK = "/tmp/ask_portage.py"
OPTIONS = ("--color=n", "--quiet", "--usepkgonly", "--changed-use", "--jobs=1", "--with-bdeps=n")


def main() -> None:
    place = Path(os.environ["SRCDIR"])
    image = Path(os.environ["BUILDROOT"])
    request = json.loads((place / "gentoo/request.json").read_text())[sys.argv[1]]
    asked = [*OPTIONS, *request["atoms"]]
    archive = place / "gentoo/stage3.tar.xz"
    another = bool(request["builds"] or request["slim"] or request["unwanted"])
    with stage_beside(archive, wanted=another) as beside:
        if request["builds"]:
            build(beside(), request, place)
        if request["slim"]:
            inside(beside(), ["emerge", f"--root={TARGET}", *asked], request, place, target=image)
        else:
            unpack(archive, image)
            inside(image, ["emerge", *asked], request, place)
            if request["unwanted"]:
                # portage cannot take itself away while it runs; that of the stage3 can
                words = [f"--root={TARGET}", "--color=n", "--quiet", "--unmerge", *request["unwanted"]]
                inside(beside(), ["emerge", *words], request, place, target=image)
    for atom in request["builds"]:
        forget_build(image / "var/db/pkg" / atom.lstrip("="))
    configure(image, request, place / "gentoo/portage")
    for name in MOUNTED:
        (image / name).mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def stage_beside(archive: Path, *, wanted: bool) -> Iterator[Callable[[], Path]]:
    """A stage3 that is not the image. It is unpacked while emerge keeps another core busy; a call waits."""
    with (
        tempfile.TemporaryDirectory(prefix="stage3-", dir="/var/tmp") as root,
        ThreadPoolExecutor(1) as pool,
    ):
        laid = pool.submit(unpack if wanted else lambda _, root: root, archive, Path(root))
        yield laid.result


def build(root: Path, request: dict[str, Any], place: Path) -> None:
    """Build in ``root`` what no mirror has, with all that this takes; packages of it are in PKGDIR then."""
    request = {
        **request,
        "environment": {**request["environment"], **request["build_environment"]},
        "binds": {**request["binds"], **request["build_binds"]},
    }
    masks = inside(root, ["python3", ASK, "newer", f"{request['pkgdir']}/Packages"], request, place).stdout
    profile = place / "gentoo/portage/profile"  # as config.py's `hold` wrote it when the lock was made
    profile.mkdir(exist_ok=True)
    (profile / "eapi").write_text("8\n")
    (profile / "package.mask").write_text(masks)
    (root / "run/lock").mkdir(parents=True, exist_ok=True)  # portage locks there when it signs
    words = ["emerge", *(o for o in OPTIONS if o != "--usepkgonly"), "--usepkg", "--oneshot"]
    inside(root, [*words, *request["builds"]], request, place)
    inside(root, ["gpgconf", "--homedir", request["signing"], "--kill", "all"], request, place)


def forget_build(record: Path) -> None:
    """Take the build's time out of portage's record of a package that was built from source just now."""
    (record / "BUILD_TIME").write_text(f"{os.environ['SOURCE_DATE_EPOCH']}\n")
    (record / "BINPKGMD5").unlink(missing_ok=True)  # of the gpkg, which holds that time and a signature


def unpack(stage: Path, root: Path) -> Path:
    """Unpack a stage3 into ``root``; mkosi could do that by BaseTrees=, but caches no image that has one."""
    words = ["tar", "--extract", "--numeric-owner", "--preserve-permissions"]
    names = ["--xattrs", "--xattrs-include=security.*", f"--directory={root}", f"--file={stage}"]
    subprocess.run([*words, *names], check=True)
    return root


def configure(image: Path, request: dict[str, Any], portage: Path) -> None:
    """Leave the profile's settings for the portage in the image; nothing where it is not kept."""
    place = image / "etc/portage"
    shutil.rmtree(place, ignore_errors=True)
    if request["keep_portage"]:
        # of the keyring portage makes its own: ours was made today, and holds what built the image;
        # the masks in profile are of one binhost's state
        own = shutil.ignore_patterns("gnupg", "profile")
        shutil.copytree(portage, place, symlinks=True, ignore=own)


def inside(
    root: Path,
    argv: Sequence[str],
    request: dict[str, Any],
    place: Path,
    *,
    target: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program with ``root`` as /, and with ``target`` as /target."""
    options: list[Any] = ["--bind", root, "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    for source, within in request["binds"].items():
        (root / within.lstrip("/")).mkdir(parents=True, exist_ok=True)
        options += ["--bind", place / source, within]
    options += ["--ro-bind", place / "gentoo/ask_portage.py", ASK]
    if target is not None:
        (root / TARGET.lstrip("/")).mkdir()
        options += ["--bind", target, TARGET]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": os.environ["SOURCE_DATE_EPOCH"],
        **request["environment"],
    }
    sandbox = ["python3", "-SI", SANDBOX, *options, "--unshare-net", "--chdir", "/", "--"]
    stdout = subprocess.PIPE if argv[0] == "python3" else None
    return subprocess.run([*sandbox, *argv], env=environment, check=True, stdout=stdout, text=True)


if __name__ == "__main__":
    main()
