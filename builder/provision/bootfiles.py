"""How do a new kernel and its boot entry get onto the ESP so that the old ones start until the last moment?

FAT has no journal. So nothing that is in use is changed: mtools adds files to a copy in a scratch file, and
what differs is written in this order, with a sync after each: clusters that were free, the two allocation
tables, directories. An interruption leaves lost clusters at worst. The switch is one sector: an entry of the
boot menu fills exactly one, and is overwritten in place.
"""

import os
import re
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from builder.errors import InputError
from builder.provision.seatdisk import NEW, PREVIOUS, SeatDisk
from builder.run import Arg, ProgramError, run
from builder.seat.overlay import MENU_SECONDS, UKIS, entry_text
from builder.seat.plan import Plan, entry_id
from builder.tools import Tools
from builder.ui import size_text
from builder.volume import gpt
from builder.volume.esp import data_ranges
from builder.volume.medium import Medium
from builder.volume.xts import Range, Written

SECTOR = 512
COPY = 1 << 20
PART = 1 << 16
FIRST_CLUSTER = 2
IN_USE = 0x0FFFFFFF  # of an entry of the table; the other bits are reserved
LOADER = "loader/loader.conf"
ENVIRONMENT = {"MTOOLS_SKIP_CHECK": "1", "TZ": "UTC"}


@dataclass(frozen=True)
class Fat:
    """Where the parts of a FAT32 filesystem are, in bytes from its start (boot sector, BPB)."""

    tables: int
    table_size: int
    data: int
    cluster: int
    clusters: int
    """How many there are; the table's first two entries are of none."""

    def cluster_at(self, number: int) -> int:
        return self.data + (number - FIRST_CLUSTER) * self.cluster


