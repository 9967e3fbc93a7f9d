"""Is there a stand-in of Gentoo's mirrors, and where? Laid out as distfiles.gentoo.org is."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder import ui
from builder.chroot import as_root
from builder.files import file_digest, json_digest, write_json
from builder.run import run
from builder.standin.gentoo.packages import gentoo_packages
from builder.standin.gentoo.portage import ensure_wheel, portage_packages
from builder.standin.gentoo.tree import tree_data, write_tree
from builder.standin.gentoo.workshop import make_gpkgs, make_stage, open_workshop, remove_as_root
from builder.standin.keys import SigningKey, agent
from builder.standin.mirror import ensure_made, standin_home
from builder.standin.names import data_text, rows
from builder.standin.root import root_key
from builder.standin.slices import Root, inventory, slice_root
from builder.tools import Tools

LAYOUT = 2  # raise when the code makes another mirror of the same root and data
AUTOBUILDS = "releases/amd64/autobuilds"
BINPACKAGES = "releases/amd64/binpackages/23.0/x86-64"
SNAPSHOTS = "snapshots"
DISTFILES = "distfiles"
FLAVOUR = "stage3-amd64-systemd"


@dataclass(frozen=True)
class GentooMirror:
    """A stand-in of Gentoo's mirrors on this machine; ``root`` is what is served."""

    root: Path
    date: str  # YYYY-MM-DD
    public_key: Path  # binary OpenPGP
    fingerprint: str
    packages: int
    size: int  # of all files, in bytes


def mirror_key() -> str:
    data = [data_text(f"gentoo/{name}") for name in ("packages.yaml", "portage.txt", "stage.txt")]
    said = {"root": root_key(), "slices": inventory(), "data": data, "tree": tree_data(), "layout": LAYOUT}
    return json_digest(said)[:16]


def ensure_gentoo_mirror() -> GentooMirror:
    """The stand-in mirror, made first where it is missing (three minutes beyond the Debian root, 0.6 GB).

    Raises MachineError or ProgramError where it cannot be made.
    """
    place = standin_home() / "gentoo" / mirror_key()
    ensure_made(place, "the Gentoo stand-in", build_mirror)
    said = json.loads((place / "mirror.json").read_text())
    return GentooMirror(root=place, public_key=place / "standin.pgp", **said)


def build_mirror(tar: Path, key: SigningKey, tools: Tools, place: Path) -> None:
    """Make a whole mirror in the new directory ``place`` from the root at ``tar``."""
    root = Root(tar)
    scratch = place.with_name(f"{place.name}.scratch")
    try:
        with ui.current().step("Reading the stand-in's root"):
            portage = portage_packages(ensure_wheel(standin_home() / "wheels"), root.timestamp)
            wanted = sorted([*gentoo_packages(slice_root(root)), *portage], key=lambda p: p.cp)
        day = datetime.fromtimestamp(root.timestamp, UTC)
        tree = scratch / "tree" / f"gentoo-{day:%Y%m%d}"
        write_tree(tree, {p.category for p in wanted}, place / DISTFILES, root.timestamp)
        shop = open_workshop(scratch, root=root, portage=portage, tree=tree, key=key, tools=tools)
        make_gpkgs(shop, wanted, root)
        stage = make_stage(shop, [row[0] for row in rows("gentoo/stage.txt")])
        with ui.current().step("Packing and signing it"):
            binhost = place / BINPACKAGES
            binhost.parent.mkdir(parents=True)
            shop.pkgdir.rename(binhost)
            (binhost / "Packages.gz").unlink(missing_ok=True)
            publish_stage(stage, place / AUTOBUILDS, day, key, tools)
            publish_tree(tree, place / SNAPSHOTS, root.timestamp, key, tools)
        (place / "standin.pgp").write_bytes(key.public.read_bytes())
        said = {
            "date": f"{day:%Y-%m-%d}",
            "fingerprint": key.fingerprint,
            "packages": len(wanted),
            "size": sum(f.stat().st_size for f in place.rglob("*") if f.is_file()),
        }
        write_json(place / "mirror.json", said)
    finally:
        root.close()
        if scratch.exists():
            remove_as_root(scratch)


def pack(tree: Path, archive: Path, options: Sequence[str], *, name: str = ".") -> None:
    """Pack ``tree`` (its directory ``name``) as .tar.xz, sorted."""
    argv = ["tar", "--create", "--sort=name", "--numeric-owner", "--xattrs", "--xattrs-include=security.*"]
    archive.parent.mkdir(parents=True, exist_ok=True)
    argv += [*options, "--use-compress-program=xz -0 -T2", f"--file={archive}", f"--directory={tree}", name]
    run(as_root(argv))


def publish_stage(stage: Path, autobuilds: Path, day: datetime, key: SigningKey, tools: Tools) -> None:
    """The stage3 with its signature, its signed digests, and the signed word which one is the latest."""
    stamp = f"{day:%Y%m%dT%H%M%SZ}"
    archive = autobuilds / stamp / f"{FLAVOUR}-{stamp}.tar.xz"
    pack(stage, archive, [])
    digests = f"# SHA512 HASH\n{file_digest(archive, 'sha512')}  {archive.name}\n"
    latest = (
        f"# Latest as of {day:%a, %d %b %Y %H:%M:%S} +0000\n# ts={int(day.timestamp())}\n"
        f"{stamp}/{archive.name} {archive.stat().st_size}\n"
    )
    detach(archive, archive.with_name(archive.name + ".asc"), key, tools, armor=True)
    clearsign(digests, archive.with_name(archive.name + ".DIGESTS"), key, tools)
    clearsign(latest, autobuilds / f"latest-{FLAVOUR}.txt", key, tools)


def publish_tree(tree: Path, snapshots: Path, timestamp: int, key: SigningKey, tools: Tools) -> None:
    """The tree's snapshot: signed, as is the top-level Manifest in it."""
    manifest = (tree / "Manifest").read_text()
    (tree / "Manifest").unlink()
    clearsign(manifest, tree / "Manifest", key, tools)
    archive = snapshots / f"{tree.name}.tar.xz"
    pack(tree.parent, archive, [f"--mtime=@{timestamp}", "--owner=0", "--group=0"], name=tree.name)
    detach(archive, archive.with_name(archive.name + ".gpgsig"), key, tools, armor=False)


def detach(file: Path, signature: Path, key: SigningKey, tools: Tools, *, armor: bool) -> None:
    words = [*key.gpg(tools), "--quiet", *(["--armor"] if armor else []), "--output", os.fspath(signature)]
    with agent(key.home, tools):
        tools.run([*words, "--detach-sign", os.fspath(file)], options=tools.gnupg_home(key.home)[1])


def clearsign(text: str, target: Path, key: SigningKey, tools: Tools) -> None:
    words = [*key.gpg(tools), "--quiet", "--output", os.fspath(target), "--clearsign"]
    with agent(key.home, tools):
        tools.run(words, stdin=text.encode(), options=tools.gnupg_home(key.home)[1])
