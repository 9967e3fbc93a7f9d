"""What is on a disk now? Tables, partitions, volume groups, encrypted volumes and filesystems, with labels.

Read without device-mapper and without mounting: blkid(8) and sfdisk(8) look at parts of the disk by offset,
LVM metadata is read by ourselves. What was found has an id that changes with every change of it, so that
consent to its loss is consent to the loss of just that.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.files import json_digest
from builder.provision.journal import Journal, Run
from builder.run import Arg, ProgramError
from builder.tools import Tools
from builder.ui import size_text
from builder.volume import lvm
from builder.volume.medium import Medium
from builder.volume.target import marked_as

SAMPLES = 256  # places at which a disk without any signature is looked at for data
SAMPLE_SIZE = 4096
MEMBER = "LVM2_member"


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

    @property
    def empty(self) -> bool:
        return not self.things and self.unfinished is None

    @property
    def id(self) -> str:
        """What --wipe must name."""
        seen = [[t.kind, t.name, t.offset, t.size, t.id] for t in self.things]
        return json_digest([self.size, seen])[:8]

    def lines(self) -> list[str]:
        if self.unfinished:
            return [f"  seat {self.unfinished}, not completely written"]
        if not self.things:
            return ["  nothing"]
        return [f"  {'  ' * t.depth}{t}" + (f", id {t.id}" if t.id else "") for t in self.things]


def look(medium: Medium, size: int, tools: Tools) -> Found:
    """Look at a whole disk. Nothing is written."""
    found = Found(medium.path, size)
    found.unfinished = marked_as(medium.read(0, 512))
    found.runs = Journal(medium).runs
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
    if not found.things:
        found.things += unknown_data(medium, size)
    return found


def look_at_part(medium: Medium, tools: Tools, found: Found, start: int, size: int, depth: int) -> None:
    """Add what one part of the disk holds, and what lies in that."""
    for values in signatures(medium.path, tools, start, size):
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


def signatures(path: Path, tools: Tools, start: int, size: int) -> Iterator[dict[str, str]]:
    """What blkid(8) recognises in a part of a disk, or all of it where that is several things at once."""
    where: list[Arg] = ["--offset", str(start)]
    result = tools.run(
        ["blkid", "--probe", "--output", "export", *where, "--size", str(size), path], check=False
    )
    if result.returncode == 8:  # ambivalent
        listed = tools.run(["wipefs", "--no-act", "--json", *where, path], check=False)
        rows: list[dict[str, Any]] = json.loads(listed.stdout or b"{}").get("signatures", [])
        for row in rows:
            yield {"TYPE": row["type"], "LABEL": row.get("label") or "", "UUID": row.get("uuid") or ""}
        return
    values = dict(line.split("=", 1) for line in result.text.splitlines() if "=" in line)
    if "TYPE" in values or "PTTYPE" in values:
        yield values


def partition_table(path: Path, tools: Tools) -> dict[str, Any]:
    """sfdisk's description; empty where there is no table that it reads."""
    try:
        table: dict[str, Any] = json.loads(tools.run(["sfdisk", "--json", path]).stdout)["partitiontable"]
    except (ProgramError, ValueError, KeyError):
        return {}
    return table


def unknown_data(medium: Medium, size: int) -> Iterator[Thing]:
    """Something where a disk that no program recognises is not all zeros: it may be encrypted as a whole."""
    step = max(size // SAMPLES // SAMPLE_SIZE, 1) * SAMPLE_SIZE
    for at in [*range(0, size, step), max(size - SAMPLE_SIZE, 0)]:
        if any(medium.read(at, SAMPLE_SIZE)):
            yield Thing("data that no program recognises", "", at, size - at, "", 0)
            return
