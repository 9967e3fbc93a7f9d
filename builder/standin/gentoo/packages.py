"""How do slices of the Debian root become Gentoo packages: names, versions, dependencies, phases?"""

import bz2
import re
import tarfile
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from builder.standin.names import split_version
from builder.standin.slices import Entry, Slice

EAPI = "8"
CHOST = "x86_64-pc-linux-gnu"
USE = "amd64 elibc_glibc kernel_linux"


@dataclass(frozen=True)
class GentooPackage:
    """One package as a gpkg carries it (GLEP 78): its metadata, and the entries of its image."""

    category: str
    name: str
    version: str
    description: str
    homepage: str
    depends: tuple[str, ...] = ()  # category/name
    entries: tuple[Entry, ...] = ()
    phases: dict[str, str] = field(default_factory=dict)  # bash function bodies by name, as in an ebuild

    @property
    def cp(self) -> str:
        return f"{self.category}/{self.name}"

    @property
    def pf(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def size(self) -> int:
        return sum(e.info.size for e in self.entries)

    def metadata(self, timestamp: int) -> dict[str, str]:
        """The metadata files of the gpkg, as portage keeps them in /var/db/pkg (portage(5), vdb)."""
        defined = " ".join(sorted(name.removeprefix("pkg_") for name in self.phases)) or "-"
        return {
            "CATEGORY": self.category,
            "PF": self.pf,
            "SLOT": "0",
            "EAPI": EAPI,
            "KEYWORDS": "amd64",
            "IUSE": "",
            "USE": USE,
            "RDEPEND": " ".join(self.depends),
            "LICENSE": "metapackage",
            "DESCRIPTION": self.description or self.name,
            "HOMEPAGE": self.homepage,
            "DEFINED_PHASES": defined,
            "INHERITED": "",
            "CHOST": CHOST,
            "CBUILD": CHOST,
            "FEATURES": "",
            "BUILD_TIME": str(timestamp),
            "BUILD_ID": "1",
            "SIZE": str(self.size),
            "repository": "gentoo",
            f"{self.pf}.ebuild": self.ebuild(),
        }

    def ebuild(self) -> str:
        """An ebuild that says what the package is; its files come from the binhost alone."""
        lines = [
            f"EAPI={EAPI}",
            f'DESCRIPTION="{shell_word(self.description or self.name)}"',
            'SLOT="0"',
            'KEYWORDS="amd64"',
            'LICENSE="metapackage"',
            *([f'RDEPEND="{" ".join(self.depends)}"'] if self.depends else []),
            *(f"{name}() {{\n{body}}}" for name, body in sorted(self.phases.items())),
        ]
        return "\n".join(lines) + "\n"

    def environment(self) -> bytes:
        """environment.bz2: the shell state that portage sources before it runs a phase of the package."""
        said = {
            "EAPI": EAPI,
            "CATEGORY": self.category,
            "PF": self.pf,
            "PN": self.name,
            "SLOT": "0",
            "IUSE": "",
            "DEFINED_PHASES": self.metadata(0)["DEFINED_PHASES"],
        }
        lines = [f'declare -x {key}="{value}"' for key, value in said.items()]
        lines += [f"{name} () \n{{ \n{body}}}" for name, body in sorted(self.phases.items())]
        return bz2.compress(("\n".join(lines) + "\n").encode())


def shell_word(text: str) -> str:
    """``text`` as it can stand in double quotes of bash."""
    return re.sub(r'(["\\$`])', r"\\\1", " ".join(text.split()))


@cache
def said() -> dict[str, Any]:
    """data/gentoo/packages.yaml."""
    text = resources.files("builder.standin").joinpath("data", "gentoo", "packages.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def gentoo_version(version: str) -> str:
    """A Debian version as PMS 3.2 allows: numbers, ``_p`` of what follows them, ``-r`` and the revision."""
    _, upstream, revision = split_version(version)
    base = re.match(r"\d+(\.\d+)*", upstream)
    number = base[0] if base else "0"
    rest = re.findall(r"\d+", upstream[len(number) :] if base else upstream)
    numbers = re.findall(r"\d+", re.sub(r"deb\d+u", "u", revision))
    suffix = f"_p{rest[0]}" if rest else ""
    release = int(numbers[0]) if numbers else 0
    return f"{number}{suffix}" + (f"-r{release}" if release else "")


def gentoo_packages(slices: list[Slice]) -> list[GentooPackage]:
    """The Gentoo packages of the slices, sorted by name; slices of one name become one package."""
    renamed: dict[str, str] = said()["names"]
    names = {s.name.arch: renamed.get(s.name.gentoo, s.name.gentoo) for s in slices}
    parts: dict[str, list[Slice]] = {}
    for part in slices:
        parts.setdefault(names[part.name.arch], []).append(part)
    return [merged(cp, parts[cp], names) for cp in sorted(parts)]


def merged(cp: str, parts: list[Slice], names: dict[str, str]) -> GentooPackage:
    category, _, name = cp.partition("/")
    main = max(parts, key=lambda s: (sum(e.info.size for e in s.entries), s.name.arch))
    entries = {e.path: e for part in parts for e in part.entries if not foreign(e.path)}
    for path, target in said()["links"].get(cp, {}).items():
        beside = entries[f"{path.rpartition('/')[0]}/{target}"]
        entries[path] = link_entry(path, target, int(beside.info.mtime))
    depends = {names[d] for part in parts for d in part.depends if d in names}
    depends |= set(said()["depends"].get(cp, ()))
    depends -= {cp, *said()["without"].get(cp, ())}
    return GentooPackage(
        category=category,
        name=name,
        version=gentoo_version(main.version),
        description=main.description,
        homepage=main.homepage,
        depends=tuple(sorted(depends)),
        entries=tuple(entries[path] for path in sorted(entries)),
        phases=phases(cp, set(entries)),
    )


def link_entry(path: str, target: str, timestamp: int) -> Entry:
    info = tarfile.TarInfo(path)
    info.type, info.linkname, info.mode, info.mtime = tarfile.SYMTYPE, target, 0o777, timestamp
    return Entry(info)


def foreign(path: str) -> bool:
    """Whether a path is Arch's own machinery, which the slices carry for pacman."""
    return path.startswith(("usr/share/libalpm", "etc/pacman.d/gnupg"))


def phases(cp: str, paths: set[str]) -> dict[str, str]:
    """pkg_postinst: what an eclass would call for its kinds of files, and what the package says itself."""
    lines = [
        line
        for prefix, line in said()["postinst_by_path"].items()
        if any(path.startswith(prefix) and path != prefix.rstrip("/") for path in paths)
    ]
    lines += said()["postinst"].get(cp, [])
    return {"pkg_postinst": "".join(f"    {line};\n" for line in lines)} if lines else {}
