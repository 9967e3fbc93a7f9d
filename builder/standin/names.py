"""How are Debian's packages called in Arch Linux and Gentoo, and how are their versions written there?"""

import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

LEFT_OUT = "-"


@dataclass(frozen=True)
class Name:
    """One row of data/names.txt. The first of the Debian packages gives the version."""

    repository: str
    arch: str
    gentoo: str
    debian: tuple[str, ...]


def data_text(name: str) -> str:
    return resources.files("builder.standin").joinpath("data", name).read_text()


def rows(name: str) -> list[list[str]]:
    """The lines of a data file, split at white space, without comments and empty lines."""
    lines = (line.partition("#")[0].split() for line in data_text(name).splitlines())
    return [words for words in lines if words]


@cache
def names() -> tuple[Name, ...]:
    return tuple(Name(row[0], row[1], row[2], tuple(row[3:])) for row in rows("names.txt"))


@cache
def by_debian() -> dict[str, Name]:
    return {package: name for name in names() for package in name.debian}


def name_of(debian: str) -> Name:
    """The names of a Debian package; one that the table does not know keeps its own, made legal."""
    return by_debian().get(debian) or Name("extra", debian, f"debian/{gentoo_word(debian)}", (debian,))


@cache
def wanted_packages() -> tuple[str, ...]:
    """The Debian packages that the root is asked for."""
    return tuple(row[0] for row in rows("debian-packages.txt"))


@cache
def extras() -> dict[str, dict[str, Any]]:
    """What packages say beyond Debian's control files: data/packages.yaml, by Arch name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(data_text("packages.yaml"))
    return found


def gentoo_word(name: str) -> str:
    """A package name as PMS 3.1.2 allows: no dots, and no end that looks like a version."""
    word = re.sub(r"[^A-Za-z0-9+_-]", "_", name).lstrip("-+")
    return re.sub(r"-(\d+[0-9_]*[a-z]?)$", r"_\1", word)


def split_version(version: str) -> tuple[int, str, str]:
    """Epoch, upstream version and revision (empty for native packages); deb-version(7)."""
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdigit():
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch), upstream if dash else rest, revision if dash else ""


def pacman_version(version: str) -> str:
    """A Debian version as ``[epoch:]pkgver-pkgrel``, legal by PKGBUILD(5).

    ``~`` (older than nothing) has no counterpart: before a letter it is dropped, since pacman takes
    ``1.0rc1`` for older than ``1.0`` too; elsewhere it becomes a dot. Of a revision its numbers are kept:
    ``3+deb13u1`` becomes 3.1.
    """
    epoch, upstream, revision = split_version(version)
    upstream = re.sub(r"~(?=[A-Za-z])", "", upstream)
    upstream = re.sub(r"[^A-Za-z0-9.+_]", "_", upstream.replace("~", ".")) or "0"
    return (f"{epoch}:" if epoch else "") + f"{upstream}-{pacman_release(revision)}"


def pacman_release(revision: str) -> str:
    """pkgrel of a Debian revision: its first number, and the others (not the 13 of deb13) behind a dot."""
    numbers = re.findall(r"\d+", re.sub(r"deb\d+u", "u", revision))
    if not numbers:
        return "1"
    first, rest = int(numbers[0]), [int(n) for n in numbers[1:]]
    if not rest:
        return str(first or 1)
    return f"{first}." + str(rest[0]) + "".join(f"{n:02d}" for n in rest[1:])
