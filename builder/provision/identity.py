"""Which disk is this, and may it be touched at all? By serial number and links that do not move."""

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from builder.errors import BusyError, InputError, TrustError, UsageError
from builder.ui import size_text
from builder.volume.target import Target, look_at

TEST_SERIAL = "SEATSMITH-TEST"  # how the serial number of a virtual disk for tests begins
BY_ID = Path("/dev/disk/by-id")
LINKS = 40  # that the kernel follows in a path (path_resolution(7))


@dataclass(frozen=True)
class Identity:
    """A disk as a person and a seat file know it. A file's serial number is its name."""

    target: Target
    given: Path
    model: str
    serial: str
    links: tuple[str, ...]
    """Names below /dev/disk/by-id."""

    @property
    def path(self) -> Path:
        return self.target.path

    @property
    def size(self) -> int:
        return self.target.size

    @property
    def for_tests(self) -> bool:
        """Whether what must never reach a person's disk may be written here."""
        return not self.target.is_device or self.serial.startswith(TEST_SERIAL)

    def lines(self) -> list[str]:
        kind = "disk" if self.target.is_device else "file"
        size = f"{self.size} bytes ({size_text(self.size)}, {self.size / 1e9:.1f} GB)"
        lines = [f"{kind} {self.path}: {size}, model {self.model or 'unknown'}, serial {self.serial or '?'}"]
        return lines + [f"  {BY_ID}/{link}" for link in self.links]


def identify(path: Path) -> Identity:
    """Look at a whole disk, or a file that stands for one.

    Raises InputError for what is neither, for a partition, and for a file that does not exist.
    """
    target = look_at(path)
    if not target.is_device:
        if not target.size:
            there = f"{path} is an empty file" if path.exists() else f"there is no {path}"
            raise InputError(there, hint="to try it on a file: truncate -s SIZE FILE")
        return Identity(target, path, "file", path.name, ())
    real = path.resolve()
    place = Path("/sys/class/block", real.name)
    if (place / "partition").exists():
        disk = place.resolve().parent.name
        raise InputError(f"{path} is a partition of /dev/{disk}", hint=f"name the whole disk: /dev/{disk}")
    links = [link.name for link in BY_ID.iterdir() if link.resolve() == real] if BY_ID.is_dir() else []
    model = read_text(place / "device/model") or udev_value(real, "ID_MODEL") or ""
    return Identity(target, path, model, serial_of(real) or "", tuple(sorted(links)))


def serial_of(path: Path) -> str | None:
    """A disk's serial number, as the kernel or udev knows it."""
    place = Path("/sys/class/block", path.name)
    return (
        read_text(place / "serial")
        or read_text(place / "device/serial")
        or udev_value(path, "ID_SERIAL_SHORT")
    )


def read_text(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip() or None
    return None


def udev_value(path: Path, name: str) -> str | None:
    """A property from udev's database."""
    number = path.stat().st_rdev
    text = read_text(Path(f"/run/udev/data/b{os.major(number)}:{os.minor(number)}")) or ""
    match = re.search(rf"^E:{name}=(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else None


def check_identity(identity: Identity, *, pinned: str | None, expected: str | None) -> None:
    """Raise TrustError where the disk is another than the seat file or the caller means.

    A name such as /dev/sda may be another disk after the next boot: one that does not lie in /dev/disk/by-id
    is accepted only with a serial number that is pinned or expected (UsageError otherwise).
    """
    if expected is not None and not expected.strip():
        raise UsageError("--expect-serial is empty", hint=f"this disk has {identity.serial or 'none'}")
    for wanted, who in ((pinned, "the seat file is for"), (expected, "--expect-serial says")):
        if wanted is not None and identity.serial != wanted:
            raise TrustError(
                f"{identity.path} has the serial number {identity.serial or 'unknown'}; {who} {wanted}",
                hint="this is another disk; nothing was written",
            )
    if identity.target.is_device and not is_stable(identity.given) and not (pinned or expected):
        stable = f"{BY_ID}/{identity.links[0]}" if identity.links else None
        raise UsageError(
            f"{identity.given} is a name that may mean another disk after the next start",
            hint=f"name it {stable}" if stable else "add --expect-serial, or `disk.serial` to the seat file",
        )


def is_stable(path: Path) -> bool:
    """Whether a name, or what it is a link to, lies in /dev/disk/by-id; others may move."""
    for _ in range(LINKS):
        if path.parent.resolve() == BY_ID:
            return True
        if not path.is_symlink():
            return False
        path = path.parent / path.readlink()
    return False


def refuse_running_system(identity: Identity) -> None:
    """Raise BusyError for the disk that holds the running system's root, swap or any mounted file system."""
    if not identity.target.is_device:
        return
    own = identity.path.resolve().name
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        words = line.split()
        if own in disks_below(words[2]):
            what = "the running system" if words[4] == "/" else f"what is mounted at {words[4]}"
            raise BusyError(
                f"{identity.path} holds {what}", hint="start the installer, or another system, for this"
            )


def disks_below(number: str) -> set[str]:
    """Names of the whole disks that a block device (``major:minor``) lies on, through LVM and LUKS."""
    place = Path("/sys/dev/block", number)
    found: set[str] = set()
    if not place.exists():
        return found
    real = place.resolve()
    if (real / "partition").exists():
        real = real.parent
    slaves = list((real / "slaves").iterdir()) if (real / "slaves").is_dir() else []
    for slave in slaves:
        if text := read_text(slave / "dev"):
            found |= disks_below(text)
    return found or {real.name}
