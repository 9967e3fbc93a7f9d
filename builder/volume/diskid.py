"""By what is a disk known that no other has? By serial number and WWN, wherever the system shows them."""

import contextlib
import os
import re
from pathlib import Path

BLOCK = Path("/sys/class/block")
SYSFS_SECTOR = 512  # bytes, whatever the disk's sectors are (kernel: block/partitions/core.c)
UDEV = Path("/run/udev/data")
NO_DISKS = ("loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd")
# naa.5000c500a1b2c3d4 of sysfs is 0x5000c500a1b2c3d4 of udev and lsblk(8); t10. and nvme. have the serial
# number in them, padded
_NAA = re.compile(r"naa\.([0-9a-f]+)")
_EMMC_BOOT = re.compile(r"mmcblk\d+(boot\d+|rpmb)")
_WWN = re.compile(r"(0x|eui\.|nguid\.|uuid\.)[0-9a-f-]+", re.IGNORECASE)


def read_text(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip() or None
    return None


def udev_value(path: Path, name: str) -> str | None:
    """A property from udev's database."""
    with contextlib.suppress(OSError):
        number = path.stat().st_rdev
        text = read_text(UDEV / f"b{os.major(number)}:{os.minor(number)}") or ""
        match = re.search(rf"^E:{name}=(.+)$", text, re.MULTILINE)
        return match[1].strip() if match else None
    return None


def serials_of(path: Path) -> list[str]:
    """A disk's serial number, as kernel or udev know it, and as lsblk(8) shows it where that is another."""
    place = BLOCK / path.resolve().name
    found = [read_text(place / "serial"), read_text(place / "device/serial")]
    found += [udev_value(path, name) for name in ("ID_SERIAL_SHORT", "ID_SCSI_SERIAL")]
    return list(dict.fromkeys(text for text in found if text))


def wwn_of(path: Path) -> str | None:
    """A disk's World Wide Name, as ``lsblk -o WWN`` shows it; none where it is all zeros."""
    place = BLOCK / path.resolve().name
    found = [udev_value(path, name) for name in ("ID_WWN_WITH_EXTENSION", "ID_WWN")]
    found += [read_text(place / "wwid"), read_text(place / "device/wwid")]
    for text in found:
        wwn = _NAA.sub(r"0x\1", text or "")
        if _WWN.fullmatch(wwn) and wwn.partition("x" if wwn[1] == "x" else ".")[2].strip("0-"):
            return wwn
    return None


def ids_of(path: Path) -> list[str]:
    """All that a disk is known by."""
    wwn = wwn_of(path)
    return [*serials_of(path), *([wwn] if wwn else [])]


def others_known_as(path: Path, text: str) -> list[Path]:
    """The other disks of this machine that have an id, too: serial numbers are not always numbered."""
    own = path.resolve().name
    names = sorted(p.name for p in BLOCK.iterdir()) if BLOCK.is_dir() else []
    disks = [Path("/dev", name) for name in names if name != own and is_disk(name)]
    return [disk for disk in disks if text in ids_of(disk)]


def is_disk(name: str) -> bool:
    """Whether a block device is a whole disk with room on it, and no other way to one, or part of one.

    Empty slots of a card reader, the boot areas of an eMMC and the paths to an NVMe namespace have the
    serial number of their disk.
    """
    place = BLOCK / name
    hidden, size = read_text(place / "hidden") or "0", read_text(place / "size") or "0"
    apart = name.startswith(NO_DISKS) or _EMMC_BOOT.fullmatch(name) or (place / "partition").exists()
    return not apart and hidden == "0" and size != "0"
