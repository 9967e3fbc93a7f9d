"""How does an LVM2 physical volume look in bytes? Writes and reads label and metadata of one.

Layout (lvm2: lib/format_text/layout.h, lib/label/label.h): the label is in the second 512-byte sector, the
metadata area begins at 4096 and reaches to the first extent at 1 MiB: a header of one sector, then text.
"""

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import InputError
from builder.volume import lvmtext
from builder.volume.read import Read

SECTOR = 512
EXTENT = 4 << 20
FIRST_EXTENT = 1 << 20  # pe_start: of the physical volume
LABEL_AT = 512
AREA_AT = 4096
AREA_SIZE = FIRST_EXTENT - AREA_AT

_CRC_SEED = 0xF597A6CF  # INITIAL_CRC in lvm2's lib/misc/crc.h
_AREA_MAGIC = b" LVM2 x[5A%r0N*>"
_RAW_LOCATION = struct.Struct("<QQII")

# What lvm2's validate_name() and apply_lvname_restrictions() refuse (lib/misc/lvm-string.c)
_CHARACTERS = re.compile(r"[A-Za-z0-9+_.-]+")
_RESERVED_STARTS = ("snapshot", "pvmove")
_RESERVED_PARTS = (
    *("_cdata", "_cmeta", "_corig", "_cpool", "_cvol", "_wcorig", "_imeta", "_iorig", "_mimage", "_mlog"),
    *("_pmspare", "_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin"),
)
_LARGEST = 1 << 40  # extents or sectors of one disk
_LARGEST_AREA = 1 << 30  # bytes of metadata, which are read at once
_NAME_LENGTH = 127  # NAME_LEN - 1; also what device-mapper takes for VG and LV together


@dataclass(frozen=True)
class Segment:
    """A run of extents of the physical volume."""

    first: int
    count: int


@dataclass(frozen=True)
class LogicalVolume:
    name: str
    id: str
    segments: tuple[Segment, ...]
    tags: tuple[str, ...] = ()

    @property
    def extents(self) -> int:
        return sum(s.count for s in self.segments)


@dataclass(frozen=True)
class VolumeGroup:
    """A volume group on one physical volume of ``pv_size`` bytes."""

    name: str
    id: str
    pv_id: str
    pv_size: int
    volumes: tuple[LogicalVolume, ...]
    created: int = 0
    extent_size: int = EXTENT
    first_extent: int = FIRST_EXTENT
    seqno: int = 1

    @property
    def extents(self) -> int:
        return (self.pv_size - self.first_extent) // self.extent_size

    def offset(self, extent: int) -> int:
        """Byte offset of an extent within the physical volume."""
        return self.first_extent + extent * self.extent_size


@dataclass(frozen=True)
class Text:
    """A volume group's description in a metadata area; ``area`` of the physical volume, ``offset`` of it."""

    area: int
    area_size: int
    offset: int
    size: int
    text: str


def name_problem(name: str, *, group: str | None = None) -> str | None:
    """Why lvm2 would refuse ``name`` for a VG, or for an LV of ``group``; None where it takes it."""
    if not _CHARACTERS.fullmatch(name):
        return "lvm2 takes only letters, digits and + _ . - in names"
    if name.startswith("-"):
        return "lvm2 takes no name that starts with a hyphen"
    if name in (".", ".."):
        return "lvm2 takes neither . nor .. as a name"
    if group is None:
        return "lvm2 takes at most 127 characters" if len(name) > _NAME_LENGTH else None
    for start in _RESERVED_STARTS:
        if name.startswith(start):
            return f"lvm2 keeps names that start with {start!r} for itself"
    for part in _RESERVED_PARTS:
        if part in name:
            return f"lvm2 keeps names that contain {part!r} for itself"
    if len(mapper_name(group, name)) > _NAME_LENGTH:
        return f"the device-mapper name {mapper_name(group, name)} is longer than {_NAME_LENGTH} characters"
    return None


def mapper_name(group: str, volume: str) -> str:
    """The name below /dev/mapper: hyphens within a name are doubled."""
    return f"{group.replace('-', '--')}-{volume.replace('-', '--')}"


