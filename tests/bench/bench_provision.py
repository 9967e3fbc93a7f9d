"""How long does provisioning take, beside writing the same data once, and beside pacstrap by hand?

The first on a file, with the image of ``work`` and kept data in /home. The second in one virtual machine,
onto two empty disks: a seat of that one environment, and by hand what archinstall does (byhand.py).
Both check what they install: Seatsmith the signature of the image, pacman that of each package. Both use the
programs of the running system, as Seatsmith does on the installer's stick. All of the guest's memory is used
once before: the first use of each page is what the machine below has to give, and either would pay for both.
"""

import os
import shlex
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from builder import ui
from builder.distro.arch import Arch
from builder.distro.packagesets import wanted_packages
from builder.errors import InputError
from builder.files import linked, remove_tree
from builder.image import fetch, store_of
from builder.lock import Lock, read_lock
from builder.outputs.gpg import temporary_keyring
from builder.outputs.sign import sign_checksums
from builder.profile import load_profile
from builder.project import Project, cache_home, find_project
from builder.provision import apply as applying
from builder.provision.identity import identify
from builder.seat.images import Image, find_image
from builder.seat.write import Materials
from builder.sources import Source
from builder.tools import Tools, ensure_tools
from builder.ui import NoMeter
from builder.volume import luks
from builder.volume.keys import volume_key
from builder.volume.medium import Medium
from tests.bench.bench_seat import SECRET as PASSPHRASE
from tests.bench.bench_seat import make_filesystem, make_header
from tests.bench.byhand import PARTS, PREPARE, lay_programs
from tests.support.diskfilter import plug_disk
from tests.support.gpgkeys import KeyMaker
from tests.support.guestkit import PLACE
from tests.support.liveseat import SECRET, LiveSeat, live_seat
from tests.support.provisioned import Bench
from tests.support.tinyproject import copy_checkout

PROFILE = "work"
KEPT = 256 << 20  # of random bytes in a home directory
ROUNDS = 5
SIZE = 14 << 30
VOLUME = 5 << 30
GUEST_DISK = 4 << 30
LONG = 3600.0  # seconds that a step may take under emulation
SEAT = """\
disk:
  size: {disk}MiB
esp: 256MiB
vg: vgspare
swap: 16MiB
environments:
  work:
    size: {size}MiB
    keep: [/home]
host: work
keys:
  pbkdf: fast-test
"""


def bench() -> list[tuple[str, str]]:
    tools = ensure_tools()
    project = find_project(Path(__file__))
    image = find_image(project, PROFILE)
    if image is None:
        raise InputError(f"there is no image of {PROFILE}", hint=f"make image PROFILE={PROFILE}")
    with tempfile.TemporaryDirectory(dir=cache_home(), prefix="bench.") as folder:
        place = Path(folder)
        return [*replacing(project, image, place, tools), *from_scratch(project, place, tools)]


def seconds(what: Callable[[], object]) -> float:
    began = time.monotonic()
    what()
    return time.monotonic() - began


def project_with_seat(project: Project, root: Path, *, disk: int, size: int) -> Project:
    """A copy of the checkout with the image, and a seat ``spare`` of that one environment."""
    copy_checkout(root)
    for name in ("_desktop", PROFILE):
        linked(project.profiles / f"{name}.yaml", root / f"profiles/{name}.yaml")
    seats = root / "profiles/seats"
    seats.mkdir()
    (seats / "spare.yaml").write_text(SEAT.format(disk=disk >> 20, size=size >> 20))
    made = Project(root, project.cache, root / "dist")
    (made.dist / PROFILE).mkdir(parents=True)
    for file in (project.dist / PROFILE).iterdir():
        if file.is_file():
            linked(file, made.dist / PROFILE / file.name)
    return made


