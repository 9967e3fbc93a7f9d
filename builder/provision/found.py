"""What is on a disk now? Tables, partitions, volume groups, encrypted volumes and filesystems, with labels.

Read without device-mapper and without mounting: blkid(8) and sfdisk(8) look at parts of the disk by offset,
LVM metadata is read by ourselves. Where no program recognises anything, on the whole disk or between
partitions, the bytes themselves are looked at. What was found has an id that changes with every change of
it, so that consent to its loss is consent to the loss of just that.
"""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import json_digest
from builder.provision.journal import Journal, Run
from builder.run import ProgramError
from builder.tools import Tools
from builder.ui import size_text
from builder.volume import lvm
from builder.volume.medium import Medium
from builder.volume.target import marked_as
from builder.volume.traces import look_for_traces

MEMBER = "LVM2_member"
TABLE = 1 << 20  # at the beginning of a disk with a partition table: the table, a boot loader, our journal
BACKUP = 34  # sectors of a GPT at a disk's end
ENDS = 2 << 20  # bytes at either end of a place within which all signatures lie
NOTHING, AMBIVALENT = 2, 8  # blkid(8)


@dataclass(frozen=True)
class Thing:
    """Something on the disk; ``depth`` is how far inside of other things it lies."""

    kind: str
    name: str
    offset: int
    size: int
    id: str
    depth: int

    def __str__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"{self.kind}{name} at {self.offset}, {size_text(self.size)}"


@dataclass
class Found:
    """All that was found on a disk."""

    path: Path
    size: int
    things: list[Thing] = field(default_factory=list)
    unfinished: str | None = None
    """The seat that was being written when that was interrupted."""
    seat: str | None = None
    """The seat that is whole on the disk."""
    runs: list[Run] = field(default_factory=list)
    looked: int = 0
    """Bytes that were looked at where no program recognised anything."""
    unseen: int = 0
    """Bytes beside them that were not, since a disk is too large for that unless it is asked for."""

    @property
    def empty(self) -> bool:
        """Whether it is known that there is nothing: a disk that was looked at in parts is not empty."""
        return not self.things and self.unfinished is None and not self.unseen

    @property
    def id(self) -> str:
        """What --wipe must name."""
        seen = [[t.kind, t.name, t.offset, t.size, t.id] for t in self.things]
        begun = [self.unfinished] if self.unfinished else []
        return json_digest([self.size, seen, "not all was read" if self.unseen else "", *begun])[:8]

    def lines(self) -> list[str]:
        if self.unfinished:
            return [f"  seat {self.unfinished}, not completely written"]
        lines = [f"  {'  ' * t.depth}{t}" + (f", id {t.id}" if t.id else "") for t in self.things]
        if self.unseen:
            where = "outside of all that " if self.things else ""
            lines.append(
                f"  {where}{size_text(self.looked)} looked at, which are zero; {size_text(self.unseen)} not "
                "looked at (--read-all reads everything)"
            )
        return lines or ["  nothing: everything is zero"]


def look(medium: Medium, size: int, tools: Tools, *, everything: bool = False) -> Found:
    """Look at a whole disk. Nothing is written. ``everything``: read also what takes long."""
    found = Found(medium.path, size)
    found.unfinished = marked_as(medium.read(0, 512))
    found.runs = Journal(medium, whole=found.unfinished is None).runs
    if found.unfinished:
        return found
    look_at_part(medium, tools, found, 0, size, 0)
    table = partition_table(medium.path, tools)
    sector = table.get("sectorsize", 512)
    for n, part in enumerate(table.get("partitions", []), 1):
        start, length = part["start"] * sector, part["size"] * sector
        name = part.get("name", "")
        found.things.append(Thing(f"partition {n}", name, start, length, part.get("uuid", ""), 1))
        look_at_part(medium, tools, found, start, length, 2)
        if name.startswith("seat-") and any(t.kind == "volume group" for t in found.things):
            found.seat = name.removeprefix("seat-")
    for start, end in gaps(table, size) if table else [(0, size)]:
        look_at_rest(medium, tools, found, start, end, everything=everything)
    return found


def gaps(table: dict[str, Any], size: int) -> Iterator[tuple[int, int]]:
    """What no partition has, as first byte and end, less the table itself."""
    sector = table.get("sectorsize", 512)
    end_of_all = size - BACKUP * sector if table.get("label") == "gpt" else size
    at = TABLE
    parts = [(p["start"] * sector, p["size"] * sector) for p in table.get("partitions", [])]
    for start, length in [*sorted(parts), (end_of_all, 0)]:
        if start > at:
            yield at, min(start, end_of_all)
        at = max(at, start + length)


