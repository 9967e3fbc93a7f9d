"""Which targets are refused, untouched, and what becomes of the old data of one that is taken?"""

import fcntl
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import ClassVar

import pytest

from builder.errors import BusyError, InputError, SeatsmithError
from builder.files import unchanged
from builder.seat import write as writing
from builder.seat.inspect import Disk, compare, inspect_disk
from builder.seat.write import Erase
from builder.tools import Tools
from builder.volume import gpt, lvm
from builder.volume import target as targets
from builder.volume.medium import Medium
from builder.volume.target import held, look_at, marked_as
from builder.volume.xts import Written
from tests.support import lvm2
from tests.support.faults import Faulty, PowerCut
from tests.support.writtenseat import CHECKOUT, SeatBench

MIB = 1 << 20
DISK = 840 * MIB  # a little larger than the seat
OLD = hashlib.sha256(b"a photograph").digest() * 128  # one block

Make = Callable[[Tools, Path], None]


def made_by(*argv: str, stdin: bytes | None = None) -> Make:
    def make(tools: Tools, path: Path) -> None:
        tools.run([*argv, path], stdin=stdin)

    return make


def raid(tools: Tools, path: Path) -> None:
    """A Linux RAID superblock of version 1.2 (md(4)), 4 KiB from the start."""
    with path.open("r+b") as f:
        os.pwrite(f.fileno(), b"\xfc\x4e\x2b\xa9\x01\x00\x00\x00" + bytes(8) + os.urandom(16), 4096)
        checksum_md(f.fileno())


def checksum_md(fd: int) -> None:
    block = bytearray(os.pread(fd, 256, 4096))
    block[128:136] = (8).to_bytes(8, "little")  # super_offset, in sectors at byte 144
    block[144:152] = (8).to_bytes(8, "little")
    block[216:220] = bytes(4)
    total = sum(int.from_bytes(block[i : i + 4], "little") for i in range(0, 256, 4))
    block[216:220] = ((total & 0xFFFFFFFF) + (total >> 32)).to_bytes(8, "little")[:4]
    os.pwrite(fd, block, 4096)


def zfs(tools: Tools, path: Path) -> None:
    """A label of OpenZFS: at 16 KiB an nvlist in XDR (vdev_impl.h, nvpair.c), at 128 KiB its uberblocks."""
    names = bytes([1, 1, 0, 0]) + struct.pack(">II", 0, 1)  # XDR, little-endian host; version, unique names
    for name, value in ((b"version", 5000), (b"state", 0), (b"txg", 4), (b"guid", 1 << 60)):
        padded = name + bytes(-len(name) % 4)
        size = 12 + len(padded) + 16
        names += struct.pack(">III", size, 32, len(name)) + padded + struct.pack(">IIQ", 8, 1, value)
    with path.open("r+b") as f:
        os.pwrite(f.fileno(), names, 16 << 10)
        for slot in range(128):
            uberblock = struct.pack("<QQQQQ", 0x00BAB10C, 5000, 4, 1 << 60, 1_700_000_000 + slot)
            os.pwrite(f.fileno(), uberblock, (128 + slot) << 10)


def volume_group(tools: Tools, path: Path) -> None:
    group = lvm.VolumeGroup(
        "vgwritten", "a" * 6 + "-aaaa" * 5 + "-" + "b" * 6, "c" * 6 + "-cccc" * 5 + "-" + "d" * 6, DISK, ()
    )
    with path.open("r+b") as f:
        os.pwrite(f.fileno(), lvm.encode_metadata(group), lvm.AREA_AT)
        os.pwrite(f.fileno(), lvm.encode_label(group), lvm.LABEL_AT)


FOREIGN: dict[str, tuple[Make, str]] = {
    "ext4": (made_by("mkfs.ext4", "-q", "-F"), "ext4"),
    "LUKS1": (
        made_by(
            "cryptsetup",
            "luksFormat",
            "-q",
            "--type",
            "luks1",
            "--pbkdf-force-iterations",
            "1000",
            "--key-file",
            "/etc/os-release",
        ),
        "crypto_LUKS",
    ),
    "RAID": (raid, "linux_raid_member"),
    "ZFS": (zfs, "zfs_member"),
    "LVM": (volume_group, "LVM2_member"),
    "a partition with ext4": (made_by("sfdisk", "-q", stdin=b"label: gpt\n2048,,L\n"), "gpt"),
}


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    with path.open("wb") as f:
        f.truncate(DISK)
    return path


@pytest.fixture
def device(tools: Tools, disk: Path) -> Iterator[Path]:
    """A block device with old data all over it."""
    with disk.open("r+b") as f:
        for at in range(0, DISK, MIB):
            os.pwrite(f.fileno(), OLD, at)
    with lvm2.loop_device(tools, disk, 0, DISK) as name:
        yield Path(name)