def replacing(project: Project, image: Image, place: Path, tools: Tools) -> list[tuple[str, str]]:
    """The environment has data in /home; they are kept. Both ways take turns, with all files in the page
    cache; medians, for a disk and a hypervisor's memory are not the same from one minute to the next."""
    ours = project_with_seat(project, place / "project", disk=SIZE, size=VOLUME)
    bench = Bench(ours, None, tools, place / "disk", place / "images", "spare", SIZE, PASSPHRASE)
    used = replace(image, tar=with_home(image, place / "used", tools))
    plan, profiles = bench.plan(), {PROFILE: load_profile(ours, PROFILE)}
    with bench.disk.open("wb") as f:
        f.truncate(SIZE)
    secrets = {PROFILE: bytearray(PASSPHRASE)}
    materials = Materials({PROFILE: used}, profiles, secrets)
    applying.apply(plan, materials, identify(bench.disk), tools=tools, scratch=bench.scratch)
    times = [
        (write_once(used, place, tools), seconds(lambda: bench.replace(PROFILE, image)))
        for _ in range(ROUNDS)
    ]
    once, took = (statistics.median(each) for each in zip(*times, strict=True))
    bench.disk.unlink()
    remove_tree(place / "used")
    remove_tree(ours.root)
    return [
        (f"the same data, {KEPT >> 20} MiB of it kept, encrypted once and read back", f"{once:.1f} s"),
        ("replacing the environment", f"{took:.1f} s"),
        ("replacing / writing once", f"{took / once:.2f}×"),
    ]


