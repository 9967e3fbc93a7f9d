"""How does a tar stream become an ext4 filesystem, and which of its blocks carry something?"""

import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from builder.errors import InputError, SeatsmithError
from builder.files import no_space_left, no_space_named, says_no_space
from builder.run import ProgramError
from builder.tools import Tools
from builder.ui import size_text
from builder.volume.ext4fill import Filler
from builder.volume.ext4layout import INODE_SIZE, NoRoom
from builder.volume.tarsink import TarSink
from builder.volume.xts import Range

BLOCK = 4096
LABEL_LENGTH = 16
RESERVED_PERCENT = 1  # for root; the default of 5 % would be 11 GiB of a 230 GiB volume
JOURNALS = ((1 << 30, 16), (8 << 30, 64), (64 << 30, 128))  # filesystem smaller than: MiB of journal
LARGEST_JOURNAL = 256

Feed = Callable[[BinaryIO], None]


def make(
    tools: Tools, image: Path, size: int, feed: Feed, *, uuid: str, hash_seed: str, label: str, epoch: int
) -> None:
    """Make a filesystem of ``size`` bytes in the sparse file ``image`` from the tar that ``feed`` writes.

    mkfs.ext4 makes it empty, and a Filler puts the files in. The result depends on the arguments and the tar
    alone. Inode tables stay unwritten beyond the inodes in use, flagged so in the group descriptors (the
    kernel clears them after the first mount).

    Raises InputError where the tree does not fit, MachineError where the disk is full below ``image``;
    whatever ``feed`` raises comes out as it is.
    """
    with image.open("wb") as f:
        f.truncate(size)
    options = f"hash_seed={hash_seed},lazy_itable_init=1,lazy_journal_init=0,nodiscard,root_owner=0:0"
    argv = ["mkfs.ext4", "-q", "-F", "-b", str(BLOCK), "-m", str(RESERVED_PERCENT), "-U", uuid, "-L", label]
    argv += ["-I", str(INODE_SIZE), "-J", f"size={journal_size(size)}", "-E", options, os.fspath(image)]
    try:
        tools.run(argv, env={"SOURCE_DATE_EPOCH": str(epoch)})
    except ProgramError as e:
        if says_no_space(e.output):
            raise no_space_left(image) from e
        raise
    try:
        with no_space_named(image), image.open("r+b", buffering=0) as f:
            sink = TarSink(Filler(f.fileno(), epoch=epoch))
            feed(cast("BinaryIO", sink))
            sink.finish()
    except NoRoom as e:
        raise InputError(
            f"the tree for {label} has {size_text(tar_size(feed))}, more than its filesystem of "
            f"{size_text(size)} has room for"
        ) from e


class Counter(io.RawIOBase):
    """Where a tar is written to learn its length."""

    def __init__(self) -> None:
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        length = memoryview(data).nbytes
        self.size += length
        return length


def tar_size(feed: Feed) -> int:
    """Bytes of the tar that ``feed`` writes."""
    counter = Counter()
    with io.BufferedWriter(counter) as out:
        feed(out)
    return counter.size


def journal_size(size: int) -> int:
    """MiB of journal: less than mkfs.ext4's choice (up to 1 GiB), because all of it is written out."""
    return next((mib for limit, mib in JOURNALS if size < limit), LARGEST_JOURNAL)


def used_ranges(tools: Tools, image: Path) -> list[Range]:
    """Byte ranges of the blocks that must reach the disk, sorted: allocated ones, less unused inode tables.

    Holes of the file say nothing here: an allocated block of zeros may be one, and must be encrypted too.
    """
    return list(parse_used(tools.run(["dumpe2fs", image]).text))


def parse_used(dump: str) -> Iterator[Range]:
    """The ranges from the text of dumpe2fs(8)."""
    blocks, per_group, inode_size = (
        int(_one(rf"^{name}:\s+(\d+)", dump)) for name in ("Block count", "Inodes per group", "Inode size")
    )
    free: list[Range] = []
    for listed in re.findall(r"^  Free blocks: (.+)$", dump, re.MULTILINE):
        for part in listed.split(","):
            first, _, last = part.strip().partition("-")
            free.append((int(first), int(last or first) + 1))
    groups = re.findall(r"^  Inode table at (\d+)-(\d+).*\n  (.*)$", dump, re.MULTILINE)
    if not groups:
        raise SeatsmithError("dumpe2fs shows no block groups")
    for first, last, counts in groups:
        unused = re.search(r"(\d+) unused inodes", counts)
        used = per_group - (int(unused[1]) if unused else 0)
        kept = -(-used * inode_size // BLOCK)
        free.append((int(first) + kept, int(last) + 1))
    position = 0
    for start, end in sorted(free):
        if start > position:
            yield position * BLOCK, start * BLOCK
        position = max(position, end)
    if position < blocks:
        yield position * BLOCK, blocks * BLOCK


def block_of(tools: Tools, image: Path, path: str) -> int:
    """Byte offset in the filesystem of the only block of a small file. Raises SeatsmithError otherwise."""
    text = tools.run(["debugfs", "-R", f"blocks {path}", image]).text.split()
    if len(text) != 1 or not text[0].isdigit():
        raise SeatsmithError(f"{path} is not one block of {image}: {' '.join(text) or 'nothing'}")
    return int(text[0]) * BLOCK


def _one(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if not match:
        raise SeatsmithError(f"dumpe2fs does not say {pattern!r}")
    return match[1]
