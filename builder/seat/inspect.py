"""What is on a seat's disk, and is it what the plan says? Read without device-mapper or mounting."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import InputError, MachineError, SeatsmithError
from builder.seat.overlay import UKIS, entry_text, loader_conf
from builder.seat.plan import Kind, Plan
from builder.tools import Tools
from builder.volume import cipher, gpt, luks, lvm
from builder.volume.ext4read import Filesystem, decrypting
from builder.volume.keys import wipe
from builder.volume.read import Read
from builder.volume.target import look_at, marked_as

SEAT_PARTITION = re.compile(r"seat-([a-z0-9-]+)")
SWAP_MAGIC_AT, SWAP_MAGIC = 4086, b"SWAPSPACE2"


@dataclass
class VolumeFound:
    """A logical volume as it lies on the disk, ``offset`` on the disk."""

    name: str
    id: str
    first_extent: int
    extents: int
    contiguous: bool
    offset: int
    size: int
    header: luks.Header | None = None
    swap_signature: bool = False
    files: int | None = None
    """How many names its filesystem has; None where it was not opened."""
    filesystem_id: str | None = None


@dataclass
class Inspection:
    """All that was found; ``problems`` is empty where it is a whole seat (and the one that was planned)."""

    path: Path
    size: int
    seat: str | None = None
    unfinished: str | None = None
    """The seat that was being written when it was interrupted."""
    table: gpt.Table | None = None
    group: lvm.VolumeGroup | None = None
    volumes: list[VolumeFound] = field(default_factory=list)
    esp_files: dict[str, int] = field(default_factory=dict)
    menu: dict[str, bytes] = field(default_factory=dict)
    """The boot menu's files of the EFI system partition, by name."""
    problems: list[str] = field(default_factory=list)
    compared: bool = False

    @property
    def ok(self) -> bool:
        return not self.problems


class Disk:
    """A disk or an image of one, open for reading."""

    def __init__(self, path: Path) -> None:
        target = look_at(path)
        self.path = path
        self.size = target.size
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as e:
            raise MachineError(f"cannot read {path}: {e.strerror}", hint="run it as root") from e
        except OSError as e:
            raise InputError(f"cannot read {path}: {e.strerror}") from e

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def at(self, base: int) -> Read:
        """A ``read`` that counts from ``base``."""
        return lambda offset, length: self.read(base + offset, length)


def inspect_disk(disk: Disk, tools: Tools) -> Inspection:
    """Read tables, metadata and headers. What is missing or damaged becomes a problem, not an exception."""
    found = Inspection(disk.path, disk.size)
    found.unfinished = marked_as(disk.read(0, 512))
    if found.unfinished:
        found.seat = found.unfinished
        found.problems.append(f"writing the seat {found.unfinished} was interrupted: this is not complete")
        return found
    try:
        found.table = gpt.decode(disk.read, disk.size)
    except InputError as e:
        found.problems.append(e.message)
        return found
    for partition in found.table.partitions:
        if match := SEAT_PARTITION.fullmatch(partition.name):
            found.seat = match[1]
    read_esp(disk, found, tools)
    read_group(disk, found)
    return found


def read_esp(disk: Disk, found: Inspection, tools: Tools) -> None:
    """The files of the EFI system partition, by mdir(1)."""
    assert found.table is not None
    esp = next((p for p in found.table.partitions if p.type == gpt.ESP), None)
    if esp is None:
        found.problems.append("there is no EFI system partition")
        return
    where = f"{disk.path}@@{esp.start}"
    environment = {"MTOOLS_SKIP_CHECK": "1"}
    try:
        listed = tools.run(["mdir", "-/", "-a", "-b", "-i", where, "::/"], env=environment).text
    except SeatsmithError as e:
        found.problems.append(f"the EFI system partition cannot be read: {e.message}")
        return
    names = [line.strip().removeprefix("::/") for line in listed.splitlines()]
    for name in names:
        if name and not name.endswith("/"):
            text = tools.run(["mtype", "-i", where, f"::/{name}"], env=environment).stdout
            found.esp_files[name] = len(text)
            if name.startswith("loader/"):
                found.menu[name] = text


def read_group(disk: Disk, found: Inspection) -> None:
    """The volume group of the first LVM partition, and what each of its volumes begins with."""
    assert found.table is not None
    pv = next((p for p in found.table.partitions if p.type == gpt.LINUX_LVM), None)
    if pv is None:
        found.problems.append("there is no LVM partition")
        return
    try:
        found.group = lvm.decode(disk.at(pv.start))
    except InputError as e:
        found.problems.append(f"partition {pv.name}: {e.message}")
        return
    for volume in found.group.volumes:
        first = volume.segments[0]
        offset = pv.start + found.group.offset(first.first)
        one = VolumeFound(
            volume.name,
            volume.id,
            first.first,
            volume.extents,
            len(volume.segments) == 1,
            offset,
            volume.extents * found.group.extent_size,
        )
        found.volumes.append(one)
        if offset + one.size > disk.size:
            found.problems.append(f"volume {volume.name} reaches beyond the end of the disk")
            continue
        read = disk.at(offset)
        one.swap_signature = read(SWAP_MAGIC_AT, len(SWAP_MAGIC)) == SWAP_MAGIC
        if read(0, 4) == b"LUKS":
            try:
                one.header = luks.read_header(read)
            except InputError as e:
                found.problems.append(f"volume {volume.name}: {e.message}")


