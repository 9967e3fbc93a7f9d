#!/usr/bin/env python3
"""Which units that the profile turns on does the image lack? A preset passes over those without a word.

mkosi runs this file as a finalize script, with the tools tree's Python; it imports nothing of this package.
It reads the tree at $BUILDROOT, and says a line for each unit, by ``LACKING``.
"""

import difflib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

PRESET = "usr/lib/systemd/system-preset/00-profile.preset"
FOLDERS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")  # systemd.unit(5)
LACKING = "the image has no unit "


def main() -> int:
    root = Path(os.environ["BUILDROOT"])
    lacking = list(lacking_units(root))
    for line in lacking:
        print(line, file=sys.stderr)
    return 1 if lacking else 0


def lacking_units(root: Path) -> Iterator[str]:
    """A line for each unit that is to be enabled and does not exist, with names like it."""
    there = {path.name for folder in FOLDERS for path in (root / folder).glob("*.*")}
    for line in (root / PRESET).read_text(encoding="utf-8").splitlines():
        word, _, unit = line.partition(" ")
        if word == "enable" and not {unit, template_of(unit)} & there:
            near = " ".join(difflib.get_close_matches(unit, sorted(there), n=3, cutoff=0.75))
            yield f"{LACKING}{unit}" + (f"; near: {near}" if near else "")


def template_of(unit: str) -> str:
    """The template of an instance: ``getty@.service`` for ``getty@tty3.service``."""
    name, dot, suffix = unit.rpartition(".")
    prefix, at, _ = name.partition("@")
    return f"{prefix}{at}{dot}{suffix}"


if __name__ == "__main__":
    sys.exit(main())
