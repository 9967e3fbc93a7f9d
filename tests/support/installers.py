"""How do the tests get an installer and a PC to run it on? A root of three files, and a file for a disk."""

import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from builder.cli.installer_session import Session
from builder.errors import SeatsmithError
from builder.installer import pythonparts
from builder.installer.answers import Then
from builder.installer.layout import ANSWERS
from builder.project import Project
from builder.provision.seatdisk import open_seat, opened
from builder.seat.images import Image
from builder.tools import Tools
from builder.volume.medium import Medium
from tests.support.gpgkeys import TestKey
from tests.support.results import EPOCH
from tests.support.tinyseat import DISK_SIZE, PASSPHRASE

KERNEL = b"this is no kernel" * 100
PROFILES = ("work", "private")
SERIAL = "SEATSMITH-TEST-7"


def small_root(place: Path, tools: Tools) -> Image:
    """What stands for the image of the profile `installer`."""
    place.mkdir(parents=True)
    tar = place / "installer_1_x86-64.tar.zst"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as out:
        for name in ("./usr/lib/python3.13/os.py", "./usr/lib/systemd/systemd", "./etc/fstab"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            out.addfile(info, io.BytesIO(name.encode()))
    tar.write_bytes(zstandard.ZstdCompressor().compress(buffer.getvalue()))
    (place / "linux").write_bytes(KERNEL)
    (place / "initrd").write_bytes(b"not used")
    uki = place / "installer_1_x86-64.efi"
    parts = ["--linux", place / "linux", "--initrd", place / "initrd", "--uname", "6.1"]
    tools.run(["ukify", "build", *parts, "--output", uki])
    return Image("installer", "1", tar, uki, EPOCH, signed=True)


def without_wheels(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """Leave out what would have to be fetched."""
    (place / "pydantic").mkdir(parents=True)
    (place / "pydantic/__init__.py").write_text("")

    def packages(project: Project, version: str) -> Path:
        return place

    monkeypatch.setattr(pythonparts, "python_packages", packages)


@dataclass(frozen=True)
class Desk:
    """A project with the tiny seat, a directory that stands for the mounted stick, and a disk."""

    project: Project
    key: TestKey
    tools: Tools
    stick: Path
    disk: Path

    def answers(self, **values: object) -> None:
        """Put answers on the stick; a value of None leaves that answer out."""
        given = {"seat": "tiny", "serial": SERIAL, "for_tests": True, "then": "poweroff", **values}
        (self.stick / ANSWERS).write_text(json.dumps({k: v for k, v in given.items() if v is not None}))

    def run(self) -> Then:
        return Session(self.stick, lambda: [self.disk], patience=0).run()

    def refused(self, kind: type[SeatsmithError], words: str) -> SeatsmithError:
        """The session is refused with these words, and the disk stays as it is."""
        before = self.written()
        with pytest.raises(kind) as caught:
            self.run()
        assert words in caught.value.message
        assert self.written() == before
        return caught.value

    def written(self) -> list[bytes]:
        """The parts of the disk that something was written to."""
        parts, at = [], 0
        with self.disk.open("rb") as f:
            while at < DISK_SIZE:
                try:
                    start = os.lseek(f.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                at = os.lseek(f.fileno(), start, os.SEEK_HOLE)
                parts.append(os.pread(f.fileno(), at - start, start))
        return parts

    def passwords(self, name: str, scratch: Path) -> dict[str, str]:
        """What /etc/shadow of an environment says of root and the user, of hashes only their kind."""
        with self.disk.open("rb") as f:
            seat = open_seat(Medium(f.fileno(), self.disk), DISK_SIZE)
            with opened(seat, name, bytearray(PASSPHRASE), self.tools, scratch) as filesystem:
                text = filesystem.data(filesystem.find("etc/shadow")).decode()
        fields = [line.split(":") for line in text.splitlines()]
        return {f[0]: f[1][:3] for f in fields if f[0] in ("root", "user")}

    def environments(self) -> dict[str, str]:
        """Image versions by environment, as the disk says."""
        with self.disk.open("rb") as f:
            seat = open_seat(Medium(f.fileno(), self.disk), DISK_SIZE)
            return {name: seat.tags(name)["image"] for name in seat.environments}
