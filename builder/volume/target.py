"""May this file or disk be written? Finds what is on it, who uses it, and how large it is."""

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.errors import BusyError, InputError, MachineError
from builder.run import ProgramError
from builder.tools import Tools
from builder.ui import size_text
from builder.volume import lvm
from builder.volume.traces import look_for_traces

BLKGETSIZE64, BLKSSZGET, BLKDISCARD, BLKRRPART = 0x80081272, 0x1268, 0x1277, 0x125F  # linux/fs.h
_PUNCH_HOLE = 0x01 | 0x02  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE (linux/falloc.h)
LOOP_GET_STATUS64, LOOP_INFO = 0x4C05, 232  # linux/loop.h

MARK_AT = 0  # where an unfinished target says so; the protective MBR overwrites it in the end
_MARK = "SEATSMITH: the seat {seat} is not completely written here. Write it again.\n"
_MARKED = re.compile(rb"SEATSMITH: the seat ([a-z0-9-]+) is not completely written here\.")


@dataclass(frozen=True)
class Finding:
    """Something on a target that is not ours to overwrite unasked."""

    kind: str
    where: str

    def __str__(self) -> str:
        return f"{self.kind} {self.where}"


@dataclass(frozen=True)
class Target:
    """A regular file (which may not exist yet) or a block device."""

    path: Path
    is_device: bool
    size: int
    """0 for a file that does not exist."""
    sector: int = 512


def look_at(path: Path) -> Target:
    """Raises InputError for what is no file and no block device, MachineError where we may not look."""
    try:
        found = path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise InputError(f"there is no directory {path.parent}") from None
        return Target(path, False, 0)
    except PermissionError as e:
        raise MachineError(f"cannot look at {path}: {e.strerror}") from e
    if stat.S_ISREG(found.st_mode):
        return Target(path, False, found.st_size)
    if not stat.S_ISBLK(found.st_mode):
        raise InputError(f"{path} is neither a file nor a block device")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as e:
        raise MachineError(f"cannot open {path}: {e.strerror}", hint="a disk is written as root") from e
    try:
        size = struct.unpack("Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))[0]
        sector = struct.unpack("I", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))[0]
    finally:
        os.close(fd)
    return Target(path, True, size, sector)


@contextlib.contextmanager
def held(target: Target) -> Iterator[int]:
    """The target, open for writing and ours alone: O_EXCL on a device, a lock on a file.

    Raises BusyError where it is mounted, used as swap, by LVM or RAID, attached to a loop device, or being
    written by somebody else.
    """
    if target.is_device:
        refuse_users(target.path)
    else:
        refuse_loop(target.path)
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if target.is_device else os.O_CREAT)
    try:
        fd = os.open(target.path, flags, 0o600)
    except OSError as e:
        if e.errno == errno.EBUSY:
            raise BusyError(f"{target.path} is in use", hint="unmount it and all that is on it") from e
        raise MachineError(f"cannot open {target.path} for writing: {e.strerror}") from e
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise BusyError(
                f"{target.path} is already being written, or a virtual PC runs from it",
                hint="wait for that to end",
            ) from e
        yield fd
    finally:
        os.close(fd)


def refuse_users(path: Path) -> None:
    """Raise BusyError where a device or one of its partitions is mounted, swapped to, or held by another."""
    device = path.resolve()
    parts = [
        device.name,
        *(p.parent.name for p in Path("/sys/class/block", device.name).glob("*/partition")),
    ]
    mounted = {}
    for table in ("/proc/self/mounts", "/proc/swaps"):
        for line in Path(table).read_text(errors="replace").splitlines():
            words = line.split()
            if words and words[0].startswith("/dev/"):
                use = f"mounted at {words[1]}" if table.endswith("mounts") else "used as swap"
                mounted[Path(words[0]).resolve().name] = use
    for name in parts:
        if name in mounted:
            raise BusyError(
                f"{path} is in use: {name} is {mounted[name]}", hint="unmount it, or choose another disk"
            )
        holders = Path("/sys/class/block", name, "holders")
        held_by = sorted(p.name for p in holders.iterdir()) if holders.is_dir() else []
        if held_by:
            raise BusyError(
                f"{path} is in use: {name} is part of {', '.join(held_by)}",
                hint="close the volumes on it (vgchange -an, cryptsetup close, mdadm --stop)",
            )


def refuse_loop(path: Path) -> None:
    """Raise BusyError where a file is attached to a loop device."""
    if not path.exists():
        return
    for backing in Path("/sys/class/block").glob("loop*/loop/backing_file"):
        device = Path("/dev", backing.parent.parent.name)
        if is_backed_by(device, backing, path):
            raise BusyError(f"{path} is attached to {device}", hint=f"run: losetup -d {device}")


def is_backed_by(device: Path, backing: Path, path: Path) -> bool:
    """By inode where we may ask the device; the name alone misleads across mount namespaces."""
    own = path.stat()
    with contextlib.suppress(OSError):
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            on, inode = struct.unpack_from("QQ", fcntl.ioctl(fd, LOOP_GET_STATUS64, bytes(LOOP_INFO)))
        finally:
            os.close(fd)
        if (on, inode) == (own.st_dev, own.st_ino):
            return True
    with contextlib.suppress(OSError):
        return Path(backing.read_text().strip()) == path.resolve()
    return False


