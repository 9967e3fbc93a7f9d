"""How does a slice become a pacman package, and a directory of packages a signed repository?"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import zstandard

from builder import ui
from builder.files import CHUNK
from builder.standin.names import Name, extras, pacman_version
from builder.standin.slices import FILESYSTEM, Entry, Root, Slice, install_script

LEVEL = 3  # of zstd: the mirror is made once and read over loopback
ARCHITECTURE = "x86_64"
PACKAGER = "Seatsmith stand-in <standin@example.invalid>"


@dataclass(frozen=True)
class Package:
    """What one pacman package says about itself, in the words of PKGBUILD(5)."""

    name: str
    version: str
    repository: str
    description: str
    url: str
    timestamp: int
    depends: tuple[str, ...] = ()
    optdepends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    backup: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    install: str | None = None

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-{ARCHITECTURE}.pkg.tar.zst"

    @property
    def size(self) -> int:
        return sum(e.info.size for e in self.entries)

    def pkginfo(self) -> str:
        """The .PKGINFO file; libalpm/be_package.c reads it."""
        pairs: list[tuple[str, Any]] = [
            ("pkgname", self.name),
            ("pkgbase", self.name),
            ("xdata", "pkgtype=pkg"),
            ("pkgver", self.version),
            ("pkgdesc", self.description),
            ("url", self.url),
            ("builddate", self.timestamp),
            ("packager", PACKAGER),
            ("size", self.size),
            ("arch", ARCHITECTURE),
        ]
        many = {
            "replaces": self.replaces,
            "group": self.groups,
            "conflict": self.conflicts,
            "provides": self.provides,
            "backup": self.backup,
            "depend": self.depends,
            "optdepend": self.optdepends,
        }
        pairs += [(key, value) for key, values in many.items() for value in values]
        return "".join(f"{key} = {' '.join(str(value).split())}\n" for key, value in pairs)


def packages(slices: list[Slice], timestamp: int) -> list[Package]:
    """The pacman packages of the slices, with the meta packages of data/packages.yaml, sorted by name."""
    made = {s.name.arch: package(s, timestamp) for s in slices}
    for name, extra in extras().items():
        if name not in made and "repository" in extra:
            part = Slice(Name(extra["repository"], name, "", ()), version_of(slices, extra))
            made[name] = package(part, timestamp)
    return [made[name] for name in sorted(made)]


def package(part: Slice, timestamp: int) -> Package:
    extra = extras().get(part.name.arch, {})
    paths = {e.path for e in part.entries}

    def listed(key: str, *more: str) -> tuple[str, ...]:
        return tuple(sorted({*extra.get(key, ()), *more}))

    return Package(
        name=part.name.arch,
        version=pacman_version(part.version),
        repository=extra.get("repository", part.name.repository),
        description=extra.get("description", part.description),
        url=part.homepage,
        timestamp=timestamp,
        depends=listed("depends", *part.depends),
        optdepends=listed("optdepends"),
        provides=listed("provides"),
        conflicts=listed("conflicts"),
        replaces=listed("replaces"),
        groups=listed("groups"),
        backup=tuple(p for p in listed("backup", *part.conffiles) if p in paths),
        entries=tuple(e for e in part.entries if not e.hooked),
        install=install_script(part.name.arch),
    )


def version_of(slices: list[Slice], extra: dict[str, Any]) -> str:
    """The Debian version of the package that a meta package takes its own from."""
    source = extra.get("version_of", FILESYSTEM)
    return next(s.version for s in slices if s.name.arch == source)


def write_packages(root: Root, wanted: list[Package], mirror: Path) -> list[Path]:
    """Write every package to ``mirror``/REPOSITORY/os/x86_64, two at a time."""
    total = sum(p.size for p in wanted)
    for repository in {p.repository for p in wanted}:
        (mirror / repository / "os" / ARCHITECTURE).mkdir(parents=True, exist_ok=True)
    with (
        ui.current().step("Slicing it into packages", total=total) as meter,
        ThreadPoolExecutor(2) as pool,
    ):

        def one(wanted: Package) -> Path:
            path = mirror / wanted.repository / "os" / ARCHITECTURE / wanted.filename
            write_package(root, wanted, path)
            meter.advance(wanted.size)
            return path

        return list(pool.map(one, wanted))


def write_package(root: Root, wanted: Package, path: Path) -> None:
    """Write one package file; the same package gives the same bytes."""
    with (
        root.tar.open("rb") as source,
        path.open("wb") as raw,
        zstandard.ZstdCompressor(level=LEVEL).stream_writer(raw, closefd=False) as packed,
        tarfile.open(mode="w|", fileobj=packed, format=tarfile.PAX_FORMAT, bufsize=CHUNK) as out,
    ):
        add_text(out, ".PKGINFO", wanted.pkginfo(), wanted.timestamp)
        if wanted.install is not None:
            add_text(out, ".INSTALL", wanted.install, wanted.timestamp)
        mtree = gzip.compress("".join(mtree_lines(wanted, source)).encode(), mtime=0)
        add_text(out, ".MTREE", mtree, wanted.timestamp)
        for entry in wanted.entries:
            if entry.content is not None:
                out.addfile(entry.info, io.BytesIO(entry.content))
            else:
                source.seek(entry.offset)
                out.addfile(entry.info, source if entry.info.isreg() else None)


def add_text(out: tarfile.TarFile, name: str, content: str | bytes, timestamp: int) -> None:
    data = content.encode() if isinstance(content, str) else content
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), timestamp, 0o644
    out.addfile(info, io.BytesIO(data))


def mtree_lines(wanted: Package, source: IO[bytes]) -> Iterator[str]:
    """mtree(5) of a package, which ``pacman -Qkk`` compares installed files with."""
    yield "#mtree\n"
    for entry in wanted.entries:
        info = entry.info
        line = (
            f"./{mtree_word(info.name)} time={info.mtime}.0 mode={info.mode:o} uid={info.uid} gid={info.gid}"
        )
        if info.isdir():
            yield f"{line} type=dir\n"
        elif info.issym():
            yield f"{line} type=link link={mtree_word(info.linkname)}\n"
        else:
            yield f"{line} type=file size={info.size} sha256digest={digest(entry, source)}\n"


def mtree_word(path: str) -> str:
    """A path with everything but plain characters as octal escapes, as vis(3) writes them."""
    plain = b"/._-+,@%:~^="
    data = path.encode(errors="surrogateescape")
    return "".join(chr(b) if (chr(b).isalnum() and b < 128) or b in plain else f"\\{b:03o}" for b in data)


def digest(entry: Entry, source: IO[bytes]) -> str:
    if entry.content is not None:
        return hashlib.sha256(entry.content).hexdigest()
    source.seek(entry.offset)
    made, left = hashlib.sha256(), entry.info.size
    while left > 0:
        block = source.read(min(CHUNK, left))
        if not block:
            break
        made.update(block)
        left -= len(block)
    return made.hexdigest()
