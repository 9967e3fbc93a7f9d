"""Is the disk the one that is meant? Never by a name that moves, nor by a number that two disks have."""

import os
from pathlib import Path

import pytest

from builder.errors import InputError, TrustError, UsageError
from builder.provision import identity
from builder.provision.identity import (
    Identity,
    check_identity,
    identify,
    is_stable,
    own_id,
    refuse_exchanged,
)
from builder.volume import diskid
from builder.volume.target import Target


def disk_named(
    name: str, serial: str = "S1", *, links: tuple[str, ...] = (), also: tuple[str, ...] = ()
) -> Identity:
    path = Path("/dev", name)
    return Identity(Target(path, True, 1 << 30), path, "Model", serial, links, also)


def test_a_name_that_moves_needs_a_serial_number_beside_it() -> None:
    disk = disk_named("sda", links=("ata-Model_S1",))
    with pytest.raises(UsageError, match="may mean another disk") as caught:
        check_identity(disk, pinned=None, expected=None)
    assert caught.value.hint == "name it /dev/disk/by-id/ata-Model_S1"
    check_identity(disk, pinned="S1", expected=None)
    check_identity(disk, pinned=None, expected="S1")
    check_identity(disk_named("disk/by-id/ata-Model_S1"), pinned=None, expected=None)
    with pytest.raises(TrustError, match="the seat file is for S2"):
        check_identity(disk, pinned="S2", expected=None)


@pytest.mark.parametrize(
    "name", ["sda", "block/8:0", "md127", "dm-3", "mapper/x", "disk/by-diskseq/9", "disk/by-path/pci-0:1"]
)
def test_no_name_but_one_by_id_is_taken_alone_and_no_serial_number_is_none(name: str) -> None:
    with pytest.raises(UsageError, match="may mean another disk"):
        check_identity(disk_named(name, ""), pinned=None, expected=None)
    for nothing in ("", " "):
        with pytest.raises(UsageError, match="--expect-serial is empty"):
            check_identity(disk_named(name, nothing), pinned=None, expected=nothing)


def test_a_link_to_a_name_by_id_is_as_good_and_one_to_another_is_not(tmp_path: Path) -> None:
    first, second, moving = tmp_path / "first", tmp_path / "second", tmp_path / "disk-by-id"
    first.symlink_to("second")
    second.symlink_to("/dev/disk/by-id/ata-Model_S1")
    moving.symlink_to("/dev/sda")
    assert is_stable(first)
    assert not is_stable(moving)


