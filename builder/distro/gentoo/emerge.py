#!/usr/bin/env python3
"""How are a Gentoo image's packages installed? By the stage3's own portage, without network.

mkosi runs this as a prepare script, with the tools tree's Python; it imports nothing of this package. What
it needs is in $SRCDIR/gentoo (builder/distro/gentoo/backend.py lays it out). `request.json` says what to
install into the image that the first argument names, and whether on top of the stage3 that mkosi has
unpacked, or into an empty root from a stage3 beside it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SANDBOX = "/usr/lib/python3/dist-packages/mkosi/sandbox.py"
TARGET = "/target"  # in the stage3, where the image's root is when it is another
OPTIONS = ("--color=n", "--quiet", "--usepkgonly", "--changed-use", "--jobs=1", "--with-bdeps=n")


def main() -> None:
    place = Path(os.environ["SRCDIR"])
    image = Path(os.environ["BUILDROOT"])
    request = json.loads((place / "gentoo/request.json").read_text())[sys.argv[1]]
    if request["slim"]:
        with tempfile.TemporaryDirectory(prefix="stage3-", dir="/var/tmp") as stage:
            archive = place / "gentoo/stage3.tar.xz"
            unpack: list[Any] = ["tar", "--extract", "--numeric-owner", "-p", "-C", stage, "-f", archive]
            subprocess.run(unpack, check=True)
            emerge(Path(stage), request, place, target=image)
    else:
        emerge(image, request, place, target=None)


def emerge(root: Path, request: dict[str, Any], place: Path, *, target: Path | None) -> None:
    """Run emerge with ``root`` as /, installing there or into ``target``."""
    options: list[Any] = ["--bind", root, "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    for source, inside in request["binds"].items():
        (root / inside.lstrip("/")).mkdir(parents=True, exist_ok=True)
        options += ["--bind", place / source, inside]
    words = ["emerge", *OPTIONS]
    if target is not None:
        (root / TARGET.lstrip("/")).mkdir()
        options += ["--bind", target, TARGET]
        words.append(f"--root={TARGET}")
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": os.environ["SOURCE_DATE_EPOCH"],
        **request["environment"],
    }
    sandbox = ["python3", "-SI", SANDBOX, *options, "--unshare-net", "--chdir", "/", "--", *words]
    subprocess.run([*sandbox, *request["atoms"]], env=environment, check=True)


if __name__ == "__main__":
    main()
