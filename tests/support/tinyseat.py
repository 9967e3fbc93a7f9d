"""Which seat do the tests of provisioning use? Two images of a few files each, on a disk of 800 MiB."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

from builder.outputs.record import ImageRecord
from builder.outputs.sign import sign_checksums
from builder.project import Project
from tests.support.gpgkeys import TestKey
from tests.support.profiles import project_at
from tests.support.results import EPOCH, pack, package, write_result

PASSPHRASE = b"correct horse battery"
DISK_SIZE = 832 << 20

PROFILE = """\
description: {name}
distribution: arch
{role}
timezone: UTC
locale: en_US.UTF-8
keymap: us
users:
  - name: user
    uid: 1000
display:
  vt: {vt}
  session: i3
  autologin: user
"""
SEAT = """\
disk:
  size: 832MiB
esp: 72MiB
vg: vgtiny
swap: 16MiB
environments:
  work:
    size: 128MiB
    keep: [/home, /etc/machine-id]
  private:
    size: 140MiB
    keyfile: false
host: private
keys:
  pbkdf: fast-test
"""


SHADOW = b"root:*:20000:0:99999:7:::\nuser:!*:20000::::::\ndaemon:*:20000:0:99999:7:::\n"


def directory(name: str, *, mode: int = 0o755, owner: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, mode, EPOCH
    info.uid = info.gid = owner
    return info


def file(name: str, *, mode: int = 0o644, owner: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = mode, EPOCH
    info.uid = info.gid = owner
    return info


def content(version: str, name: str) -> bytes:
    """A file of an image: 60 kB that depend on its name and the image's version."""
    seed = hashlib.sha256(f"{version} {name}".encode()).digest()
    return b"".join(hashlib.sha256(seed + n.to_bytes(4, "big")).digest() for n in range(1900))


def image(version: str) -> bytes:
    """The tree of an environment, small but with what a seat adds files to."""
    names = ("./usr/bin/program", "./usr/lib/library.so", "./etc/os-release")
    folders = ("./usr", "./usr/bin", "./usr/lib", "./etc", "./etc/lightdm", "./home", "./boot", "./efi")
    members = [directory("."), *(directory(f) for f in folders), *(file(n) for n in names)]
    members += [directory("./home/user", mode=0o700, owner=1000)]
    members += [file("./home/user/from-image", owner=1000), file("./etc/machine-id", mode=0o444)]
    shadow = file("./etc/shadow", mode=0o640)
    shadow.gid = 42

    def data(name: str) -> bytes:
        return SHADOW if name == shadow.name else content(version, name)

    return pack(*members, shadow, content=data)


def put_image(
    project: Project,
    profile: str,
    version: str,
    key: TestKey | None,
    *,
    source: str = "upstream",
    bootable: bool = False,
) -> Path:
    """A result directory in dist/, signed where a key is given."""
    place = project.dist / profile
    if place.exists():
        for path in place.iterdir():
            path.unlink()
    what = ImageRecord(
        profile=profile,
        version=version,
        distribution="arch",
        source=source,
        epoch=EPOCH,
        packages=[package("i3-wm")],
        tools={"mkosi": "25.3-1"},
    )
    uki = f"UKI of {profile} {version}\n".encode() * 4000 if bootable else None
    write_result(place, what, image=image(version), uki=uki)
    if key:
        sign_checksums(place, os.fspath(key.secret))
    return place


def tiny_project(root: Path, key: TestKey, *, seat: str = SEAT) -> Project:
    """A checkout with profiles, the seat ``tiny`` and signed images of version 1 in dist/."""
    project = project_at(root)
    for name, vt, role in (("work", 8, "role: container"), ("private", 7, "role: host")):
        text = PROFILE.format(name=name, vt=vt, role=role)
        (project.profiles / f"{name}.yaml").write_text(text)
    project.seats.mkdir(exist_ok=True)
    (project.seats / "tiny.yaml").write_text(seat)
    put_image(project, "work", "1", key)
    put_image(project, "private", "1", key, bootable=True)
    return project


def names_in(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()
