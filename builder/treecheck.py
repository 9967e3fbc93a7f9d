#!/usr/bin/env python3
"""What that the profile asks for does the image lack: units, locale, keymap, keyboard layout, time zone?

Where they are used, all of these are passed over without a word. mkosi runs this file as a finalize script,
with the tools tree's Python; it imports nothing of this package. It reads the tree at $BUILDROOT, and says a
line for each, by ``LACKING``. Of a tree that has no data of a kind at all (no kbd, no X) nothing is asked.
"""

import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

PRESET = "usr/lib/systemd/system-preset/00-profile.preset"
UNITS = ("etc/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")  # systemd.unit(5)
KEYMAPS = ("usr/share/keymaps", "usr/share/kbd/keymaps", "usr/lib/kbd/keymaps")  # as systemd has them
MAP = r"\.k?map(\.gz|\.bz2|\.xz|\.zst)?"  # loadkeys(1)
# since 2.45 the second is an absolute link to the first, which would lead out of the tree
XKB = ("usr/share/xkeyboard-config-2", "usr/share/X11/xkb")
KEYBOARDS = ("etc/X11/xorg.conf.d/00-keyboard.conf", "etc/greetd/seatsmith.sway")
ZONES = "usr/share/zoneinfo"
LOCALES = "usr/lib/locale"
SOURCES = "usr/share/i18n/locales"
BUILT_IN = ("C.UTF-8", "C", "POSIX")
LACKING = "the image has no "


def main() -> int:
    root = Path(os.environ["BUILDROOT"])
    lines = list(lacking(root))
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


def lacking(root: Path) -> Iterator[str]:
    """A line for each thing that is asked for and does not exist, with names like it."""
    yield from lacking_units(root)
    yield from lacking_locale(root)
    yield from lacking_keymap(root)
    yield from lacking_keyboards(root)
    yield from lacking_zone(root)


def line(kind: str, name: str, there: Iterable[str], cutoff: float = 0.6) -> str:
    near = " ".join(difflib.get_close_matches(name, sorted(set(there)), n=3, cutoff=cutoff))
    return f"{LACKING}{kind} {name}" + (f"; near: {near}" if near else "")


def lacking_units(root: Path) -> Iterator[str]:
    there = {path.name for folder in UNITS for path in (root / folder).glob("*.*")}
    for rule in text_of(root / PRESET).splitlines():
        word, _, unit = rule.partition(" ")
        if word == "enable" and not {unit, template_of(unit)} & there:
            yield line("unit", unit, there, 0.75)


def template_of(unit: str) -> str:
    """The template of an instance: ``getty@.service`` for ``getty@tty3.service``."""
    name, dot, suffix = unit.rpartition(".")
    prefix, at, _ = name.partition("@")
    return f"{prefix}{at}{dot}{suffix}"


def lacking_locale(root: Path) -> Iterator[str]:
    name = said(root / "etc/locale.conf", r"LANG=")
    places = (root / LOCALES, root / SOURCES)
    if not name or name in BUILT_IN or not any(place.is_dir() for place in places) or has_locale(root, name):
        return
    found = {path.name for place in places if place.is_dir() for path in place.iterdir()}
    plain = (re.fullmatch(r"([a-z]{2,3}_[A-Z]{2})(\.utf8)?(@[a-z]+)?", one) for one in found)
    yield line("locale", name, (f"{match[1]}.UTF-8{match[3] or ''}" for match in plain if match))


def has_locale(root: Path, name: str) -> bool:
    """Whether glibc finds a locale: as a directory, or among the archive's names, which end by NUL."""
    if any((root / LOCALES / spelt).is_dir() for spelt in (name, made_name(name))):
        return True
    archive = root / LOCALES / "locale-archive"
    return archive.is_file() and b"%s\0" % made_name(name).encode() in archive.read_bytes()


def made_name(name: str) -> str:
    """A locale's name as localedef(1) writes it: ``de_DE.utf8@euro``."""
    return name.replace(".UTF-8", ".utf8")


def lacking_keymap(root: Path) -> Iterator[str]:
    name = said(root / "etc/vconsole.conf", r"KEYMAP=")
    files = (path.name for place in KEYMAPS for path in (root / place).rglob("*map*"))
    there = {re.sub(MAP, "", file) for file in files if re.search(f"{MAP}$", file)}
    if name and there and name not in there:
        yield line("keymap", name, there)


def lacking_keyboards(root: Path) -> Iterator[str]:
    """The layout and variant that X or sway is told; both read the files of xkeyboard-config."""
    base = next((root / place for place in XKB if (root / place / "symbols").is_dir()), None)
    if base is None:
        return
    symbols = {path.name: path for path in (base / "symbols").iterdir()}
    known = text_of(base / "rules/evdev.lst") or text_of(base / "rules/base.lst")  # leaves out odd ones
    listed = re.findall(r"^  (\S+) ", section(known, "layout"), flags=re.M) or list(symbols)
    for file in KEYBOARDS:
        layouts = said(root / file, r'xkb_?layout"?\s+').split(",")
        variants = said(root / file, r'xkb_?variant"?\s+').split(",")
        for index, layout in enumerate(layouts):
            variant = variants[index] if index < len(variants) else ""
            if layout and layout not in symbols:
                yield line("keyboard layout", layout, listed)
            elif layout and variant and f'"{variant}"' not in text_of(symbols[layout]):
                there = re.findall(rf"^  (\S+) +{re.escape(layout)}:", section(known, "variant"), flags=re.M)
                if variant not in there:
                    near = (f"{layout}({one})" for one in there)
                    yield line("keyboard layout", f"{layout}({variant})", near)


def section(text: str, name: str) -> str:
    """A section of an .lst file, which begins with ``! name``."""
    return text.partition(f"! {name}\n")[2].partition("\n!")[0]


def lacking_zone(root: Path) -> Iterator[str]:
    link, zones = root / "etc/localtime", root / ZONES
    name = str(link.readlink()).partition("zoneinfo/")[2] if link.is_symlink() else ""
    if name and zones.is_dir() and not os.path.lexists(zones / name):
        there = (path.relative_to(zones).as_posix() for path in zones.rglob("*") if path.is_file())
        yield line("time zone", name, (zone for zone in there if zone[0].isupper()))


def said(path: Path, key: str) -> str:
    """The value that follows a key (a pattern) in a file of settings, without quotes."""
    match = re.search(rf"^\s*[^#\n]*?{key}([^\n]*)", text_of(path), flags=re.M | re.I)
    return match[1].strip().strip("'\"") if match else ""


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


if __name__ == "__main__":
    sys.exit(main())