def encode_metadata(vg: VolumeGroup) -> bytes:
    """The metadata area, to be written at AREA_AT of the physical volume (before the label)."""
    text = lvmtext.dump(_document(vg)).encode() + b"\0"
    if len(text) > AREA_SIZE // 2 - SECTOR:
        raise ValueError("the volume group's description does not fit its metadata area")
    return (area_head(AREA_AT, AREA_SIZE, SECTOR, text) + text).ljust(AREA_SIZE, b"\0")


def area_head(area: int, size: int, at: int, text: bytes) -> bytes:
    """The first sector of a metadata area, which says where in it the text begins: what commits it."""
    head = _AREA_MAGIC + struct.pack("<IQQ", 1, area, size)
    head += _RAW_LOCATION.pack(at, len(text), _crc(text), 0)
    head = head.ljust(SECTOR - 4, b"\0")
    return struct.pack("<I", _crc(head)) + head


def encode_label(vg: VolumeGroup) -> bytes:
    """The sector at LABEL_AT: what makes the partition a physical volume."""
    body = struct.pack("<I", 32) + b"LVM2 001" + vg.pv_id.replace("-", "").encode()
    body += struct.pack("<Q", vg.pv_size)
    body += struct.pack("<QQQQ", vg.first_extent, 0, 0, 0)  # data areas
    body += struct.pack("<QQQQ", AREA_AT, AREA_SIZE, 0, 0)  # metadata areas
    body += struct.pack("<II", 2, 1) + struct.pack("<QQ", 0, 0)  # extension 2, "in use"; bootloader areas
    body = body.ljust(SECTOR - 20, b"\0")
    return b"LABELONE" + struct.pack("<QI", LABEL_AT // SECTOR, _crc(body)) + body


def decode(read: Read) -> VolumeGroup:
    """Read a physical volume through ``read(offset, length)``, offsets counted from its start.

    Raises InputError where it is none, is damaged, or has more than what Seatsmith makes or can map.
    """
    return _group(lvmtext.parse(locate_text(read).text), _read_label(read)[0])


def locate_text(read: Read) -> Text:
    """The group's description and where it lies. Raises InputError where there is none or more than one."""
    areas = _read_label(read)[1]
    if len(areas) > 1:
        raise InputError(f"the physical volume has {len(areas)} metadata areas; only one can be read here")
    return _read_text(read, *areas[0])


def _read_label(read: Read) -> tuple[str, list[tuple[int, int]]]:
    """Id of the physical volume, and its metadata areas (offset, size)."""
    label = read(LABEL_AT, SECTOR)
    if label[:8] != b"LABELONE" or label[24:32] != b"LVM2 001":
        raise InputError("this is not an LVM2 physical volume (no label in its second sector)")
    if struct.unpack_from("<I", label, 16)[0] != _crc(label[20:]):
        raise InputError("the physical volume's label is damaged (checksum)")
    areas = _area_list(label, struct.unpack_from("<I", label, 20)[0] + 40)  # behind PV id and device size
    if not areas:
        raise InputError("the physical volume has no metadata area")
    pv_id = label[32:64].decode("ascii", errors="replace")
    return pv_id, areas


def _area_list(label: bytes, at: int) -> list[tuple[int, int]]:
    """The metadata areas behind the data areas: both lists end with a zero entry."""
    lists: list[list[tuple[int, int]]] = [[], []]
    for found in lists:
        while at + 16 <= len(label):
            offset, size = struct.unpack_from("<QQ", label, at)
            at += 16
            if not offset:
                break
            found.append((offset, size))
    return lists[1]


def _read_text(read: Read, area: int, area_size: int) -> Text:
    if area > _LARGEST * SECTOR or area_size > _LARGEST_AREA:
        raise InputError("the LVM metadata area lies outside of every disk")
    head = read(area, SECTOR)
    if head[4:20] != _AREA_MAGIC or struct.unpack_from("<I", head)[0] != _crc(head[4:]):
        raise InputError("the LVM metadata area's header is damaged (checksum)")
    offset, size, crc, flags = _RAW_LOCATION.unpack_from(head, 40)
    if not offset or flags & 1:
        raise InputError("the physical volume belongs to no volume group")
    if size > area_size or offset > area_size:
        raise InputError("the LVM metadata lies outside of its area")
    first = min(size, area_size - offset)
    text = read(area + offset, first) + read(area + SECTOR, size - first)  # the area is a ring
    if _crc(text) != crc:
        raise InputError("the LVM metadata is damaged (checksum)")
    return Text(area, area_size, offset, size, text.rstrip(b"\0").decode(errors="replace"))


def _group(document: dict[str, Any], pv_id: str) -> VolumeGroup:
    try:
        name, vg = next((k, v) for k, v in document.items() if isinstance(v, dict))
        pvs = vg["physical_volumes"]
        own = next(key for key, pv in pvs.items() if pv["id"].replace("-", "") == pv_id)
        pv = pvs[own]
        volumes = []
        for lv_name, lv in vg.get("logical_volumes", {}).items():
            segments = []
            for n in range(_number(lv["segment_count"], least=1)):
                segment = lv[f"segment{n + 1}"]
                stripes = segment.get("stripes", [])
                if segment["type"] != "striped" or len(stripes) != 2 or stripes[0] != own:
                    raise InputError(f"logical volume {lv_name} is not a plain one on this disk")
                segments.append(Segment(_number(stripes[1]), _number(segment["extent_count"], least=1)))
            tags = tuple(map(str, lv.get("tags", ())))
            volumes.append(LogicalVolume(lv_name, _id(lv["id"]), tuple(segments), tags))
        return VolumeGroup(
            name=name,
            id=_id(vg["id"]),
            pv_id=_id(pv["id"]),
            pv_size=_number(pv["dev_size"]) * SECTOR,
            volumes=tuple(volumes),
            created=_number(document.get("creation_time", 0)),
            extent_size=_number(vg["extent_size"], least=1) * SECTOR,
            first_extent=_number(pv["pe_start"]) * SECTOR,
            seqno=_number(vg["seqno"]),
        )
    except (KeyError, StopIteration, TypeError, ValueError, AttributeError) as e:
        raise InputError(f"the LVM metadata lacks something: {e}") from None


def _number(value: object, *, least: int = 0) -> int:
    """A count of extents or sectors; of bytes, it still has to fit an offset. A disk may be anybody's."""
    if type(value) is not int or not least <= value <= _LARGEST:
        raise ValueError(f"{value!r} where a number belongs")
    return value


def _id(value: object) -> str:
    if not isinstance(value, str) or not _CHARACTERS.fullmatch(value):
        raise ValueError(f"{value!r} where an id belongs")
    return value


def _document(vg: VolumeGroup) -> dict[str, Any]:
    by, when = "seatsmith", vg.created
    volumes = {}
    for lv in vg.volumes:
        segments = segment_sections(lv.segments, "pv0")
        volumes[lv.name] = {
            "id": lv.id,
            "status": ["READ", "WRITE", "VISIBLE"],
            "flags": [],
            **({"tags": list(lv.tags)} if lv.tags else {}),
            "creation_time": when,
            "creation_host": by,
            "segment_count": len(lv.segments),
            **segments,
        }
    group: dict[str, Any] = {
        "id": vg.id,
        "seqno": vg.seqno,
        "format": "lvm2",
        "status": ["RESIZEABLE", "READ", "WRITE"],
        "flags": [],
        "extent_size": vg.extent_size // SECTOR,
        "max_lv": 0,
        "max_pv": 0,
        "metadata_copies": 0,
        "physical_volumes": {
            "pv0": {
                "id": vg.pv_id,
                "device": "/dev/disk/by-partlabel/seat",  # a hint only
                "status": ["ALLOCATABLE"],
                "flags": [],
                "dev_size": vg.pv_size // SECTOR,
                "pe_start": vg.first_extent // SECTOR,
                "pe_count": vg.extents,
            }
        },
    }
    if volumes:
        group["logical_volumes"] = volumes
    return {
        vg.name: group,
        "contents": "Text Format Volume Group",
        "version": 1,
        "description": "written by seatsmith",
        "creation_host": by,
        "creation_time": when,
    }


def segment_sections(segments: Sequence[Segment], pv: str) -> dict[str, Any]:
    """How a logical volume's extents are described: as stripes over one physical volume."""
    sections: dict[str, Any] = {}
    start = 0
    for n, segment in enumerate(segments, 1):
        sections[f"segment{n}"] = {
            "start_extent": start,
            "extent_count": segment.count,
            "type": "striped",
            "stripe_count": 1,
            "stripes": [pv, segment.first],
        }
        start += segment.count
    return sections


def _crc(data: bytes) -> int:
    """lvm2's CRC-32: the usual polynomial, its own start value and no final inversion."""
    return zlib.crc32(data, _CRC_SEED ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
