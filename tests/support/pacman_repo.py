"""A tiny signed pacman repository, made in a second, for everything that needs no real packages."""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from builder.tools import Tools

BUILD_DATE = 1700000000


@dataclass(frozen=True)
class TinyPackage:
    """One package: its files by path (directories are made as needed), and what pacman is told of it."""

    name: str
    version: str = "1.0-1"
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    install: str = ""

    @property
    def filename(self) -> str:
        return f"{self.name}-{self.version}-any.pkg.tar.zst"

    def info(self) -> str:
        size = sum(len(content) for content in self.files.values())
        lines = [
            f"pkgname = {self.name}",
            f"pkgbase = {self.name}",
            "xdata = pkgtype=pkg",
            f"pkgver = {self.version}",
            f"pkgdesc = {self.name} for tests",
            "url = https://example.org",
            f"builddate = {BUILD_DATE}",
            "packager = Nobody <nobody@example.org>",
            f"size = {size}",
            "arch = any",
            *(f"depend = {name}" for name in self.depends),
        ]
        return "\n".join(lines) + "\n"

    def content(self) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            add(tar, ".PKGINFO", self.info())
            if self.install:
                add(tar, ".INSTALL", self.install)
            parents = {p for name in self.files for p in Path(name).parents} - {Path()}
            for directory in sorted(parents):
                entry = tarfile.TarInfo(directory.as_posix())
                entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, BUILD_DATE
                tar.addfile(entry)
            for name, content in sorted(self.files.items()):
                add(tar, name, content)
        return zstandard.compress(buffer.getvalue())


def add(tar: tarfile.TarFile, name: str, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = len(data), BUILD_DATE
    entry.uid = 1000 if name.startswith("home/") else 0
    entry.mode = 0o755 if name.startswith("usr/bin/") else 0o644
    tar.addfile(entry, io.BytesIO(data))


def write_repository(
    tools: Tools, place: Path, name: str, packages: list[TinyPackage], *, home: Path, signed: bool = True
) -> Path:
    """Write packages, signatures (by the only key in ``home``) and databases to ``place``/NAME/os/x86_64."""
    directory = place / name / "os/x86_64"
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for package in packages:
        path = directory / package.filename
        path.write_bytes(package.content())
        paths.append(path)
        if signed:
            sign(tools, path, home)
    database = directory / f"{name}.db.tar.gz"
    tools.run(["repo-add", "--quiet", database, *paths])
    for kind in ("db", "files"):
        link = directory / f"{name}.{kind}"
        real = directory / f"{name}.{kind}.tar.gz"
        link.unlink(missing_ok=True)
        real.rename(link)
        if signed:
            sign(tools, link, home)
    return directory


def sign(tools: Tools, path: Path, home: Path) -> None:
    tools.run(["gpg", "--homedir", home, "--batch", "--yes", "--no-armor", "--detach-sign", path])
