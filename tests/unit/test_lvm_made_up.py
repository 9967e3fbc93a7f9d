"""Is a volume group or partition table that somebody made up refused, and never anything worse?

`seat write` looks into every disk of the machine for a group of the same name, also into a stranger's stick.
"""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.cli.seat_inspect import as_lines
from builder.errors import InputError
from builder.seat.inspect import Disk, Inspection, read_group
from builder.volume import gpt, lvm, lvmtext
from builder.volume.target import group_at

SIZE = 64 << 20
ID = "a" * 6 + "-aaaa" * 5 + "-" + "b" * 6
VOLUMES = (lvm.LogicalVolume("work", ID, (lvm.Segment(0, 3),)),)
GROUP = lvm.VolumeGroup("vgpc", ID, ID, SIZE, VOLUMES)
LV = ("vgpc", "logical_volumes", "work")
PV = ("vgpc", "physical_volumes", "pv0")
PATHS: list[tuple[str, ...]] = [
    *(("vgpc", key) for key in ("id", "seqno", "extent_size", "physical_volumes", "logical_volumes")),
    *((*LV, key) for key in ("id", "segment_count", "segment1", "tags")),
    *((*LV, "segment1", key) for key in ("extent_count", "type", "stripes")),
    *((*PV, key) for key in ("id", "dev_size", "pe_start")),
    ("vgpc",),
    LV,
    PV,
    ("creation_time",),
]
NUMBERS = st.sampled_from([0, -1, 1, 1 << 31, 1 << 62, 1 << 63, 10**19])
VALUES = NUMBERS | st.sampled_from(["", "x", "\x1b[2J"]) | st.lists(st.just("pv0") | NUMBERS, max_size=3)
SECTIONS = VALUES | st.dictionaries(st.sampled_from(["segment1", "id", "x"]), VALUES, max_size=2)


def disk_with(text: bytes) -> bytearray:
    """A physical volume with this description, whose checksums are right."""
    data = bytearray(lvm.FIRST_EXTENT)
    data[lvm.LABEL_AT : lvm.LABEL_AT + 512] = lvm.encode_label(GROUP)
    area = lvm.area_head(lvm.AREA_AT, lvm.AREA_SIZE, 512, text) + text
    data[lvm.AREA_AT : lvm.AREA_AT + len(area)] = area
    return data


def changed(path: tuple[str, ...], value: object) -> bytes:
    document: dict[str, Any] = lvmtext.parse(lvm.encode_metadata(GROUP)[512:].rstrip(b"\0").decode())
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return lvmtext.dump(document).encode() + b"\0"


def look_into(data: bytes, place: Path) -> Inspection:
    place.write_bytes(data)
    assert group_at(place, 0) in (None, "vgpc")
    with Disk(place) as disk:
        found = Inspection(place, disk.size)
        part = gpt.Partition("seat-pc", gpt.LINUX_LVM, gpt.ESP, 0, SIZE)
        found.table = gpt.Table(gpt.ESP, SIZE, (part,))
        read_group(disk, found)
    return found


def test_the_group_made_here_is_read(tmp_path: Path) -> None:
    found = look_into(disk_with(changed(("creation_time",), 5)), tmp_path / "disk")
    assert found.group is not None
    assert [(v.name, v.extents) for v in found.volumes] == [("work", 3)]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PATHS), SECTIONS)
def test_no_description_is_worse_than_a_problem(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[str, ...], value: object
) -> None:
    found = look_into(disk_with(changed(path, value)), tmp_path_factory.getbasetemp() / "disk")
    assert "\x1b" not in str([v.id for v in found.volumes])


def test_a_volume_beyond_every_disk_is_a_problem(tmp_path: Path) -> None:
    text = changed(("vgpc", "extent_size"), 1 << 40).replace(b'"pv0", 0', b'"pv0", 1099511627776')
    found = look_into(disk_with(text), tmp_path / "disk")
    assert found.problems == ["volume work reaches beyond the end of the disk"]


@pytest.mark.parametrize(
    "text", [b"a = " + b"9" * 6000, b"a {" * 5000, b"vgpc { id = }"], ids=str.split("digits nested empty")
)
def test_a_text_without_measure_is_refused(text: bytes) -> None:
    data = disk_with(text)
    with pytest.raises(InputError):
        lvm.decode(lambda offset, length: bytes(data[offset : offset + length]))


@pytest.mark.parametrize("what", ["size", "place"])
def test_an_area_of_more_than_a_disk_or_beyond_it_is_not_read(what: str, tmp_path: Path) -> None:
    label = bytearray(lvm.encode_label(GROUP))
    at = label.index(lvm.AREA_SIZE.to_bytes(8, "little")) - (8 if what == "place" else 0)
    label[at : at + 8] = ((1 << 64) - 512).to_bytes(8, "little")
    label[16:20] = lvm._crc(bytes(label[20:])).to_bytes(4, "little")
    data = disk_with(b"x")
    data[lvm.LABEL_AT : lvm.LABEL_AT + 512] = label
    assert look_into(data, tmp_path / "disk").problems == [
        "partition seat-pc: the LVM metadata area lies outside of every disk"
    ]


def partitions(change: Callable[[bytearray], None]) -> bytes:
    """A disk whose table says something else of its one partition; the checksums are right."""
    part = gpt.Partition("seat-pc", gpt.LINUX_LVM, gpt.ESP, 1 << 20, 1 << 20)
    data = bytearray(SIZE)
    for offset, block in gpt.encode(gpt.Table(gpt.ESP, SIZE, (part,))):
        data[offset : offset + len(block)] = block
    for header in (512, SIZE - 512):
        at = int.from_bytes(data[header + 72 : header + 80], "little") * 512
        entries = data[at : at + 128 * 128]
        change(entries)
        data[at : at + len(entries)] = entries
        data[header + 88 : header + 92] = zlib.crc32(entries).to_bytes(4, "little")
        data[header + 16 : header + 20] = bytes(4)
        data[header + 16 : header + 20] = zlib.crc32(data[header : header + 92]).to_bytes(4, "little")
    return bytes(data)


def decoded(data: bytes) -> gpt.Table:
    return gpt.decode(lambda offset, length: data[offset : offset + length], SIZE)


@pytest.mark.parametrize(("first", "last"), [(1 << 63, (1 << 63) + 9), (2048, 1 << 40), (4096, 2048)])
def test_a_partition_that_lies_nowhere_is_refused(first: int, last: int) -> None:
    def change(entries: bytearray) -> None:
        entries[32:48] = first.to_bytes(8, "little") + last.to_bytes(8, "little")

    with pytest.raises(InputError, match="partition seat-pc does not lie on the disk"):
        decoded(partitions(change))


def test_a_partitions_name_does_nothing_to_a_terminal() -> None:
    def change(entries: bytearray) -> None:
        entries[56:60] = "\x1bc".encode("utf-16-le")

    table = decoded(partitions(change))
    lines = as_lines(Inspection(Path("disk"), SIZE, table=table), {})
    assert "?cat-pc" in "\n".join(lines)
    assert "\x1b" not in "".join(lines)
