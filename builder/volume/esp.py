"""How does an EFI system partition come to be? A FAT32 filesystem by mkfs.vfat, its files by mtools."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from builder.errors import InputError
from builder.files import no_space_left, says_no_space
from builder.run import ProgramError
from builder.tools import Tools
from builder.ui import size_text
from builder.volume.xts import Range

SMALLEST_CLUSTERS = 65525  # below, a FAT filesystem is FAT16 whatever it says


def make(
    tools: Tools,
    image: Path,
    size: int,
    files: Mapping[str, Path | bytes],
    *,
    serial: int,
    label: str,
    epoch: int,
    sector: int = 512,
) -> None:
    """Make a filesystem of ``size`` bytes with ``files`` (path → content) in the sparse file ``image``.

    Raises InputError where the files do not fit, MachineError where the disk is full that ``image`` lies on.
    """
    if size // sector < SMALLEST_CLUSTERS + 1000:
        raise InputError(f"an ESP with {sector}-byte sectors has at least {size_text(70_000 * sector)}")
    with image.open("wb") as f:
        f.truncate(size)
    environment = {"SOURCE_DATE_EPOCH": str(epoch), "MTOOLS_SKIP_CHECK": "1", "TZ": "UTC"}
    argv = ["mkfs.vfat", "-F", "32", "-S", str(sector), "-i", f"{serial:08x}", "-n", label, os.fspath(image)]
    tools.run(argv, env=environment)
    folders = sorted({os.fspath(p) for name in files for p in PurePosixPath(name).parents if p.name})
    try:
        if folders:
            tools.run(["mmd", "-i", image, *(f"::/{f}" for f in folders)], env=environment)
        for name, content in sorted(files.items()):
            with as_file(content, image.with_name(f"{image.name}.file")) as source:
                tools.run(["mcopy", "-i", image, source, f"::/{name}"], env=environment)
    except ProgramError as e:
        if says_no_space(e.output):
            raise no_space_left(image) from e
        if "full" in e.output.lower():
            wanted = sum(c.stat().st_size if isinstance(c, Path) else len(c) for c in files.values())
            raise InputError(
                f"the ESP of {size_text(size)} is too small for {len(files)} files of {size_text(wanted)}",
                hint="raise `esp:` in the seat file",
            ) from e
        raise


@contextlib.contextmanager
def as_file(content: Path | bytes, scratch: Path) -> Iterator[Path]:
    """A file with the content: from a pipe, mcopy(1) ends with status 0 also where only a part had room."""
    if isinstance(content, Path):
        yield content
        return
    try:
        scratch.write_bytes(content)
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def data_ranges(image: Path) -> list[Range]:
    """The parts of a file that were written (SEEK_DATA), in whole 4096-byte steps; the FAT's tables are."""
    found: list[Range] = []
    with image.open("rb") as f:
        size = os.fstat(f.fileno()).st_size
        at = 0
        while at < size:
            try:
                start = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but holes from here
                break
            at = os.lseek(f.fileno(), start, os.SEEK_HOLE)
            found.append((start // 4096 * 4096, min(-(-at // 4096) * 4096, size)))
    return found
