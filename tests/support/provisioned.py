"""How do the tests provision a disk? The commands' own functions on the tiny seat, over any medium.

Also on another seat, as long as its environments have the same names.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from builder.outputs.sign import trusted_keys
from builder.project import Project
from builder.provision import apply as applying
from builder.provision.identity import identify
from builder.provision.job import Job, Report
from builder.provision.replace import replace_environment
from builder.provision.seatdisk import SeatDisk, open_seat, opened
from builder.seat.images import Image, checked_image
from builder.seat.plan import Plan, load_plan
from builder.seat.write import Materials
from builder.tools import Tools
from builder.volume.medium import Medium
from tests.support.gpgkeys import TestKey
from tests.support.tinyseat import DISK_SIZE, PASSPHRASE, put_image

MakeMedium = Callable[[int, Path], Medium]
NAMES = ("work", "private")


@dataclass
class Bench:
    """A project with a seat, and a disk for it."""

    project: Project
    key: TestKey | None
    """What images are signed with; None: they are not."""
    tools: Tools
    disk: Path
    cache: Path
    """Where images that were made and signed once are kept for other tests."""
    seat: str = "tiny"
    size: int = DISK_SIZE
    passphrase: bytes = PASSPHRASE

    @property
    def scratch(self) -> Path:
        return self.disk.with_name(f"{self.disk.name}.scratch")

    def plan(self) -> Plan:
        return load_plan(self.project, self.seat)[0]

    def image(self, profile: str) -> Image:
        keys = [self.key.public] if self.key else []
        return checked_image(self.project, profile, keys, self.tools)

    def new_image(self, profile: str, version: str) -> Image:
        """Build and sign another version of an environment's image."""
        made = self.cache / f"{profile}-{version}"
        if not made.exists():
            put_image(self.project, profile, version, self.key, bootable=profile == "private")
            shutil.copytree(self.project.dist / profile, made)
        shutil.rmtree(self.project.dist / profile)
        shutil.copytree(made, self.project.dist / profile)
        return self.image(profile)

    def on(self, disk: Path) -> "Bench":
        return replace(self, disk=disk)

    def passphrases(self) -> dict[str, bytearray]:
        return {name: bytearray(self.passphrase) for name in NAMES}

    @contextmanager
    def medium(self, make: MakeMedium = Medium) -> Iterator[Medium]:
        fd = os.open(self.disk, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield make(fd, self.disk)
        finally:
            os.close(fd)

    @contextmanager
    def opened(self, make: MakeMedium = Medium) -> Iterator[SeatDisk]:
        with self.medium(make) as medium:
            yield open_seat(medium, self.size)

    def apply(
        self, medium: Medium | None = None, *, passphrases: dict[str, bytearray] | None = None
    ) -> None:
        plan, _, profiles = load_plan(self.project, self.seat)
        if not self.disk.exists():
            with self.disk.open("wb") as f:
                f.truncate(self.size)
        images = {e.name: self.image(e.profile) for e in plan.environments}
        materials = Materials(images, profiles, passphrases or self.passphrases())
        applying.apply(
            plan, materials, identify(self.disk), tools=self.tools, scratch=self.scratch, medium=medium
        )

    def job(self, name: str, image: Image) -> Job:
        plan, file, profiles = load_plan(self.project, self.seat)
        environment = next(e for e in plan.environments if e.name == name)
        keep = tuple(file.seat.environments[name].keep)
        return Job(plan, profiles, environment, image, self.passphrases(), keep=keep)

    def replace(self, name: str, image: Image, make: MakeMedium = Medium) -> Report:
        with self.opened(make) as disk, self.empty_scratch() as scratch:
            return replace_environment(disk, self.job(name, image), tools=self.tools, scratch=scratch)

    @contextmanager
    def empty_scratch(self) -> Iterator[Path]:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        try:
            yield self.scratch
        finally:
            shutil.rmtree(self.scratch)

    def contents(self, name: str) -> dict[str, str]:
        """Path and digest (or link target) of every file of an environment, read from the disk."""
        with (
            self.opened() as disk,
            self.empty_scratch() as scratch,
            opened(disk, name, bytearray(self.passphrase), self.tools, scratch) as filesystem,
        ):
            return {
                entry.path: filesystem.digest(entry.inode)
                if entry.is_file
                else filesystem.target(entry.inode)
                for entry in filesystem.walk()
                if entry.is_file or entry.is_link
            }


def keys_of(key: TestKey) -> list[bytes]:
    return trusted_keys([key.public])