def refuse_size(target: Target, needed: int) -> None:
    """Raise InputError for a device that is smaller than the plan, MachineError for a full file system."""
    if target.is_device and target.size < needed:
        raise InputError(
            f"{target.path} is too small: it has {target.size} bytes, the seat needs {needed}, "
            f"{size_text(needed - target.size)} more",
            hint="lower disk.size in the seat file, or take a larger disk",
        )


def mark(seat: str) -> bytes:
    """What says on a target that it is not complete: goes to MARK_AT, in place of the boot record."""
    return _MARK.format(seat=seat).encode().ljust(512, b"\0")


def marked_as(head: bytes) -> str | None:
    """The seat whose writing began on a target with these first bytes, and did not end."""
    match = _MARKED.match(head)
    return match[1].decode() if match else None


def findings(tools: Tools, target: Target, *, group: str) -> list[Finding]:
    """What is on a target: signatures on it and in its partitions, and a VG of the same name elsewhere."""
    found = []
    if target.size:
        found += [
            Finding(kind, f"on {target.path}") for kind in signatures(tools, target.path, 0, target.size)
        ]
        for number, start, size in partitions(tools, target):
            where = f"in partition {number} of {target.path}"
            found += [Finding(kind, where) for kind in signatures(tools, target.path, start, size)]
            if (name := group_at(target.path, start)) == group:
                found.append(Finding(f"the volume group {name}", where))
        if not found:
            found += unknown_data(target)
    if target.is_device:
        elsewhere = group_elsewhere(target.path, group)
        found += [Finding(f"a volume group {group}", f"on another disk ({path})") for path in elsewhere]
    return found


def group_elsewhere(path: Path, group: str) -> list[Path]:
    """The devices beside a disk and its partitions that hold a volume group of this name."""
    places = [Path("/dev", name) for name in other_devices(path.resolve().name)]
    return [place for place in places if group_at(place, 0) == group]


def unknown_data(target: Target) -> Iterator[Finding]:
    """What is there where no program recognises anything: a document, a disk that is encrypted."""
    with target.path.open("rb", buffering=0) as f:
        traces = look_for_traces(f.fileno(), lambda at, size: os.pread(f.fileno(), size, at), 0, target.size)
    if traces.at is not None:
        kind = "a place that cannot be read" if traces.unreadable else "data that no program recognises"
        yield Finding(kind, f"on {target.path}, from byte {traces.at} on")
    elif traces.unseen:
        yield Finding(
            "perhaps something",
            f"on {target.path}: {size_text(traces.looked)} of it were read, {size_text(traces.unseen)} not",
        )


def signatures(tools: Tools, path: Path, start: int, size: int) -> list[str]:
    """What blkid(8) recognises in a part of a target; its words for it."""
    argv: list[str | Path] = ["blkid", "--probe", "--output", "export", "--offset", str(start)]
    argv += ["--size", str(size), path]
    result = tools.run(argv, check=False)
    if result.returncode == 8:  # several signatures at once; since util-linux 2.41 as if there were none
        return ["several signatures at once (blkid calls it ambivalent)"]
    lines = (re.sub(r"\\(.)", r"\1", line) for line in result.text.splitlines())  # as a shell reads them
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    kind = values.get("TYPE")
    label = values.get("LABEL")
    names = []
    if kind:
        version = f" version {values['VERSION']}" if "VERSION" in values else ""
        names.append(f"{kind}{version}" + (f" ({label!r})" if label else ""))
    if table := values.get("PTTYPE"):
        names.append(f"a partition table ({table})")
    return names


def partitions(tools: Tools, target: Target) -> list[tuple[int, int, int]]:
    """Number, start and size in bytes of each partition that sfdisk(8) sees."""
    try:
        result = tools.run(["sfdisk", "--json", target.path])
    except ProgramError:  # no partition table
        return []
    table = json.loads(result.stdout)["partitiontable"]
    sector = table.get("sectorsize", 512)
    parts = table.get("partitions", [])
    return [(n, p["start"] * sector, p["size"] * sector) for n, p in enumerate(parts, 1)]


def group_at(path: Path, start: int) -> str | None:
    """Name of the volume group whose physical volume begins there."""
    try:
        with path.open("rb") as f:
            return lvm.decode(lambda offset, size: os.pread(f.fileno(), size, start + offset)).name
    except (InputError, OSError):
        return None


def other_devices(own: str) -> list[str]:
    """All block devices but ``own`` and its partitions."""
    lines = Path("/proc/partitions").read_text().splitlines()[2:]
    names = [line.split()[3] for line in lines if len(line.split()) == 4]
    return [n for n in names if n != own and not Path("/sys/class/block", own, n).exists()]


def discard(fd: int, size: int, offset: int = 0) -> bool:
    """Tell a device that a range is free; False where it cannot do that."""
    try:
        fcntl.ioctl(fd, BLKDISCARD, struct.pack("QQ", offset, size))
    except OSError:
        return False
    return True


def punch_hole(fd: int, size: int, offset: int = 0) -> bool:
    """Give back what a range of a file takes; False where its file system cannot do that."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return bool(libc.fallocate(fd, _PUNCH_HOLE, offset, size) == 0)


def reread_table(fd: int) -> None:
    """Have the kernel look at the new partition table."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, BLKRRPART)
