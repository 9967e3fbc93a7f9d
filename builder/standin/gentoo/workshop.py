"""Where does portage make the stand-in's packages and stage3? In a root of its own, the workshop."""

import contextlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from builder import ui
from builder.chroot import as_root, inside
from builder.files import CHUNK
from builder.run import Arg, Result, run
from builder.standin.gentoo import make_gpkgs_script
from builder.standin.gentoo.packages import GentooPackage
from builder.standin.gentoo.tree import PROFILE, REPOSITORY
from builder.standin.keys import SigningKey, agent
from builder.standin.slices import Root
from builder.tools import Tools

# what portage would isolate and flush for a living system; DESIGN.md has what each costs
FAST = (
    "-binpkg-logs -ebuild-locks -ipc-sandbox -merge-sync -merge-wait -mount-sandbox -multilib-strict "
    "-network-sandbox -news -pid-sandbox -qa-unresolved-soname-deps -sandbox -userfetch -userpriv "
    "-usersandbox -usersync"
)
MAKE_CONF = """\
FEATURES="{fast} binpkg-signing binpkg-ignore-signature"
BINPKG_FORMAT="gpkg"
BINPKG_COMPRESS="zstd"
BINPKG_COMPRESS_FLAGS="-3 -T1"
BINPKG_GPG_SIGNING_GPG_HOME="/signing"
BINPKG_GPG_SIGNING_KEY="{fingerprint}"
PKGDIR="/pkgdir"
"""


@dataclass(frozen=True)
class Workshop:
    """The Debian root with portage in it, below ``root``; gpkgs appear in ``pkgdir``."""

    root: Path
    pkgdir: Path
    key: SigningKey
    tools: Tools

    def run(self, argv: Sequence[Arg], *, binds: Mapping[Path, str] | None = None, **how: Any) -> Result:
        places = {self.pkgdir: "/pkgdir", self.key.home: "/signing", **(binds or {})}
        environment = {"PKGDIR": "/pkgdir", "PORTAGE_TRUST_HELPER": "true"}
        return inside(self.root, argv, tools=self.tools, binds=places, environment=environment, **how)

    def remove(self) -> None:
        remove_as_root(self.root)


def remove_as_root(place: Path) -> None:
    """Remove a tree whose files may belong to subordinate ids."""
    run(as_root(["rm", "-rf", "--one-file-system", place]))


def open_workshop(
    place: Path, *, root: Root, portage: Sequence[GentooPackage], tree: Path, key: SigningKey, tools: Tools
) -> Workshop:
    """Unpack the Debian root and portage below ``place``."""
    target = place / "root"
    target.mkdir(parents=True)
    (place / "pkgdir").mkdir()
    unpack: list[Arg] = [
        "tar",
        "--extract",
        "--numeric-owner",
        "--preserve-permissions",
        "--directory",
        target,
    ]
    run(as_root([*unpack, "--exclude=./dev/*", "--file", root.tar]))
    with streamed(lambda out: write_files(out, root, portage)) as stream:
        run(as_root([*unpack, "--file", "-"]), stdin=stream)
    made = Workshop(target, place / "pkgdir", key, tools)
    conf = MAKE_CONF.format(fast=FAST, fingerprint=key.fingerprint)
    setup = (
        f"set -e; mkdir -p {REPOSITORY} /etc/portage /pkgdir /signing; cp -r /tmp/tree/. {REPOSITORY}; "
        f"ln -sfn ../..{REPOSITORY}/profiles/{PROFILE} /etc/portage/make.profile; "
        "cat >/etc/portage/make.conf; systemd-sysusers"
    )
    # the directories that Workshop.run binds onto are made here
    inside(target, ["sh", "-c", setup], tools=tools, readable={tree: "/tmp/tree"}, stdin=conf.encode())
    return made


def write_files(out: tarfile.TarFile, root: Root, packages: Sequence[GentooPackage]) -> None:
    with root.tar.open("rb") as source:
        for package in packages:
            for made in package.entries:
                add_entry(out, "./" + made.path, made.info, made.content, made.offset, source)


def add_entry(
    out: tarfile.TarFile,
    name: str,
    info: tarfile.TarInfo,
    content: bytes | None,
    offset: int,
    source: IO[bytes],
) -> None:
    """Add one entry of a package under another name; ``source`` is the Debian root's tar."""
    member = tarfile.TarInfo(name)
    for field in ("type", "mode", "uid", "gid", "size", "linkname", "mtime", "pax_headers"):
        setattr(member, field, getattr(info, field))
    if content is not None:
        out.addfile(member, io.BytesIO(content))
    else:
        source.seek(offset)
        out.addfile(member, source if info.isreg() else None)


@contextlib.contextmanager
def streamed(write: Any) -> Iterator[int]:
    """The reading end of a pipe into which ``write(tar)`` writes a tar, in a thread of its own."""
    reading, writing = os.pipe()
    failed: list[BaseException] = []

    def pump() -> None:
        try:
            with (
                os.fdopen(writing, "wb", buffering=CHUNK) as raw,
                tarfile.open(mode="w|", fileobj=raw, format=tarfile.PAX_FORMAT, bufsize=CHUNK) as out,
            ):
                write(out)
        except BrokenPipeError:
            pass  # the reader ended early; its exit status says why
        except BaseException as e:
            failed.append(e)

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join()
    if failed:
        raise failed[0]


def make_gpkgs(shop: Workshop, packages: Sequence[GentooPackage], root: Root) -> None:
    """Let portage make a signed gpkg of every package, and the binhost's index."""
    timestamp = root.timestamp

    def write(out: tarfile.TarFile) -> None:
        with (
            ui.current().step("Making gpkgs of it", total=sum(p.size for p in packages)) as meter,
            root.tar.open("rb") as source,
        ):
            for package in packages:
                write_package(out, package, timestamp, source)
                meter.advance(package.size)

    with agent(shop.key.home, shop.tools), streamed(write) as stream:
        binds = {make_gpkgs_script(): "/tmp/make_gpkgs.py"}
        shop.run(["python3", "/tmp/make_gpkgs.py"], stdin=stream, binds=binds)
    shop.run(["emaint", "--fix", "binhost"])


def write_package(out: tarfile.TarFile, package: GentooPackage, timestamp: int, source: IO[bytes]) -> None:
    top = f"{package.category}/{package.pf}"
    texts = {
        "metadata.json": json.dumps(package.metadata(timestamp)).encode(),
        "environment.bz2": package.environment(),
    }
    for name, data in texts.items():
        info = tarfile.TarInfo(f"{top}/{name}")
        info.size = len(data)
        out.addfile(info, io.BytesIO(data))
    for made in package.entries:
        add_entry(out, f"{top}/image/{made.path}", made.info, made.content, made.offset, source)


def make_stage(shop: Workshop, atoms: Sequence[str]) -> Path:
    """Let emerge install ``atoms`` from the gpkgs into an empty root; return where that is."""
    options = ["--color=n", "--quiet", "--usepkgonly", "--jobs=2", "--root=/stage", "--oneshot"]
    with ui.current().step("Installing a stage3 from them"):
        shop.run(["mkdir", "-p", "/stage"])
        shop.run(["emerge", *options, *atoms])
        left = "var/cache/edb var/log/emerge.log var/log/portage var/tmp/portage"
        link = f"ln -s ../..{REPOSITORY}/profiles/{PROFILE} etc/portage/make.profile"
        shop.run(["sh", "-c", f"cd /stage && rm -rf {left} && mkdir -p etc/portage && {link}"])
    return shop.root / "stage"
