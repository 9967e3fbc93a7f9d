#!/usr/bin/env python3
"""Which traces of the build's time and machine does an image carry, and how are they taken out?

mkosi runs this file as a finalize script, with the tools tree's Python; it imports nothing of this package.
It changes the tree at $BUILDROOT; times become $SOURCE_DATE_EPOCH. Idempotent.
"""

import os
import re
import shutil
from pathlib import Path

# Machine-made caches and logs: rebuilt or refilled where they are used.
REMOVED = (
    "etc/machine-id.pacnew",
    "etc/pacman.d/gnupg",
    "var/cache/edb",
    "var/cache/ldconfig/aux-cache",
    "var/cache/binhost",
    "var/cache/binpkgs",
    "var/log/pacman.log",
    "var/log/emerge.log",
    "var/log/emerge-fetch.log",
    "var/log/portage",
    "var/tmp/portage",
    "root/.gnupg",
    "root/.cache",
    "root/.bash_history",
)
BACKUPS = ("passwd-", "group-", "shadow-", "gshadow-", ".pwd.lock", ".updated")
SHADOW_DAY = 2  # shadow(5): the third field is the day of the last password change


def main() -> None:
    root = Path(os.environ["BUILDROOT"])
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    for name in REMOVED:
        remove(root / name)
    for name in BACKUPS:
        remove(root / "etc" / name)
    remove(root / "var/.updated")
    for cache in sorted(root.rglob("__pycache__")):
        remove(cache)
    fix_shadow(root / "etc/shadow", epoch)
    fix_pacman(root / "var/lib/pacman/local", epoch)
    fix_portage(root / "var/db/pkg", epoch)
    if variant := os.environ.get("VARIANT_ID"):
        name_variant(root / "usr/lib/os-release", variant)
    clamp_times(root, epoch)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def read(path: Path) -> str:
    """A file's text, whatever its encoding: packagers' names are not always UTF-8."""
    return path.read_text(encoding="utf-8", errors="surrogateescape")


def rewrite(path: Path, text: str) -> None:
    """Replace a file's content; mode and owner stay."""
    if text != read(path):
        path.write_text(text, encoding="utf-8", errors="surrogateescape")


def fix_shadow(path: Path, epoch: int) -> None:
    """Set the day of each password's last change: systemd-sysusers and useradd write today."""
    if not path.exists():
        return
    day = str(epoch // 86400)
    lines = []
    for line in read(path).splitlines():
        fields = line.split(":")
        if len(fields) > SHADOW_DAY and fields[SHADOW_DAY].isdigit():
            fields[SHADOW_DAY] = day
        lines.append(":".join(fields))
    rewrite(path, "\n".join(lines) + "\n")


def fix_pacman(local: Path, epoch: int) -> None:
    """Set the install date in pacman's database (alpm local database, desc files)."""
    for desc in sorted(local.glob("*/desc")):
        text = read(desc)
        rewrite(desc, re.sub(r"(?<=^%INSTALLDATE%\n)\d+$", str(epoch), text, flags=re.M))


def fix_portage(database: Path, epoch: int) -> None:
    """Set the times in portage's database (vdb CONTENTS: ``obj PATH MD5 MTIME``, ``sym A -> B MTIME``)."""
    for package in sorted(database.glob("*/*")):
        remove(package / "metadata")
        contents = package / "CONTENTS"
        if not contents.exists():
            continue
        lines = []
        for line in read(contents).splitlines():
            if line.startswith(("obj ", "sym ")):
                rest, _, mtime = line.rpartition(" ")
                line = f"{rest} {epoch if line.startswith('sym ') else min(int(mtime), epoch)}"
            lines.append(line + "\n")
        rewrite(contents, "".join(lines))


def name_variant(path: Path, variant: str) -> None:
    """Say in os-release(5) what kind of image it is."""
    if path.is_symlink() or not path.exists():
        return
    kept = [line for line in read(path).splitlines() if not line.startswith("VARIANT_ID=")]
    rewrite(path, "\n".join([*kept, f"VARIANT_ID={variant}"]) + "\n")


def clamp_times(root: Path, epoch: int) -> None:
    """No modification time lies after the epoch."""
    for directory, names, files in os.walk(root, topdown=False):
        for name in (*names, *files, "."):
            path = os.path.join(directory, name)  # noqa: PTH118 - a Path each would triple the time
            if os.lstat(path).st_mtime > epoch:
                os.utime(path, (epoch, epoch), follow_symlinks=False)


if __name__ == "__main__":
    main()
