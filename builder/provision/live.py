"""How is a disk held for a change: idle, or under a running system that uses other volumes of it?

An idle disk (or a file) is opened for us alone. On a running seat the kernel holds the disk through
device-mapper. Then lvm2's own lock keeps its commands away while the volume group's metadata changes, the
volumes that the change is about must not be in use and are deactivated before, and lvm2 activates afterwards
what has their names. All data goes the same way, to the whole disk.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.errors import BusyError, MachineError, SeatsmithError
from builder.provision.identity import Identity
from builder.provision.seatdisk import NEW, PREVIOUS, open_seat
from builder.tools import Tools
from builder.volume import target as targets
from builder.volume.diskid import SYSFS_SECTOR, read_text
from builder.volume.lvm import mapper_name
from builder.volume.medium import Medium

LOCKS = Path("/run/lock/lvm")  # where lvm2 locks: global/locking_dir of lvm.conf(5)
BLOCK = Path("/sys/class/block")
DEV = Path("/dev")
PATIENCE = 15.0  # seconds that a volume may take to be closed after its container has stopped


@contextlib.contextmanager
def changing(
    identity: Identity, names: Sequence[str], tools: Tools, *, boot: bool = False
) -> Iterator[Medium]:
    """A medium for a change of the environments ``names``, and with ``boot`` of the EFI system partition.

    Raises BusyError where they are in use.
    """
    if not identity.target.is_device or not mapped(identity):
        with targets.held(identity.target) as fd, medium_of(identity, fd) as medium:
            yield medium
        return
    with contextlib.ExitStack() as stack:
        fd = opened(identity.path, os.O_RDWR)
        stack.callback(os.close, fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)  # lvm2 writes past our cache
        medium = medium_of(identity, fd)
        disk = open_seat(medium, identity.size)
        group = disk.metadata.name
        if boot:
            stack.enter_context(kept_unmounted(identity, disk.esp.start))
        own = [name + end for name in names for end in ("", NEW, PREVIOUS)]
        active = [name for name in own if mapper_device(group, name)]
        for name in active:
            wait_until_closed(group, name)
        try:
            for name in active:
                tools.run(["lvchange", "--activate", "n", f"{group}/{name}"])
            with locked(group), medium:
                yield medium
        except BaseException:
            for name in own:  # the first error is the one to be told
                with contextlib.suppress(SeatsmithError):
                    activate(medium, identity.size, [name], tools)
            raise
        activate(medium, identity.size, own, tools)


def opened(path: Path, flags: int) -> int:
    """Raises BusyError where a device is to be ours alone, and is mounted or otherwise held."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as e:
        if e.errno == errno.EBUSY:
            raise BusyError(f"{path} is in use", hint=f"if it is mounted: umount {path}") from e
        raise MachineError(f"cannot open {path} for writing: {e.strerror}") from e


@contextlib.contextmanager
def kept_unmounted(identity: Identity, start: int) -> Iterator[None]:
    """Hold the partition at byte ``start``, so that it is not mounted, and nobody mounts it meanwhile.

    A mounted FAT has parts of itself in memory, and would write them over what we have changed below it.
    """
    disk = BLOCK / identity.path.resolve().name
    places = [p.parent for p in disk.glob("*/start") if int(read_text(p) or 0) * SYSFS_SECTOR == start]
    with contextlib.ExitStack() as stack:
        for place in places:
            fd = opened(DEV / place.name, os.O_RDONLY | os.O_EXCL)
            stack.callback(os.close, fd)
        yield


def medium_of(identity: Identity, fd: int) -> Medium:
    return Medium(fd, identity.path, sector=identity.target.sector)


def activate(medium: Medium, size: int, names: Sequence[str], tools: Tools) -> None:
    """Activate those of the volumes that there are and that may be used."""
    disk = open_seat(medium, size)
    for name in (name for name in names if name in disk.names and not name.endswith(NEW)):
        tools.run(["lvchange", "--activate", "y", f"{disk.metadata.name}/{name}"])


def mapped(identity: Identity) -> list[str]:
    """Names of the device-mapper devices on a disk and its partitions."""
    disk = BLOCK / identity.path.resolve().name
    holders = [*disk.glob("holders/dm-*"), *disk.glob("*/holders/dm-*")]
    return sorted(name for h in holders if (name := read_text(BLOCK / h.name / "dm/name")))


def mapper_device(group: str, name: str) -> Path | None:
    """The place in sysfs of an active logical volume."""
    wanted = mapper_name(group, name)
    found = (place for place in BLOCK.glob("dm-*") if read_text(place / "dm/name") == wanted)
    return next(found, None)


def running_host(identity: Identity, group: str, names: Sequence[str]) -> str | None:
    """The environment of these whose root is ours: that we run on."""
    if not identity.target.is_device:
        return None
    root = Path("/").stat().st_dev
    for name in names:
        place = mapper_device(group, name)
        holders = place.glob("holders/dm-*") if place else []
        numbers = (read_text(BLOCK / holder.name / "dev") for holder in holders)
        if f"{os.major(root)}:{os.minor(root)}" in numbers:
            return name
    return None


def wait_until_closed(group: str, name: str, *, patience: float = PATIENCE) -> None:
    """Wait for a volume to be closed: systemctl stop returns before that. Raises BusyError at the end."""
    until = time.monotonic() + patience
    while True:
        try:
            return refuse_open(group, name)
        except BusyError:
            if time.monotonic() > until:
                raise
        time.sleep(0.2)


def refuse_open(group: str, name: str) -> None:
    """Raise BusyError where an active volume is opened by LUKS, mounted, or otherwise held."""
    place = mapper_device(group, name)
    holders = sorted((place / "holders").iterdir()) if place else []
    if holders:
        mapping = read_text(BLOCK / holders[0].name / "dm/name") or holders[0].name
        raise BusyError(
            f"{name} is in use: its volume is open as {mapping}",
            hint=f"stop it first: systemctl stop systemd-nspawn@{name} "
            "(the running host is replaced from another system)",
        )


@contextlib.contextmanager
def locked(group: str) -> Iterator[None]:
    """Hold the lock that lvm2's commands take before they change a volume group."""
    LOCKS.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(LOCKS / f"V_{group}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
