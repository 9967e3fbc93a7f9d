"""How does seatsmith itself run in a guest? From a disk with our Python, its modules and the tools tree.

Everything on it is what the test itself runs with: the interpreter with its own loader and libraries, so
that the guest's C library does not matter, and the tools tree in the place where the cache keeps it.
"""

import compileall
import importlib.metadata
import io
import os
import shlex
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from packaging.requirements import Requirement

from builder.machine.machine import Machine
from builder.machine.shell import HostShell
from builder.project import Project
from builder.run import run
from builder.tools import Tools, tree_key
from builder.volume import ext4
from tests.support.diskfilter import plug_disk
from tests.support.tinyproject import CHECKOUT

PLACE = "/run/kit"
SERIAL = "SEATSMITH-TEST-KIT"
SIZE = 1 << 30
SEED = "22222222-2222-4222-8222-222222222222"
PYTHON = f"{PLACE}/python/bin/python3"
REAL = f"{PLACE}/python/bin/real"
CACHE = "/run/provision"
NOT_STDLIB = {"site-packages", "test", "idlelib", "tkinter", "ensurepip", "lib2to3", "turtledemo", "config"}
NOT_TOOLS = (
    *(
        "usr/share/locale",
        "usr/share/perl",
        "usr/share/texinfo",
        "usr/share/tesseract-ocr",
        "usr/share/qemu",
    ),
    *("usr/share/OVMF", "usr/share/ovmf", "usr/share/fonts", "usr/lib/python3.13", "usr/lib/file"),
    *("usr/lib/udev/hwdb", "usr/bin/qemu-", "usr/bin/perl", "usr/lib/x86_64-linux-gnu/perl"),
)


def distributions(name: str, seen: set[str] | None = None) -> Iterator[importlib.metadata.Distribution]:
    """What an installed distribution needs to run, itself left out."""
    seen = set() if seen is None else seen
    for line in importlib.metadata.requires(name) or []:
        wanted = Requirement(line)
        if wanted.name in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(wanted.name)
        yield importlib.metadata.distribution(wanted.name)
        yield from distributions(wanted.name, seen)


def module_paths() -> set[Path]:
    """Files and directories in site-packages that make up those distributions."""
    found = set()
    for distribution in distributions("seatsmith"):
        for file in distribution.files or ():
            if ".." not in file.parts and file.parts[0] != "__pycache__":
                found.add(Path(str(distribution.locate_file(file.parts[0]))))
    return found


def libraries(programs: Iterable[Path]) -> dict[str, Path]:
    """The loader and all shared libraries of programs and modules, by name."""
    said = run(["ldd", *programs], check=False).text
    found = {}
    for line in said.splitlines():
        words = line.split()
        path = next((Path(word) for word in words if word.startswith("/") and not word.endswith(":")), None)
        if path is not None and line.startswith("\t"):
            found[path.name] = path.resolve()
    return found


def write_kit(out: BinaryIO, project: Project, tools: Tools) -> None:
    """The tar of everything."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        real, stdlib = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
        add_folders(tar, "python", "python/bin", "python/lib", "python/libs", "tools", "checkout")
        tar.add(real, "python/bin/real")
        site = f"python/lib/{stdlib.name}/site-packages"
        tar.add(stdlib, f"python/lib/{stdlib.name}", filter=without(stdlib.name, NOT_STDLIB))
        add_folders(tar, site)
        modules = module_paths()
        for path in sorted(modules):
            tar.add(path, f"{site}/{path.name}")
        binaries = [p for base in (stdlib / "lib-dynload", *modules) for p in base.rglob("*.so")]
        binaries += [p for p in modules if p.suffix == ".so"]
        needed = libraries([real, *binaries])
        for name, path in needed.items():
            tar.add(path, f"python/libs/{name}")
        loader = next(name for name in needed if name.startswith("ld-linux"))
        libs = f"{PLACE}/python/libs"
        add_program(
            tar,
            "python/bin/python3",
            f'#!/bin/sh\nexec {libs}/{loader} --argv0 "$0" --library-path {libs} {REAL} "$@"\n',
        )
        assert tools.root is not None
        for entry in sorted(tools.root.iterdir()):
            if entry.name in ("usr", "etc") or entry.is_symlink():
                tar.add(entry, f"tools/{entry.name}", filter=leaner)
        tar.add(CHECKOUT / "builder", "checkout/builder")
        tar.add(project.root, "project")


def without(top: str, names: set[str]) -> object:
    def choose(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        parts = Path(info.name).parts
        below = parts[parts.index(top) + 1 :]
        return None if below and below[0].split("-3.")[0] in names else info

    return choose


def leaner(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if info.name.removeprefix("tools/").startswith(NOT_TOOLS) else info


def add_folders(tar: tarfile.TarFile, *names: str) -> None:
    for name in names:
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)


def add_program(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(text), 0o755
    tar.addfile(info, io.BytesIO(text.encode()))


def make_kit(path: Path, project: Project, tools: Tools, *, size: int = SIZE) -> None:
    """A filesystem with all that ``seatsmith`` needs, and a project to use it on.

    Files keep their times, which say that what Python compiled of them is up to date: to compile it in an
    emulated guest takes minutes.
    """
    for folder in (CHECKOUT / "builder", *(path for path in module_paths() if path.is_dir())):
        compileall.compile_dir(folder, quiet=2)
    ext4.make(
        tools,
        path,
        size,
        lambda out: write_kit(out, project, tools),
        uuid=SEED,
        hash_seed=SEED,
        label="kit",
        epoch=int(time.time()),
    )


class GuestKit:
    """The kit in a running guest."""

    def __init__(self, machine: Machine, disk: Path) -> None:
        self.host: HostShell = machine.host
        self.disk = disk
        file = {"driver": "file", "filename": os.fspath(disk), "read-only": True}
        node = plug_disk(machine, "kit", SERIAL, driver="raw", read_only=True, file=file)
        self.host.succeed(f"mkdir -p {PLACE} {CACHE}/seatsmith/tools && mount -o ro {node} {PLACE}")
        self.host.succeed(f"ln -s {PLACE}/tools {CACHE}/seatsmith/tools/{tree_key()}")

    def command(self, *words: str) -> str:
        """The command line of ``seatsmith WORDS`` in the guest."""
        env = {
            "PYTHONPATH": f"{PLACE}/checkout",
            "XDG_CACHE_HOME": CACHE,
            "SEATSMITH_ROOT": f"{PLACE}/project",
        }
        settings = " ".join(f"{name}={value}" for name, value in env.items())
        return f"cd / && {settings} {PYTHON} -m builder {shlex.join(words)}"