def read_layout(boot: bytes) -> Fat:
    """The layout that a boot sector tells (FAT specification: BPB_BytsPerSec at byte 11, BPB_FATSz32 at 36).

    Raises InputError where it is no FAT32.
    """
    sector, per_cluster, reserved, tables = struct.unpack_from("<HBHB", boot, 11)
    length = struct.unpack_from("<I", boot, 36)[0]
    if boot[510:512] != b"\x55\xaa" or sector not in (512, 1024, 2048, 4096) or not per_cluster * length:
        raise InputError("the EFI system partition holds no FAT32 filesystem")
    start = reserved * sector
    data, cluster = start + tables * length * sector, per_cluster * sector
    total = struct.unpack_from("<I", boot, 32)[0] * sector  # BPB_TotSec32
    return Fat(start, length * sector, data, cluster, max(total - data, 0) // cluster)


class BootFiles:
    """The ESP of an open disk, with a copy of it to prepare changes in."""

    def __init__(self, medium: Medium, partition: gpt.Partition, tools: Tools, scratch: Path) -> None:
        self._medium, self._partition, self._tools = medium, partition, tools
        self.image, self._before = scratch / "esp", scratch / "esp-before"
        zeros = bytes(COPY)
        with self.image.open("wb") as f:
            f.truncate(partition.size)
            for at in range(0, partition.size, COPY):
                data = medium.read(partition.start + at, min(COPY, partition.size - at))
                if data != zeros[: len(data)]:  # a hole otherwise
                    os.pwrite(f.fileno(), data, at)
        run(["cp", self.image, self._before])
        with self.image.open("rb") as f:
            self._fat = read_layout(f.read(SECTOR))

    def names(self) -> list[str]:
        """Paths of all files, without a leading slash."""
        listed = self._run(["mdir", "-/", "-a", "-b", "-i", self.image, "::/"])
        return [
            n for line in listed.splitlines() if (n := line.strip().removeprefix("::/")) and n[-1] != "/"
        ]

    def text(self, name: str) -> bytes:
        """The content of a file. Raises ProgramError where there is none."""
        argv: list[Arg] = ["mtype", "-i", self.image, f"::/{name}"]
        return self._tools.run(argv, env=ENVIRONMENT).stdout

    def room(self) -> int:
        """Bytes in clusters that are free."""
        with self.image.open("rb") as f:
            table = os.pread(f.fileno(), self._fat.table_size, self._fat.tables)
        entries = struct.unpack(f"<{len(table) // 4}I", table)
        there = entries[FIRST_CLUSTER : FIRST_CLUSTER + self._fat.clusters]
        return sum(not entry & IN_USE for entry in there) * self._fat.cluster

    def taken_by(self, size: int) -> int:
        """Bytes of the clusters that a file of ``size`` bytes takes."""
        return -(-size // self._fat.cluster) * self._fat.cluster

    def add(self, files: Mapping[str, Path | bytes]) -> None:
        """Put new files onto the disk; an existing file of the name must not be in use.

        Raises InputError where they do not fit; nothing was written then.
        """
        self.stage(files)
        self.publish()

    def stage(self, files: Mapping[str, Path | bytes]) -> list[Written]:
        """Write what new files consist of to clusters that are free until ``publish()``; no sync.

        Raises InputError where they do not fit; nothing was written then.
        """
        for name, content in files.items():
            source = content if isinstance(content, Path) else "-"
            given = content if isinstance(content, bytes) else None
            argv: list[Arg] = ["mcopy", "-o", "-i", self.image, "-m", source, f"::/{name}"]
            try:
                self._tools.run(argv, stdin=given, env=ENVIRONMENT)
            except ProgramError as e:
                raise InputError(
                    f"{name} does not fit the EFI system partition beside what is on it: {e.output.strip()}",
                    hint="undo this, and give up a previous environment of a host: "
                    "seatsmith provision rollback NAME, then seatsmith provision drop NAME",
                ) from e
        return self._write(self._fresh())

    def publish(self) -> None:
        """Make the names of staged files known."""
        tables, used = self._changes()
        self._medium.sync()
        for part in (tables, used):
            self._write(part)
            self._medium.sync()

    def remove(self, names: list[str]) -> None:
        """Remove files: their names first, then what they took."""
        for name in names:
            self._run(["mdel", "-i", self.image, f"::/{name}"])
        tables, used = self._changes()
        for part in (used, tables):
            self._write(part)
            self._medium.sync()

    def replace_sector(self, name: str, content: bytes) -> None:
        """Replace the content of a file of at most one sector by as many bytes, by one write."""
        if not 0 < len(content) == len(self.text(name)) <= SECTOR:
            raise InputError(f"{name} on the EFI system partition does not have {len(content)} bytes")
        shown = self._run(["mshowfat", "-i", self.image, f"::/{name}"])
        match = re.search(r"<(\d+)", shown)
        if not match:
            raise InputError(f"{name} cannot be found on the EFI system partition")
        at = self._fat.cluster_at(int(match[1]))
        there = self._medium.read(self._partition.start + at, SECTOR)
        if there[: len(content)] != self.text(name):
            raise InputError(f"{name} is not where the EFI system partition says it is")
        sector = content + there[len(content) :]
        for path in (self.image, self._before):
            with path.open("r+b") as f:
                os.pwrite(f.fileno(), sector, at)
        self._medium.write(self._partition.start + at, sector)
        self._medium.sync()

    def _fresh(self) -> list[Range]:
        """Where the clusters are that were free and are not any more."""
        with self._before.open("rb") as old, self.image.open("rb") as new:
            taken = joined([(n, n + 1) for n in self._taken(old.fileno(), new.fileno())])
        return [(self._fat.cluster_at(first), self._fat.cluster_at(end)) for first, end in taken]

    def _taken(self, old: int, new: int) -> Iterator[int]:
        """Numbers of clusters by the tables, of which equal parts are not looked at."""
        for at in range(0, self._fat.table_size, PART):
            size = min(PART, self._fat.table_size - at)
            before, after = (os.pread(fd, size, self._fat.tables + at) for fd in (old, new))
            if before != after:
                entries = zip(
                    *(struct.unpack(f"<{size // 4}I", part) for part in (before, after)), strict=True
                )
                for number, (was, now) in enumerate(entries, at // 4):
                    if not was & IN_USE and now & IN_USE:
                        yield number

    def _changes(self) -> tuple[list[Range], list[Range]]:
        """What mtools changed: in the tables (the second one first), and in clusters.

        Compared with the copy as it was, not with the disk: what was misread must not be written back.
        """
        with self.image.open("rb") as new, self._before.open("rb") as old:
            changed = list(self._differing(new.fileno(), old.fileno()))
        tables = [part for part in changed if part[0] < self._fat.data]
        return tables[::-1], changed[len(tables) :]

    def _differing(self, new: int, old: int) -> Iterator[Range]:
        """Sectors; holes of the new copy are holes of the old one."""
        for start, end in data_ranges(self.image):
            for at in range(start, end, COPY):
                size = min(COPY, end - at)
                ours, theirs = os.pread(new, size, at), os.pread(old, size, at)
                if ours == theirs:
                    continue
                for inner in range(0, size, SECTOR):
                    if ours[inner : inner + SECTOR] != theirs[inner : inner + SECTOR]:
                        yield at + inner, at + inner + SECTOR

    def _write(self, ranges: list[Range]) -> list[Written]:
        """Write parts of the copy, neighbours at once."""
        done = []
        with self.image.open("rb") as f, self._before.open("r+b") as before:
            for start, end in joined(ranges):
                for at in range(start, end, COPY):
                    data = os.pread(f.fileno(), min(COPY, end - at), at)
                    done.append(self._medium.write(self._partition.start + at, data))
                    os.pwrite(before.fileno(), data, at)
        return done

    def _run(self, argv: list[Arg]) -> str:
        return self._tools.run(argv, env=ENVIRONMENT).text


def joined(ranges: list[Range]) -> list[Range]:
    """Neighbours as one; the order of the first ones is kept."""
    found: list[Range] = []
    for start, end in ranges:
        if found and found[-1][1] == start:
            found[-1] = found[-1][0], end
        else:
            found.append((start, end))
    return found


def entry_name(plan: Plan, host: str) -> str:
    entry = next(e for e in plan.entries if e.host == host)
    return f"loader/entries/{entry.id}.conf"


def entry_of_host(name: str) -> str:
    """Where an environment has its entry if it was a host when the seat was made."""
    return f"loader/entries/{entry_id(name)}.conf"


def hosts_offered(disk: SeatDisk, boot: BootFiles) -> list[str]:
    """The environments on the disk that the boot menu starts."""
    names = boot.names()
    return [name for name in disk.environments if entry_of_host(name) in names]


def entry_of(boot: BootFiles, plan: Plan, host: str) -> str:
    """A host's entry of the boot menu as it is on the disk."""
    return boot.text(entry_name(plan, host)).decode(errors="replace")


def has_entry(boot: BootFiles, plan: Plan, host: str) -> bool:
    return entry_name(plan, host) in boot.names()


def check_entry(boot: BootFiles, plan: Plan, host: str) -> None:
    """Raise InputError where the boot menu on the disk has no entry for a host of the seat file."""
    if not has_entry(boot, plan, host):
        raise InputError(
            f"the boot menu on the disk has no entry for {host}, which the seat file has as a host",
            hint="take it out of `host` and `hosts` in the seat file; only what is added becomes one: "
            f"seatsmith provision add {host}, after it was removed with all of its data",
        )


def check_kernel(boot: BootFiles, plan: Plan, host: str, uki: str) -> None:
    """Raise InputError where a host's entry, or the kernel that it is to name, is not on the disk."""
    check_entry(boot, plan, host)
    check_uki(boot, host, uki)


def check_uki(boot: BootFiles, host: str, uki: str) -> None:
    if uki not in boot.names():
        raise InputError(
            f"{uki} is not on the EFI system partition, so {host} would not start with it",
            hint=f"bring a new one: seatsmith provision env {host}",
        )


def point_entry(boot: BootFiles, plan: Plan, host: str, uki: str, luks_id: str) -> None:
    """Have a host's entry start this kernel with that volume: by one sector."""
    check_kernel(boot, plan, host, uki)
    boot.replace_sector(entry_name(plan, host), pointed(plan, host, uki, luks_id))


def offer(disk: SeatDisk, boot: BootFiles, plan: Plan, host: str) -> None:
    """Have the boot menu offer a host that was added, and wait for a choice; where it does, nothing changes.

    The last that is done for it: an entry that is there names a kernel and a volume that are.
    """
    if has_entry(boot, plan, host) or "uki" not in disk.tags(host):
        return
    uki = kernel_of(disk, host)
    check_uki(boot, host, uki)
    wait_for_choice(boot)
    boot.add({entry_name(plan, host): pointed(plan, host, uki, disk.whole_header(host).uuid)})


def wait_for_choice(boot: BootFiles) -> None:
    """Have the boot menu show itself: that of a seat with one host does not. Settings of one's own stay."""
    text = boot.text(LOADER) if LOADER in boot.names() else b""
    shown = text.replace(b"\ntimeout 0\n", f"\ntimeout {MENU_SECONDS}\n".encode())
    if shown != text and len(shown) == len(text) <= SECTOR:
        boot.replace_sector(LOADER, shown)


def pointed(plan: Plan, host: str, uki: str, luks_id: str) -> bytes:
    """The entry of a host that starts this kernel with that volume."""
    entry = next(e for e in plan.entries if e.host == host)
    planned = next(e.luks_id for e in plan.environments if e.name == host)
    return entry_text(plan, replace(entry, options=entry.options.replace(planned, luks_id)), uki)


def kernel_of(disk: SeatDisk, name: str) -> str:
    """The kernel of a host's volume: what its tag says, or the one that the seat was written with."""
    base = name.removesuffix(NEW).removesuffix(PREVIOUS)
    return f"{UKIS}/{disk.tags(name).get('uki', f'{base}.efi')}"


def check_room(
    disk: SeatDisk, boot: BootFiles, plan: Plan, host: str, uki: Path, dropped: Collection[str], *, new: bool
) -> None:
    """Raise InputError where a host's new kernel has no room beside the kernels of volumes that stay.

    Those that are ``dropped`` do not. A ``new`` host needs an entry, too; another one must have it. Nothing
    is written.
    """
    if not new:
        check_entry(boot, plan, host)
    staying = [name for name in disk.names if name not in dropped]
    freed = sum(boot.taken_by(len(boot.text(name))) for name in stale_kernels(disk, boot, staying))
    needed, free = boot.taken_by(uki.stat().st_size), boot.room() + freed
    needed += 2 * boot.taken_by(SECTOR) if new else 0  # the entry, and its name in a directory that is full
    if needed <= free:
        return
    there = boot.names()
    older = [name.removesuffix(PREVIOUS) for name in staying if name.endswith(PREVIOUS)]
    older = [name for name in older if kernel_of(disk, name + PREVIOUS) in there]
    undo = f"seatsmith provision rollback {host}, then " if disk.journal.unfinished else ""
    hint = f"give up a previous environment: {undo}seatsmith provision drop {older[0]}" if older else None
    raise InputError(
        f"the kernel of {host} does not fit the EFI system partition beside what is on it: it needs "
        f"{size_text(needed)}, and {size_text(free)} are free",
        hint=hint or "remove from it what is not Seatsmith's",
    )


def stale_kernels(disk: SeatDisk, boot: BootFiles, volumes: Iterable[str]) -> list[str]:
    """Kernels that neither one of these volumes nor the boot menu names any more."""
    named = {kernel_of(disk, name) for name in volumes}
    names = boot.names()
    menu = b"".join(boot.text(name) for name in names if name.startswith("loader/entries/"))
    kernels = [name for name in names if name.startswith(f"{UKIS}/")]
    return [name for name in kernels if name not in named and name.encode() not in menu]


def remove_stale_kernels(disk: SeatDisk, boot: BootFiles) -> None:
    """Remove kernels that nothing names any more."""
    if stale := stale_kernels(disk, boot, disk.names):
        boot.remove(stale)