def digest(path: Path) -> tuple[str, int]:
    """Of where foreign data lies, and how much of the file is allocated."""
    with path.open("rb") as f:
        data = f.read(16 * MIB) + os.pread(f.fileno(), 16 * MIB, DISK - 16 * MIB)
    return hashlib.sha256(data).hexdigest(), path.stat().st_blocks


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_data_is_recognised_and_not_touched(what: str, seat_bench: SeatBench, disk: Path) -> None:
    make, kind = FOREIGN[what]
    make(seat_bench.tools, disk)
    before = digest(disk)
    with pytest.raises(InputError, match="is not empty") as caught:
        seat_bench.write(disk)
    assert kind in caught.value.message
    assert caught.value.hint == "to lose all of it: --overwrite"
    assert digest(disk) == before
    assert [p.name for p in disk.parent.iterdir()] == ["disk"]


def test_a_document_is_not_taken_for_an_empty_disk(seat_bench: SeatBench, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.odt"
    thesis.write_bytes(b"chapter one")
    with pytest.raises(InputError, match="data that no program recognises"):
        seat_bench.write(thesis)
    assert thesis.read_bytes() == b"chapter one"


def test_a_group_of_the_same_name_in_a_partition_is_named(seat_bench: SeatBench, disk: Path) -> None:
    seat_bench.tools.run(["sfdisk", "-q", disk], stdin=b"label: gpt\n4096,,L\n")
    with disk.open("r+b") as f:
        part = disk.with_name("part")
        part.write_bytes(bytes(MIB))
        volume_group(seat_bench.tools, part)
        os.pwrite(f.fileno(), part.read_bytes(), 2 * MIB)
    with pytest.raises(InputError, match="the volume group vgwritten in partition 1 of"):
        seat_bench.write(disk)


def test_a_file_that_is_busy_is_refused(tools: Tools, seat_bench: SeatBench, disk: Path) -> None:
    with lvm2.loop_device(tools, disk, 0, DISK) as device:
        with pytest.raises(BusyError, match=f"attached to {device}") as caught:
            seat_bench.write(disk)
        assert caught.value.hint == f"run: losetup -d {device}"
    part = disk.with_name(".disk.part")
    with part.open("wb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="already being written"):
            seat_bench.write(disk)


def test_a_disk_is_not_written_while_a_virtual_pc_runs_from_it_nor_the_reverse(disk: Path) -> None:
    running, refused = pytest.raises(BusyError, match="a virtual PC runs from it"), "is being written"
    with unchanged(disk), unchanged(disk), running, held(look_at(disk)):
        pass
    with held(look_at(disk)), pytest.raises(BusyError, match=refused), unchanged(disk):
        pass


@pytest.mark.parametrize("name", ["folder", "nowhere/file", "pipe"])
def test_what_cannot_be_a_target_is_refused(name: str, seat_bench: SeatBench, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"neither a file nor a block device|no directory"):
        seat_bench.write(tmp_path / name)


def test_a_device_that_is_too_small_or_in_use_is_refused_with_numbers(
    tools: Tools, seat_bench: SeatBench, disk: Path
) -> None:
    small = 700 * MIB
    numbers = f"it has {small} bytes, the seat needs {832 * MIB}, 132 MiB more"
    with lvm2.loop_device(tools, disk, 0, small) as device, pytest.raises(InputError, match=numbers):
        seat_bench.write(Path(device))
    with lvm2.loop_device(tools, disk, 0, DISK) as device:
        fd = os.open(device, os.O_RDWR | os.O_EXCL)
        try:
            with pytest.raises(BusyError, match="is in use"):
                seat_bench.write(Path(device))
        finally:
            os.close(fd)
    assert disk.stat().st_blocks == 0


MOUNTED = """
import sys
from pathlib import Path
from builder.errors import BusyError
from builder.volume import target as targets
try:
    with targets.held(targets.look_at(Path(sys.argv[1]))): print("opened")
except BusyError as e:
    print(e.message)
"""


def test_a_mounted_device_is_refused_here_and_in_another_mount_namespace(
    tools: Tools, seat_bench: SeatBench, disk: Path, tmp_path: Path
) -> None:
    tools.run(["mkfs.ext4", "-q", "-F", disk])
    (tmp_path / "mnt").mkdir()
    with lvm2.loop_device(tools, disk, 0, DISK) as device:
        mounting = 'mount "$1" "$2" && "$3" -c "$4" "$1" && echo mounted && cat'
        argv = ["unshare", "--mount", "sh", "-c", mounting, "sh", device, os.fspath(tmp_path / "mnt")]
        with subprocess.Popen(
            [*argv, sys.executable, MOUNTED], cwd=CHECKOUT, stdin=PIPE, stdout=PIPE, text=True
        ) as other:
            assert other.stdout is not None
            assert f"is mounted at {tmp_path}/mnt" in other.stdout.readline()
            assert other.stdout.readline() == "mounted\n"
            with pytest.raises(BusyError, match="is in use"):
                seat_bench.write(Path(device), overwrite=True)
            other.communicate("")
    tools.run(["e2fsck", "-fn", disk])


def test_a_group_of_the_same_name_on_another_disk_is_named(
    tools: Tools, seat_bench: SeatBench, disk: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(bytes(16 * MIB))
    volume_group(tools, other)
    with (
        lvm2.loop_device(tools, other, 0, 16 * MIB) as has_it,
        lvm2.loop_device(tools, disk, 0, DISK) as device,
        pytest.raises(InputError, match=rf"volume group vgwritten on another disk \({has_it}\)"),
    ):
        seat_bench.write(Path(device))
    assert disk.stat().st_blocks == 0


@pytest.mark.parametrize("erase", [Erase.AUTO, Erase.DENSE])
def test_old_data_of_a_device_is_gone_from_every_block(
    erase: Erase, seat_bench: SeatBench, device: Path, disk: Path
) -> None:
    with pytest.raises(InputError, match="is not empty"):
        seat_bench.write(device)
    report = seat_bench.write(device, erase=erase, overwrite=True)
    assert report.erased is (Erase.DENSE if erase is Erase.DENSE else Erase.DISCARD)
    with disk.open("rb") as f:
        kept = [at for at in range(0, DISK, MIB) if os.pread(f.fileno(), len(OLD), at) == OLD]
    assert kept == []
    with Disk(device) as opened:
        found = inspect_disk(opened, seat_bench.tools)
    compare(found, seat_bench.plan())
    assert found.problems == []


def test_a_device_whose_writing_was_interrupted_says_so_and_is_taken_again_unasked(
    seat_bench: SeatBench, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(fd: int, path: Path, **how: object) -> Medium:
        return Faulty(fd, path, at=40, kind="cut", torn=1)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "Medium", cut)
        with pytest.raises(PowerCut):
            seat_bench.write(device, overwrite=True)
    with device.open("rb") as f:
        assert marked_as(f.read(512)) == "tiny"
    assert targets.signatures(seat_bench.tools, device, 0, look_at(device).size) == []
    seat_bench.write(device)
    with Disk(device) as opened:
        assert inspect_disk(opened, seat_bench.tools).problems == []


class Watching(Medium):
    """Looks after each write at what a PC that loses power now would find: a table, or a volume group?"""

    pv = 0
    seen: ClassVar[list[tuple[bool, bool, bool]]] = []

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> Written:
        written = super().write(offset, data)
        with Disk(self.path) as disk:
            marked = marked_as(disk.read(0, 512)) == "tiny"
            table = decodes(lambda: gpt.decode(disk.read, disk.size))
            group = decodes(lambda: lvm.decode(disk.at(Watching.pv)))
        Watching.seen.append((marked, table, group))
        return written


def decodes(what: Callable[[], object]) -> bool:
    try:
        what()
    except InputError:
        return False
    return True


def test_over_an_older_seat_no_write_but_the_last_leaves_one_that_looks_whole(
    seat_bench: SeatBench, device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seat_bench.write(device, overwrite=True)
    monkeypatch.setattr(writing, "Medium", Watching)
    monkeypatch.setattr(Watching, "pv", seat_bench.plan().pv.start)
    monkeypatch.setattr(Watching, "seen", [])
    seat_bench.write(device, overwrite=True)
    marked, tables, groups = (list(column) for column in zip(*Watching.seen, strict=True))
    assert len(marked) > 40
    assert marked == [True] * (len(marked) - 1) + [False], (
        "the mark is the first write, and goes by the last"
    )
    first = 3  # the mark; what was at the beginning; the label: until then the older seat's own are there
    assert tables[first:] == [False] * (len(tables) - first - 1) + [True]
    assert groups[first:-5] == [False] * (len(groups) - first - 5), "the label is among the last five"


def test_a_disk_that_is_not_the_seats_by_its_serial_number_is_refused(
    seat_bench: SeatBench, device: Path
) -> None:
    seat = seat_bench.project.seats / "tiny.yaml"
    text = seat.read_text()
    try:
        seat.write_text(text.replace("size: 832MiB", "size: 832MiB\n  serial: S3Z9NB0K123456"))
        with pytest.raises(SeatsmithError, match="the seat is for S3Z9NB0K123456"):
            seat_bench.write(device, overwrite=True)
    finally:
        seat.write_text(text)
