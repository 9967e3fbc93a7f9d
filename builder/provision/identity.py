"""Which disk is this, and may it be touched at all? By serial number and links that do not move."""

import os
from dataclasses import dataclass
from pathlib import Path

from builder.errors import BusyError, InputError, TrustError, UsageError
from builder.ui import size_text
from builder.volume.diskid import (
    SYSFS_SECTOR,
    ids_of,
    others_known_as,
    read_text,
    serials_of,
    udev_value,
    wwn_of,
)
from builder.volume.target import Target, look_at

TEST_SERIAL = "SEATSMITH-TEST"  # how the serial number of a virtual disk for tests begins
BY_ID = Path("/dev/disk/by-id")
NUMBERS = Path("/sys/dev/block")
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
    also: tuple[str, ...] = ()
    """What else it is known by: its WWN, and its serial number as others show it."""

    @property
    def path(self) -> Path:
        return self.target.path

    @property
    def size(self) -> int:
        return self.target.size

    @property
    def ids(self) -> list[str]:
        """All that it is known by, best first; nothing for a disk that nothing tells from another."""
        return [text for text in (self.serial, *self.also) if text.strip()]

    @property
    def for_tests(self) -> bool:
        """Whether what must never reach a person's disk may be written here."""
        return not self.target.is_device or self.serial.startswith(TEST_SERIAL)

    def lines(self) -> list[str]:
        kind = "disk" if self.target.is_device else "file"
        size = f"{self.size} bytes ({size_text(self.size)}, {self.size / 1e9:.1f} GB)"
        lines = [
            f"{kind} {self.path}: {size}, model {self.model or 'unknown'}, serial {self.serial or 'none'}"
        ]
        lines += [f"  also known as {text}" for text in self.also]
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
    serials, wwn = serials_of(real), wwn_of(real)
    serial, also = serials[0] if serials else "", [*serials[1:], *([wwn] if wwn else [])]
    return Identity(target, path, model, serial, tuple(sorted(links)), tuple(also))


def check_identity(identity: Identity, *, pinned: str | None, expected: str | None) -> None:
    """Raise TrustError where the disk is another than the seat file or the caller means.

    They name its serial number or WWN. A name such as /dev/sda may be another disk after the next boot: one
    that does not lie in /dev/disk/by-id is accepted only with one of these (UsageError otherwise).
    """
    if expected is not None and not expected.strip():
        raise UsageError("--expect-serial is empty", hint=to_expect(identity))
    for wanted, who in ((pinned, "the seat file is for"), (expected, "--expect-serial says")):
        if wanted is None:
            continue
        if wanted not in identity.ids:
            also = f" (also known as {' and '.join(identity.also)})" if identity.also else ""
            serial = f"{identity.serial or 'unknown'}{also}"
            raise TrustError(
                f"{identity.path} has the serial number {serial}; {who} {wanted}",
                hint="this is another disk; nothing was written",
            )
        if others := others_of(identity, wanted):
            own = own_id(identity)
            raise TrustError(
                f"{' and '.join(others)} is known as {wanted}, too; nothing was written",
                hint=f"say what only {identity.path} has: {own}" if own else "take out the other disk",
            )
    if identity.target.is_device and not is_stable(identity.given) and not (pinned or expected):
        stable = f"{BY_ID}/{identity.links[0]}" if identity.links and identity.ids else None
        raise UsageError(
            f"{identity.given} is a name that may mean another disk after the next start",
            hint=f"name it {stable}" if stable else to_expect(identity),
        )


def refuse_exchanged(identity: Identity, fd: int) -> None:
    """Raise TrustError where another disk has the name by now: a person may take long to agree."""
    if not identity.target.is_device:
        return
    number = os.fstat(fd).st_rdev
    place = (NUMBERS / f"{os.major(number)}:{os.minor(number)}").resolve()
    size = int(read_text(place / "size") or 0) * SYSFS_SECTOR
    if ids_of(Path("/dev", place.name)) != identity.ids or size != identity.size:
        raise TrustError(
            f"{identity.path} is another disk now than the one that was shown; nothing was written",
            hint="was one taken out or put in meanwhile? Begin again",
        )


def others_of(identity: Identity, text: str) -> list[str]:
    """The other disks of this machine that have an id, too."""
    return [str(p) for p in others_known_as(identity.path, text)] if identity.target.is_device else []


def own_id(identity: Identity) -> str | None:
    """An id that no other disk of this machine has; None where there is none."""
    return next((text for text in identity.ids if not others_of(identity, text)), None)


def to_expect(identity: Identity) -> str:
    """What a person is to do who must say what the disk is known by."""
    if own := own_id(identity):
        return f"to mean this disk: --expect-serial {own}, or `disk.serial` in the seat file"
    return (
        "this disk shows no serial number and no WWN of its own, so nothing tells it from another: give a "
        "virtual disk one (QEMU: serial=…), or attach the disk without the adapter that hides its own"
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
