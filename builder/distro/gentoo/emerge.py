#!/usr/bin/env python3
"""How are a Gentoo image's packages installed? By the stage3's own portage, without network.

mkosi runs this as a prepare script, with the tools tree's Python; it imports nothing of this package. What
it needs is in $SRCDIR/gentoo (builder/distro/gentoo/backend.py lays it out). `request.json` says what to
install into the image that the first argument names, and whether on top of a stage3, or into an empty root
from a stage3 beside it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SANDBOX = "/usr/lib/python3/dist-packages/mkosi/sandbox.py"
MOUNTED = ("boot", "efi")  # where mkosi and bootctl(1) look for them; a stage3 has no /efi
TARGET = "/target"  # in the stage3, where the image's root is when it is another
OPTIONS = ("--color=n", "--quiet", "--usepkgonly", "--changed-use", "--jobs=1", "--with-bdeps=n")


def main() -> None:
    place = Path(os.environ["SRCDIR"])
    image = Path(os.environ["BUILDROOT"])
    request = json.loads((place / "gentoo/request.json").read_text())[sys.argv[1]]
    asked = [*OPTIONS, *request["atoms"]]
    archive = place / "gentoo/stage3.tar.xz"
    if not request["slim"]:
        unpack(archive, image)
        emerge(image, asked, request, place, target=None)
    if request["slim"] or request["unwanted"]:
        with tempfile.TemporaryDirectory(prefix="stage3-", dir="/var/tmp") as stage:
            unpack(archive, Path(stage))
            # portage cannot take itself away while it runs; that of the stage3 can
            words = ["--color=n", "--quiet", "--unmerge", *request["unwanted"]]
            emerge(Path(stage), asked if request["slim"] else words, request, place, target=image)
    configure(image, request, place / "gentoo/portage")
    for name in MOUNTED:
        (image / name).mkdir(mode=0o700, exist_ok=True)


def unpack(stage: Path, root: Path) -> None:
    """Unpack a stage3; mkosi could do that by BaseTrees=, but caches no image that has one."""
    words = ["tar", "--extract", "--numeric-owner", "--preserve-permissions"]
    names = ["--xattrs", "--xattrs-include=security.*", f"--directory={root}", f"--file={stage}"]
    subprocess.run([*words, *names], check=True)


def configure(image: Path, request: dict[str, Any], portage: Path) -> None:
    """Leave the profile's settings for the portage in the image; nothing where it is not kept."""
    place = image / "etc/portage"
    shutil.rmtree(place, ignore_errors=True)
    if request["keep_portage"]:
        # of the keyring portage makes its own: ours was made today, and holds what built the image
        shutil.copytree(portage, place, symlinks=True, ignore=shutil.ignore_patterns("gnupg"))


def emerge(
    root: Path, words: Sequence[str], request: dict[str, Any], place: Path, *, target: Path | None
) -> None:
    """Run emerge with ``root`` as /, at work there or in ``target``."""
    options: list[Any] = ["--bind", root, "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    for source, inside in request["binds"].items():
        (root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
        options += ["--bind", place / source, inside]
    argv = ["emerge"]
    if target is not None:
        (root / TARGET.lstrip("/")).mkdir()
        options += ["--bind", target, TARGET]
        argv.append(f"--root={TARGET}")
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": os.environ["SOURCE_DATE_EPOCH"],
        **request["environment"],
    }
    sandbox = ["python3", "-SI", SANDBOX, *options, "--unshare-net", "--chdir", "/", "--"]
    subprocess.run([*sandbox, *argv, *words], env=environment, check=True)


if __name__ == "__main__":
    main()