def with_home(image: Image, place: Path, tools: Tools) -> Path:
    """The image with some large files in a home directory, and its checksums beside it."""
    place.mkdir()
    home, tar = place / "home/user/data", place / "image.tar"
    home.mkdir(parents=True)
    for number in range(16):
        (home / str(number)).write_bytes(os.urandom(KEPT // 16))
    tools.run(["zstd", "-dqf", image.tar, "-o", tar])
    with tarfile.open(tar, "a", format=tarfile.PAX_FORMAT) as archive:
        archive.add(place / "home/user/data", "./home/user/data")
    tools.run(["zstd", "-qf", "-T0", tar, "-o", place / "image.tar.zst"])
    tar.unlink()
    remove_tree(place / "home")
    linked(image.tar.with_name("SHA256SUMS"), place / "SHA256SUMS")
    return place / "image.tar.zst"


def write_once(image: Image, place: Path, tools: Tools) -> float:
    """The seconds of one encrypted volume of the image, written, flushed and read back."""
    disk, clear = place / "once", place / "clear"
    began = time.monotonic()
    with disk.open("w+b") as f, Medium(f.fileno(), disk) as medium, volume_key() as key:
        f.truncate(VOLUME)
        medium.expect(image.tar.stat().st_size)
        ranges = make_filesystem(tools, image.tar, clear, VOLUME - luks.HEADER_SIZE, image.epoch)
        done = [medium.write(0, make_header(tools, place / "header", key))]
        done += medium.encrypt(clear, luks.HEADER_SIZE, ranges, key, meter=NoMeter(), consume=True)
        medium.sync()
        medium.read_back(done, meter=NoMeter())
    took = time.monotonic() - began
    clear.unlink()
    disk.unlink()
    return took


@dataclass(frozen=True)
class Guest:
    """A running seat with seatsmith in it, and where new disks for it are made."""

    live: LiveSeat
    place: Path

    @contextmanager
    def empty_disk(self, serial: str) -> Iterator[str]:
        """An empty disk in the guest: its place there."""
        disk = self.place / serial
        with disk.open("wb") as f:
            f.truncate(GUEST_DISK)
        machine = self.live.machine
        file = {"driver": "file", "filename": os.fspath(disk)}
        yield plug_disk(machine, serial.lower(), serial, driver="raw", file=file)
        machine.unplug(serial.lower())
        machine.qmp("blockdev-del", node_name=serial.lower())
        disk.unlink()

    def timed(self, what: str, command: str) -> float:
        """The seconds of a command in the guest."""
        with ui.current().step(f"In the guest: {what}"):
            return seconds(lambda: self.live.machine.host.succeed(command, timeout=LONG))


def from_scratch(project: Project, place: Path, tools: Tools) -> list[tuple[str, str]]:
    """Both ways write an ESP with the same kernel, and an encrypted volume on LVM with the same packages."""
    fetch(project, lock_of_image(project))

    def prepare(made: Project) -> None:
        """The seat and its image, signed by a key that the guest trusts, and packages for pacman."""
        extra = project_with_seat(project, place / "extra", disk=GUEST_DISK, size=3 << 30)
        linked(extra.seats / "spare.yaml", made.seats / "spare.yaml")
        (extra.dist / PROFILE).rename(made.dist / PROFILE)
        keys = made.root / "ci/keys"
        keys.mkdir(parents=True)
        with temporary_keyring(tools) as ring:
            key = KeyMaker(ring, keys)("release")
            sign_checksums(made.dist / PROFILE, str(key.secret))
            key.secret.unlink()
        lay_packages(project, made.root / "packages", tools)
        lay_programs(made.root / "packages")

    with ExitStack() as stack:
        with ui.current().step("Making and starting the guest"):
            seat = live_seat(place / "live", tools, prepare=prepare, kit_size=3 << 30, memory=6 << 30)
            live = stack.enter_context(seat)
        guest = Guest(live, place)
        words = {
            "size": 3 << 10,
            "secret": SECRET,
            "pbkdf": " ".join(luks.COSTS[luks.Pbkdf.FAST_TEST]),
            "kit": PLACE,
            "packages": f"{PLACE}/project/packages",
            "names": shlex.join(
                ["filesystem", *wanted_packages(load_profile(project, PROFILE), Source.STANDIN)]
            ),
            "release": live.machine.host.succeed("uname -r").strip(),
        }
        guest.timed("what both need", PREPARE.format(**words))
        arguments = ("--passphrase-file", SECRET, "--for-tests", "--yes", "--expect-serial")
        with guest.empty_disk(serial := "SEATSMITH-TEST-1") as disk:
            command = live.kit.command("provision", "apply", "spare", *arguments, serial, "--disk", disk)
            took = guest.timed("Seatsmith", f"export SEATSMITH_TOOLS=host; {command}")
        parts = {}
        with guest.empty_disk("SEATSMITH-TEST-2") as disk:
            for what, part in PARTS.items():
                script = f"set -e; exec >/run/provision/byhand.log; disk={disk}\n{part.format(**words)}"
                parts[what] = guest.timed(f"by hand: {what}", script)
    plain = sum(parts.values())
    return [
        ("in QEMU: an empty disk made a seat of one environment, by Seatsmith", f"{took:.0f} s"),
        *((f"by hand: {what}", f"{part:.0f} s") for what, part in parts.items()),
        ("by hand, all of it", f"{plain:.0f} s"),
        ("by hand / Seatsmith", f"{plain / took:.1f}×"),
    ]


def lock_of_image(project: Project) -> Lock:
    """What the image is made of, which the profile may not ask for any more."""
    (path,) = (project.dist / PROFILE).glob("*.lock")
    return read_lock(path)


def lay_packages(project: Project, place: Path, tools: Tools) -> None:
    """Databases, packages and keys for pacman, as for an offline build."""
    profile, scratch = load_profile(project, PROFILE), place.with_name("packages.scratch")
    lock, store = lock_of_image(project), store_of(project)
    prepared = Arch().prepare(profile, lock, store=store, project=project, tools=tools, scratch=scratch)
    _, keyring = prepared.settings["Build"]["SandboxTrees"]
    (scratch / "pkgcache").rename(place)
    shutil.copyfile(scratch / "sandbox/etc/pacman.conf", place / "pacman.conf")
    shutil.copytree(keyring.partition(":")[0], place / "gnupg", ignore=shutil.ignore_patterns("S.*"))
    remove_tree(scratch)


if __name__ == "__main__":
    for row in bench():
        print(*row, sep="\t", file=sys.stdout)
