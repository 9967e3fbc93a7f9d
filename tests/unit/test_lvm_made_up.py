"""Is a volume group that somebody made up on purpose refused, and never anything worse?

`seat write` looks into every disk of the machine for a group of the same name, also into a stranger's stick.
"""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_an_area_of_more_than_a_disk_is_not_read() -> None:
    data = disk_with(b"x")
    data[lvm.AREA_AT : lvm.AREA_AT + 512] = lvm.area_head(lvm.AREA_AT, 1 << 62, 512, b"x")
    asked: list[int] = []

    def read(offset: int, length: int) -> bytes:
        asked.append(length)
        return bytes(data[offset : offset + length])

    label = bytearray(lvm.encode_label(GROUP))
    at = label.index(lvm.AREA_SIZE.to_bytes(8, "little"))
    label[at : at + 8] = (1 << 62).to_bytes(8, "little")
    label[16:20] = lvm._crc(bytes(label[20:])).to_bytes(4, "little")
    data[lvm.LABEL_AT : lvm.LABEL_AT + 512] = label
    with pytest.raises(InputError, match="outside of its area"):
        lvm.decode(read)
    assert max(asked) == 512