def look_at_rest(
    medium: Medium, tools: Tools, found: Found, start: int, end: int, *, everything: bool
) -> None:
    """Look at a whole disk, or at a place between partitions, where nothing is known to be."""
    whole = end - start == found.size
    if whole and found.things:
        return
    before = len(found.things)
    if not whole:
        look_at_part(medium, tools, found, start, end - start, 1)
    if len(found.things) > before:
        return
    traces = look_for_traces(medium.fd, medium.read, start, end, everything=everything)
    found.looked += traces.looked
    found.unseen += traces.unseen
    if traces.at is not None:
        kind = "a place that cannot be read" if traces.unreadable else "data that no program recognises"
        found.things.append(Thing(kind, "", traces.at, end - traces.at, "", 0 if whole else 1))


def look_at_part(medium: Medium, tools: Tools, found: Found, start: int, size: int, depth: int) -> None:
    """Add what one part of the disk holds, and what lies in that."""
    for values in signatures(medium, tools, start, size):
        kind = values.get("TYPE") or values.get("PTTYPE", "")
        if "PTTYPE" in values and "TYPE" not in values:
            kind = f"partition table ({kind})"
        label = values.get("LABEL") or ""
        uuid = values.get("UUID") or values.get("PTUUID", "")
        if kind == "crypto_LUKS":
            kind = f"LUKS{values.get('VERSION', '')} encrypted volume"
        if kind != MEMBER:
            found.things.append(Thing(kind, label, start, size, uuid, depth))
            continue
        try:
            group = lvm.decode(lambda offset, length: medium.read(start + offset, length))
        except InputError as e:
            found.things.append(Thing(f"LVM physical volume ({e.message})", "", start, size, uuid, depth))
            continue
        found.things.append(Thing("volume group", group.name, start, size, group.id, depth))
        for volume in group.volumes:
            at, length = start + group.offset(volume.segments[0].first), volume.extents * group.extent_size
            found.things.append(Thing("logical volume", volume.name, at, length, volume.id, depth + 1))
            look_at_part(medium, tools, found, at, min(length, found.size - at), depth + 2)


def signatures(medium: Medium, tools: Tools, start: int, size: int) -> Iterator[dict[str, str]]:
    """What blkid(8) recognises in a part of a disk, or all of it where that is several things at once."""
    if size <= 0:  # a description of more than the disk has
        return
    argv = ["blkid", "--probe", "--output", "export", "--offset", str(start), "--size", str(size)]
    result = tools.run([*argv, medium.path], check=False)
    if result.returncode not in (0, NOTHING, AMBIVALENT):
        raise ProgramError(argv, result.returncode, result.stderr.decode(errors="replace"))
    values = dict(line.split("=", 1) for line in result.text.splitlines() if "=" in line)
    if "TYPE" in values or "PTTYPE" in values:
        yield values
    else:  # also where it is several things: blkid of util-linux 2.41 then says the same as for nothing
        yield from several(medium, tools, start, size)


def several(medium: Medium, tools: Tools, start: int, size: int) -> Iterable[dict[str, str]]:
    """All signatures of a part of a disk: wipefs(8) knows no parts, so it looks at a copy of both ends."""
    ends = {at: medium.read(start + at, min(ENDS, size)) for at in (0, max(size - ENDS, 0))}
    if not any(map(any, ends.values())):
        return []
    with tempfile.NamedTemporaryFile(prefix="seatsmith-") as f:
        f.truncate(size)
        for at, data in ends.items():
            os.pwrite(f.fileno(), data, at)
        listed = tools.run(["wipefs", "--no-act", "--json", f.name], check=False)
    rows: list[dict[str, Any]] = json.loads(listed.stdout or b"{}").get("signatures", [])
    named = {(row["type"], row.get("label") or "", row.get("uuid") or "") for row in rows}
    return [{"TYPE": kind, "LABEL": label, "UUID": uuid} for kind, label, uuid in sorted(named)]


def partition_table(path: Path, tools: Tools) -> dict[str, Any]:
    """sfdisk's description; empty where there is no table that it reads."""
    try:
        table: dict[str, Any] = json.loads(tools.run(["sfdisk", "--json", path]).stdout)["partitiontable"]
    except (ProgramError, ValueError, KeyError):
        return {}
    return table