def open_volume(
    disk: Disk, volume: VolumeFound, passphrase: bytearray, tools: Tools, scratch: Path
) -> Filesystem:
    """The filesystem in an encrypted volume. Only the header (no key, no plaintext) is put into ``scratch``.

    Raises TrustError for a wrong passphrase, InputError where there is no filesystem.
    """
    if volume.header is None or not volume.contiguous:
        raise InputError(f"volume {volume.name} is not a LUKS2 volume in one piece")
    copy = scratch / f"{volume.name}.luks"
    copy.write_bytes(disk.read(volume.offset, volume.header.payload))
    try:
        key = luks.unlock(tools, copy, passphrase)
    finally:
        copy.unlink()
    try:
        return Filesystem(decrypting(disk.at(volume.offset + volume.header.payload), key))
    finally:
        wipe(key)


def compare(found: Inspection, plan: Plan) -> None:
    """Add a problem for everything that is not as the plan says."""
    found.compared = True
    if found.unfinished or found.table is None:
        return
    check = Check(found.problems)
    check("disk id", str(found.table.disk_id), plan.disk_id)
    parts = {p.name: p for p in found.table.partitions}
    for wanted in (plan.esp, plan.pv):
        check(f"partition {wanted.name}", parts.pop(wanted.name, None), wanted)
    for name in parts:
        found.problems.append(f"partition {name}: not in the plan")
    if found.group is None:
        return
    check("volume group's name", found.group.name, plan.group.name)
    check("volume group's id", found.group.id, plan.group.id)
    check("physical volume's id", found.group.pv_id, plan.group.pv_id)
    volumes = {v.name: v for v in found.volumes}
    for planned in plan.volumes:
        there = volumes.pop(planned.name, None)
        if there is None:
            found.problems.append(f"volume {planned.name}: missing")
            continue
        check(f"volume {planned.name}, offset on the disk", there.offset, planned.offset)
        check(f"volume {planned.name}, size", there.size, planned.size)
        check(f"volume {planned.name}, id", there.id, planned.id)
        if not there.contiguous:
            found.problems.append(f"volume {planned.name}: in several pieces, planned: in one")
        if planned.kind is Kind.SWAP:
            if not plan.swap_encrypted:
                check(f"volume {planned.name}, swap signature", there.swap_signature, True)
        elif planned.environment is not None:
            compare_luks(found, check, there, planned.environment.luks_id, plan.pbkdf)
            if there.filesystem_id is not None:
                wanted_id = planned.environment.filesystem_id
                check(f"volume {planned.name}, filesystem id", there.filesystem_id, wanted_id)
    for name in volumes:
        found.problems.append(f"volume {name}: not in the plan")
    compare_menu(found, plan)


def compare_menu(found: Inspection, plan: Plan) -> None:
    """The files that decide what boots. A kernel's command line alone can give a disk away."""
    wanted = {"loader/loader.conf": loader_conf(plan).encode()}
    for entry in plan.entries:
        uki = f"{UKIS}/{entry.host}.efi"
        wanted[f"loader/entries/{entry.id}.conf"] = entry_text(plan, entry, uki)
        if uki not in found.esp_files:
            found.problems.append(f"EFI system partition: {uki} is missing")
    for name, text in wanted.items():
        if name not in found.menu:
            found.problems.append(f"EFI system partition: {name} is missing")
        elif found.menu[name] != text:
            found.problems.append(f"EFI system partition: {name} is not as planned")
    for name in found.menu:
        if name.startswith("loader/entries/") and name not in wanted:
            found.problems.append(f"EFI system partition: {name} is not in the plan")


def compare_luks(
    found: Inspection, check: "Check", there: VolumeFound, luks_id: str, pbkdf: luks.Pbkdf
) -> None:
    if there.header is None:
        found.problems.append(f"volume {there.name}: not a LUKS2 volume")
        return
    check(f"volume {there.name}, LUKS id", there.header.uuid, luks_id)
    check(f"volume {there.name}, cipher", there.header.cipher, luks.CIPHER)
    check(f"volume {there.name}, sector size", there.header.sector, cipher.SECTOR)
    check(f"volume {there.name}, payload offset", there.header.payload, luks.HEADER_SIZE)
    for slot in there.header.keyslots:
        if slot.weak and pbkdf is luks.Pbkdf.BENCHMARK:
            found.problems.append(
                f"volume {there.name}, keyslot {slot.number}: a passphrase that is cheap to guess "
                f"({slot.pbkdf}, {slot.cost} rounds, {slot.memory >> 10} MiB), "
                f"planned: argon2id at measured cost"
            )


@dataclass
class Check:
    problems: list[str]

    def __call__(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.problems.append(f"{what}: {found if found is not None else 'missing'}, planned: {wanted}")
