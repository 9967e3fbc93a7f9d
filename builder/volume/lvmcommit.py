"""How does a volume group change without a moment in which it is broken? As lvm2 itself commits.

The metadata area is a ring of text behind a header of one sector. The new text is written where the old one
is not, and synced; then the one sector that says where the text begins is written, and synced. Whoever reads
in between finds the old text whole (lvm2: lib/format_text/format-text.c, vg_write and vg_commit).

The text is changed as it was found rather than made anew: what lvm2 or a person added to it stays.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from builder.errors import BusyError, InputError
from builder.volume import lvm, lvmtext
from builder.volume.lvm import SECTOR, Segment, VolumeGroup
from builder.volume.read import Read


class Medium(Protocol):
    """What a commit needs of builder.volume.medium.Medium."""

    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> object: ...
    def sync(self) -> None: ...


@dataclass
class Metadata:
    """A volume group's description as found, and where in the physical volume it lies."""

    area: int
    area_size: int
    offset: int
    """Of the text, within the area."""
    size: int
    name: str
    document: dict[str, Any]
    group: VolumeGroup

    @property
    def volumes(self) -> dict[str, Any]:
        """The description's section of logical volumes, to be changed in place."""
        found: dict[str, Any] = self.document[self.name].setdefault("logical_volumes", {})
        return found


def read_metadata(read: Read) -> Metadata:
    """The metadata of a physical volume; ``read`` counts from its start. Raises as lvm.decode()."""
    group = lvm.decode(read)
    place = lvm.locate_text(read)
    document = lvmtext.parse(place.text)
    return Metadata(place.area, place.area_size, place.offset, place.size, group.name, document, group)


def commit(medium: Medium, start: int, before: Metadata) -> Metadata:
    """Make ``before.document``, as it was changed, the metadata of the physical volume at byte ``start``.

    Raises BusyError where somebody else changed it in between, InputError where it does not fit.
    """

    def read(offset: int, length: int) -> bytes:
        return medium.read(start + offset, length)

    if (there := lvm.decode(read)).seqno != before.group.seqno:
        raise BusyError(
            f"volume group {before.name} was changed by somebody else (metadata {there.seqno}, "
            f"{before.group.seqno} was read)",
            hint="run it again",
        )
    section = before.document[before.name]
    section["seqno"] = before.group.seqno + 1
    before.document["creation_time"] = int(time.time())
    text = lvmtext.dump(before.document).encode() + b"\0"
    at = next_place(before, len(text))
    medium.write(start + before.area + at, text.ljust(-(-len(text) // SECTOR) * SECTOR, b"\0"))
    medium.sync()
    head = lvm.area_head(before.area, before.area_size, at, text)
    medium.write(start + before.area, head)
    medium.sync()
    return read_metadata(read)


def next_place(before: Metadata, size: int) -> int:
    """Where in its area the next text goes: behind the present one, or at the beginning; never over it."""
    end = -(-(before.offset + before.size) // SECTOR) * SECTOR
    wraps = before.offset + before.size > before.area_size
    room = -(-size // SECTOR) * SECTOR
    if not wraps and end + room <= before.area_size:
        return end
    tail = before.offset + before.size - before.area_size + SECTOR if wraps else SECTOR
    first = -(-tail // SECTOR) * SECTOR
    if first + room <= before.offset:
        return first
    raise InputError("the LVM metadata does not fit its area a second time")


def add_volume(
    metadata: Metadata, name: str, uuid: str, segments: Sequence[Segment], tags: Sequence[str]
) -> None:
    """Describe a new volume of these extents of the only physical volume."""
    if name in metadata.volumes:
        raise InputError(f"there is already a volume {name}")
    pv = next(iter(metadata.document[metadata.name]["physical_volumes"]))
    lv: dict[str, Any] = {"id": uuid, "status": ["READ", "WRITE", "VISIBLE"], "flags": []}
    if tags:
        lv["tags"] = list(tags)
    lv |= {"creation_time": int(time.time()), "creation_host": "seatsmith"}
    lv["segment_count"] = len(segments)
    metadata.volumes[name] = lv | lvm.segment_sections(segments, pv)


def set_segments(metadata: Metadata, name: str, segments: Sequence[Segment]) -> None:
    """Give a volume these extents instead of its own."""
    pv = next(iter(metadata.document[metadata.name]["physical_volumes"]))
    lv = {k: v for k, v in metadata.volumes[name].items() if not k.startswith("segment")}
    lv["segment_count"] = len(segments)
    metadata.volumes[name] = lv | lvm.segment_sections(segments, pv)


def rename_volumes(metadata: Metadata, names: dict[str, str]) -> None:
    """Rename at once: also two volumes to each other's name."""
    section = metadata.volumes
    renamed = {names.get(name, name): lv for name, lv in section.items()}
    if len(renamed) != len(section):
        raise InputError(f"volumes cannot be renamed {names}: a name would be taken twice")
    section.clear()
    section.update(renamed)


def remove_volume(metadata: Metadata, name: str) -> None:
    del metadata.volumes[name]
    if not metadata.volumes:
        del metadata.document[metadata.name]["logical_volumes"]


def tags_of(metadata: Metadata, name: str) -> list[str]:
    return list(metadata.volumes[name].get("tags", []))


def set_tags(metadata: Metadata, name: str, tags: Sequence[str]) -> None:
    lv = metadata.volumes[name]
    lv["tags"] = list(tags)


def free_runs(group: VolumeGroup, *, without: Sequence[str] = ()) -> list[Segment]:
    """Runs of extents that no volume has, as if the volumes ``without`` were gone."""
    taken = sorted(
        (s.first, s.first + s.count) for v in group.volumes if v.name not in without for s in v.segments
    )
    runs, at = [], 0
    for first, end in [*taken, (group.extents, group.extents)]:
        if first > at:
            runs.append(Segment(at, first - at))
        at = max(at, end)
    return runs


def best_run(group: VolumeGroup, extents: int, *, without: Sequence[str] = ()) -> Segment | None:
    """The smallest free run that holds so many extents, cut to size; None where there is none."""
    fitting = [run for run in free_runs(group, without=without) if run.count >= extents]
    best = min(fitting, key=lambda run: (run.count, run.first), default=None)
    return Segment(best.first, extents) if best else None