def test_tests_may_write_to_files_and_to_disks_that_are_named_for_it(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(4096))
    assert identify(path).for_tests
    assert identify(path).serial == "disk.img"
    assert disk_named("vda", "SEATSMITH-TEST-1").for_tests
    assert not disk_named("sda", "S3Z9NB0K").for_tests
    with pytest.raises(InputError, match="there is no"):
        identify(tmp_path / "absent")
    os.truncate(path, 0)
    with pytest.raises(InputError, match="is an empty file"):
        identify(path)


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Disks as sysfs shows them: two NVMe namespaces of one controller, and some without serial numbers."""
    for path, text in {
        "nvme0n1/device/serial": "S3Z9  ",
        "nvme0n1/wwid": "eui.0025385b01402c5d",
        "nvme0n2/device/serial": "S3Z9",
        "nvme0n2/wwid": "eui.0025385b01402c5e",
        "nvme0n2/size": "8",
        "nvme0n1p1/partition": "1",
        "sda/device/wwid": "naa.5000c500a1b2c3d4",
        "sdb/device/wwid": "naa.0000000000000000",
        "sdc/device/wwid": "t10.ATA     Some disk        123",
        "vda/size": "1",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"{text}\n")
    monkeypatch.setattr(diskid, "BLOCK", tmp_path)
    monkeypatch.setattr(diskid, "UDEV", tmp_path / "udev")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("nvme0n1", ["S3Z9", "eui.0025385b01402c5d"]),
        ("sda", ["0x5000c500a1b2c3d4"]),
        ("sdb", []),
        ("sdc", []),
        ("vda", []),
    ],
)
def test_a_disk_is_known_by_serial_number_and_wwn(name: str, ids: list[str], disks: Path) -> None:
    assert diskid.ids_of(Path("/dev", name)) == ids


@pytest.mark.usefixtures("disks")
def test_a_disk_without_a_serial_number_is_meant_by_its_wwn() -> None:
    disk = disk_named("sda", "", also=("0x5000c500a1b2c3d4",))
    check_identity(disk, pinned=None, expected="0x5000c500a1b2c3d4")
    check_identity(disk, pinned="0x5000c500a1b2c3d4", expected=None)
    with pytest.raises(UsageError, match="may mean another disk") as caught:
        check_identity(disk, pinned=None, expected=None)
    assert "--expect-serial 0x5000c500a1b2c3d4" in (caught.value.hint or "")
    with pytest.raises(TrustError, match="also known as 0x5000c500a1b2c3d4"):
        check_identity(disk, pinned="0x5000c500a1b2c3d5", expected=None)


@pytest.mark.usefixtures("disks")
def test_a_number_that_two_disks_have_means_none_of_them() -> None:
    disk = disk_named("nvme0n1", "S3Z9", also=("eui.0025385b01402c5d",))
    with pytest.raises(TrustError, match="/dev/nvme0n2 is known as S3Z9, too; nothing") as caught:
        check_identity(disk, pinned=None, expected="S3Z9")
    assert caught.value.hint == "say what only /dev/nvme0n1 has: eui.0025385b01402c5d"
    check_identity(disk, pinned=None, expected="eui.0025385b01402c5d")
    assert own_id(disk) == "eui.0025385b01402c5d"


@pytest.mark.usefixtures("disks")
def test_who_has_a_disk_that_nothing_tells_from_another_is_told_what_to_do() -> None:
    for links in ((), ("usb-Generic_Flash_Disk-0:0",)):  # a name of its model alone
        disk = disk_named("vda", "", links=links)
        assert own_id(disk) is None
        for expected in (None, ""):
            with pytest.raises(UsageError) as caught:
                check_identity(disk, pinned=None, expected=expected)
            assert "nothing tells it from another: give a virtual disk one" in (caught.value.hint or "")


def test_a_disk_that_took_the_name_of_the_one_that_was_shown_is_not_written(
    disks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = Path("/dev/null").stat().st_rdev  # stands for the disk that is open
    numbers = tmp_path / "numbers"
    numbers.mkdir()
    (numbers / f"{os.major(number)}:{os.minor(number)}").symlink_to(disks / "sda")
    (disks / "sda/size").write_text(f"{(1 << 30) // 512}\n")
    monkeypatch.setattr(identity, "NUMBERS", numbers)
    with Path("/dev/null").open("rb") as f:
        refuse_exchanged(disk_named("sda", "", also=("0x5000c500a1b2c3d4",)), f.fileno())
        with pytest.raises(TrustError, match="/dev/sda is another disk now"):
            refuse_exchanged(disk_named("sda", "S1"), f.fileno())
        (disks / "sda/size").write_text("8\n")
        with pytest.raises(TrustError, match="/dev/sda is another disk now"):
            refuse_exchanged(disk_named("sda", "", also=("0x5000c500a1b2c3d4",)), f.fileno())


@pytest.mark.parametrize(
    ("other", "size", "hidden"), [("mmcblk0boot0", "8192", "0"), ("sde", "0", "0"), ("nvme0c0n1", "8", "1")]
)
def test_what_is_part_of_a_disk_or_a_way_to_it_is_no_other_disk(
    other: str, size: str, hidden: str, disks: Path
) -> None:
    for name in ("mmcblk0", other):
        (disks / name / "device").mkdir(parents=True, exist_ok=True)
        (disks / name / "device/serial").write_text("0x1234\n")
    (disks / other / "size").write_text(f"{size}\n")
    (disks / other / "hidden").write_text(f"{hidden}\n")
    check_identity(disk_named("mmcblk0", "0x1234"), pinned=None, expected="0x1234")
