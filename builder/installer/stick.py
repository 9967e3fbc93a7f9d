"""How does the stick look in bytes? A partition table, an ESP with the UKI, a filesystem with images."""

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import NAMESPACE_DNS, UUID, uuid5

from builder import ui
from builder.files import atomic_path, no_space_named
from builder.tools import Tools
from builder.volume import esp, ext4, gpt

LINUX_DATA = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
OWN = uuid5(NAMESPACE_DNS, "installer.seatsmith.invalid")
MIB = 1 << 20
SMALLEST_ESP = 72 * MIB
SMALLEST_DATA = 64 * MIB
COPY = 1 << 20
BOOT_FILE = "EFI/BOOT/BOOTX64.EFI"


@dataclass(frozen=True)
class Ids:
    """All ids on a stick, from the seat's name: the same seat gives the same stick."""

    seat: str

    def one(self, what: str) -> UUID:
        return uuid5(OWN, f"{self.seat} {what}")

    @property
    def data(self) -> UUID:
        """The partition id by which the installer finds its images."""
        return self.one("data")


def whole(size: int) -> int:
    return -(-size // MIB) * MIB


def write_stick(
    tools: Tools,
    final: Path,
    *,
    seat: str,
    uki: Path,
    files: Mapping[str, Path | bytes],
    scratch: Path,
    epoch: int,
) -> int:
    """Write the stick's image; ``files`` (path to content) is what its data partition holds.

    Returns its size. Raises MachineError where there is no room for it.
    """
    ids = Ids(seat)
    content = sum(c.stat().st_size if isinstance(c, Path) else len(c) for c in files.values())
    esp_size = max(whole(uki.stat().st_size + 8 * MIB), SMALLEST_ESP)
    data_size = whole(content + content // 32) + SMALLEST_DATA
    esp_part = gpt.Partition("seatsmith-installer", gpt.ESP, ids.one("esp"), MIB, esp_size)
    data_part = gpt.Partition("seatsmith-images", LINUX_DATA, ids.data, esp_part.end, data_size)
    size = data_part.end + MIB
    table = gpt.Table(ids.one("disk"), size, (esp_part, data_part))
    with (
        ui.current().step("Composing the stick"),
        no_space_named(final),
        atomic_path(final) as made,
        made.open("wb") as out,
    ):
        out.truncate(size)
        image = scratch / "esp"
        serial = ids.one("fat").int & 0xFFFFFFFF
        esp.make(tools, image, esp_size, {BOOT_FILE: uki}, serial=serial, label="SEATSMITH", epoch=epoch)
        put(image, out, esp_part.start)
        image = scratch / "data"
        ext4.make(
            tools,
            image,
            data_size,
            lambda pipe: feed(files, pipe, epoch),
            uuid=str(ids.one("filesystem")),
            hash_seed=str(ids.one("hash")),
            label="seatsmith",
            epoch=epoch,
        )
        put(image, out, data_part.start)
        for at, data in gpt.encode(table):
            out.seek(at)
            out.write(data)
    return size


def put(image: Path, out: BinaryIO, start: int) -> None:
    """Copy what is written of a sparse file, and remove it."""
    with image.open("rb") as f:
        for begin, end in esp.data_ranges(image):
            f.seek(begin)
            out.seek(start + begin)
            left = end - begin
            while left and (data := f.read(min(left, COPY))):
                out.write(data)
                left -= len(data)
    image.unlink()


def feed(files: Mapping[str, Path | bytes], pipe: BinaryIO, epoch: int) -> None:
    """Write a tar of the files, and of the directories above them."""
    folders = {p.as_posix() for name in files for p in Path(name).parents if p.name}
    with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for folder in ["", *sorted(folders)]:
            info = tarfile.TarInfo(f"./{folder}")
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, epoch
            tar.addfile(info)
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(f"./{name}")
            info.mode, info.mtime = 0o644, epoch
            info.size = content.stat().st_size if isinstance(content, Path) else len(content)
            with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as f:
                tar.addfile(info, f)
