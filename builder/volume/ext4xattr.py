"""How are extended attributes stored in ext4? In the inode behind its fields, and the rest in a block.

The layout is that of the kernel's Documentation/filesystems/ext4/attributes and fs/ext4/xattr.c. Names and
values are taken as they are stored: a name's beginning is a number, and an ACL is shorter than getxattr(2)
gives it. So what is read from one filesystem and stored in another is the same without being understood.
"""

import base64
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from builder.errors import InputError
from builder.volume.crc32c import crc32c

BLOCK = 4096
MAGIC = 0xEA020000
INDEX_SYSTEM, INDEX_SECURITY = 7, 6
RECORD = b"SEATSMITH.xattrs"  # of a pax header: what ``to_record`` makes

_ENTRY = struct.Struct("<BBHIII")  # name length, prefix, value offset, value inode, value size, hash
_BLOCK_HEADER = struct.Struct("<IIIII12x")  # magic, references, blocks, hash, checksum
_RECORDED = struct.Struct("<BBI")  # prefix, name length, value size
_ISIZE_AT = 0x80  # i_extra_isize: bytes of fields behind the first 128; attributes follow them
_FILE_ACL_AT, _FILE_ACL_HIGH_AT = 0x68, 0x76  # the block with extended attributes, in two parts
_END = 4  # bytes of zeros behind the last entry


class Extended(NamedTuple):
    """One attribute: the number of its prefix (EXT4_XATTR_INDEX_*), the rest of its name, its value."""

    prefix: int
    name: bytes
    value: bytes


def stored_in(raw: bytes, read_block: Callable[[int], bytes]) -> list[Extended]:
    """The attributes of an inode, those in it first, then those in a block of its own (``read_block``).

    Raises InputError where they are damaged, or a value has an inode to itself (the feature ea_inode).
    """
    found: list[Extended] = []
    extra = struct.unpack_from("<H", raw, _ISIZE_AT)[0] if len(raw) > _ISIZE_AT + 2 else 0
    start = _ISIZE_AT + extra
    if extra and start + 4 <= len(raw) and struct.unpack_from("<I", raw, start)[0] == MAGIC:
        found += parse(raw[start + 4 :], 0)
    if number := attribute_block(raw):
        block = read_block(number)
        if len(block) < _BLOCK_HEADER.size or struct.unpack_from("<I", block)[0] != MAGIC:
            raise InputError("the ext4 filesystem is damaged (extended attributes)")
        found += parse(block, _BLOCK_HEADER.size)
    if len({each[:2] for each in found}) < len(found):
        raise InputError("the ext4 filesystem is damaged (an extended attribute is there twice)")
    return found


def attribute_block(raw: bytes) -> int:
    """Number of the block with an inode's extended attributes; 0 where it has none."""
    low = struct.unpack_from("<I", raw, _FILE_ACL_AT)[0]
    return int(low | struct.unpack_from("<H", raw, _FILE_ACL_HIGH_AT)[0] << 32)


def parse(area: bytes, at: int) -> Iterator[Extended]:
    """Entries from byte ``at`` of an area, whose values' offsets count from its start."""
    while at + _ENTRY.size <= len(area) and area[at : at + _END] != bytes(_END):
        length, prefix, offset, inode, size, _ = _ENTRY.unpack_from(area, at)
        name = area[at + _ENTRY.size :][:length]
        value = area[offset : offset + size] if size else b""
        if inode or len(value) != size or len(name) != length:
            raise InputError(f"its extended attribute {name!r} is stored in a way that is not read here")
        if not (prefix == INDEX_SYSTEM and name == b"data"):  # that is a file's content
            yield Extended(prefix, name, value)
        at += rounded(_ENTRY.size + length)


def rounded(size: int) -> int:
    return -(-size // 4) * 4


def in_inode(extended: Sequence[Extended], size: int) -> tuple[bytes, Sequence[Extended]]:
    """The last ``size`` bytes of an inode with as many attributes as fit, and those that do not."""
    if not extended:  # as nearly all files
        return bytes(size), ()
    inside: list[Extended] = []
    rest: list[Extended] = []
    left = size - 4 - _END
    for each in extended:
        needed = rounded(_ENTRY.size + len(each.name)) + rounded(len(each.value))
        (inside if needed <= left else rest).append(each)
        left -= needed if needed <= left else 0
    if not inside:
        return bytes(size), rest
    return struct.pack("<I", MAGIC) + packed(inside, size - 4, 0)[0], rest


def in_block(extended: Sequence[Extended], number: int, seed: int) -> bytes:
    """A block with attributes, sorted as the kernel looks for them; its checksum covers its ``number``.

    Raises InputError where there are more than it holds.
    """
    ordered = sorted(extended, key=lambda each: (each.prefix, len(each.name), each.name))
    entries, hashes = packed(ordered, BLOCK, _BLOCK_HEADER.size)
    whole = 0
    for value in hashes:
        whole = (whole << 16 ^ whole >> 16 ^ value) & 0xFFFFFFFF
    header = [MAGIC, 1, 1, whole if all(hashes) else 0]
    unsummed = _BLOCK_HEADER.pack(*header, 0) + entries
    checksum = crc32c(number.to_bytes(8, "little") + unsummed, seed)
    return _BLOCK_HEADER.pack(*header, checksum) + entries


def packed(extended: Sequence[Extended], size: int, at: int) -> tuple[bytes, list[int]]:
    """Entries from byte ``at`` of an area of ``size``, values from its end; and the entries' hashes."""
    entries, values, hashes = b"", b"", []
    for prefix, name, value in extended:
        padded = value.ljust(rounded(len(value)), b"\0")
        values = padded + values
        hashes.append(hash_of(name, padded))
        place = size - len(values) if value else 0
        head = _ENTRY.pack(len(name), prefix, place, 0, len(value), hashes[-1])
        entries += (head + name).ljust(rounded(_ENTRY.size + len(name)), b"\0")
    if at + len(entries) + _END + len(values) > size:
        raise InputError("it has more, or longer, extended attributes than fit")
    return entries.ljust(size - at - len(values), b"\0") + values, hashes


def hash_of(name: bytes, padded: bytes) -> int:
    """What an entry says of itself (ext4_xattr_hash_entry)."""
    hashed = 0
    for byte in name:
        hashed = (hashed << 5 ^ hashed >> 27 ^ byte) & 0xFFFFFFFF
    for at in range(0, len(padded), 4):
        word = int.from_bytes(padded[at : at + 4], "little")
        hashed = (hashed << 16 ^ hashed >> 16 ^ word) & 0xFFFFFFFF
    return hashed


def to_record(extended: Sequence[Extended]) -> str:
    """Attributes as a text that a pax header may hold, whatever bytes names and values are made of."""
    parts = (_RECORDED.pack(e.prefix, len(e.name), len(e.value)) + e.name + e.value for e in extended)
    return base64.b64encode(b"".join(parts)).decode()


def from_record(record: bytes) -> tuple[Extended, ...]:
    """The attributes in such a text. Raises InputError for what is none."""
    found, at = [], 0
    try:
        data = base64.b64decode(record, validate=True)
        while at < len(data):
            prefix, length, size = _RECORDED.unpack_from(data, at)
            middle = at + _RECORDED.size + length
            found.append(Extended(prefix, data[middle - length : middle], data[middle : middle + size]))
            at = middle + size
        if at != len(data):
            raise ValueError
    except (ValueError, struct.error) as e:  # binascii.Error is a ValueError
        raise InputError("the tree has extended attributes that cannot be read") from e
    return tuple(found)
