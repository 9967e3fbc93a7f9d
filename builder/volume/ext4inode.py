"""What does an ext4 inode tell beyond ext4read.Inode? Extended attributes, times of day, device numbers.

Layout: the kernel's Documentation/filesystems/ext4/ (inodes, attributes). Offsets named _AT count from the
inode's first byte.
"""

import struct
from collections.abc import Callable

from builder.errors import InputError

_MTIME_AT = 0x10  # i_mtime
_BLOCK_AT = 0x28  # i_block: of a device, its number in the old encoding and in the new one
_FILE_ACL_AT, _FILE_ACL_HIGH_AT = 0x68, 0x76  # the block with extended attributes, in two parts
_ISIZE_AT = 0x80  # i_extra_isize: bytes of fields behind the first 128; attributes follow them
_MTIME_EXTRA_AT = 0x88  # i_mtime_extra

_XATTR_MAGIC = 0xEA020000
_XATTR_BLOCK_HEADER = 32  # bytes of struct ext4_xattr_header
_XATTR_ENTRY = struct.Struct("<BBHIII")  # name length, prefix, value offset, value inode, value size, hash
_PREFIXES = {1: "user.", 4: "trusted.", 6: "security.", 7: "system."}
_ACLS = {2: "system.posix_acl_access", 3: "system.posix_acl_default"}
_ACL_WITH_ID = (0x02, 0x08)  # ACL_USER, ACL_GROUP


def extended_attributes(raw: bytes, read_block: Callable[[int], bytes]) -> dict[str, bytes]:
    """Extended attributes of an inode, those in it and those in a block of its own (``read_block``).

    Raises InputError where they are damaged, or a value has an inode to itself (the feature ea_inode).
    """
    found: dict[str, bytes] = {}
    extra = struct.unpack_from("<H", raw, _ISIZE_AT)[0] if len(raw) > _ISIZE_AT + 2 else 0
    start = _ISIZE_AT + extra
    if extra and start + 4 <= len(raw) and struct.unpack_from("<I", raw, start)[0] == _XATTR_MAGIC:
        found |= parse_attributes(raw[start + 4 :], 0)
    if number := attribute_block(raw):
        block = read_block(number)
        if struct.unpack_from("<I", block)[0] != _XATTR_MAGIC:
            raise InputError("the ext4 filesystem is damaged (extended attributes)")
        found |= parse_attributes(block, _XATTR_BLOCK_HEADER)
    return found


def attribute_block(raw: bytes) -> int:
    """Number of the block with an inode's extended attributes; 0 where it has none."""
    low, high = (
        struct.unpack_from("<I", raw, _FILE_ACL_AT)[0],
        struct.unpack_from("<H", raw, _FILE_ACL_HIGH_AT)[0],
    )
    return int(low | high << 32)


def parse_attributes(area: bytes, at: int) -> dict[str, bytes]:
    """Entries from byte ``at`` of an area, whose values' offsets count from its start."""
    found = {}
    while at + _XATTR_ENTRY.size <= len(area) and area[at : at + 4] != bytes(4):
        length, prefix, offset, inode, size, _ = _XATTR_ENTRY.unpack_from(area, at)
        name = area[at + _XATTR_ENTRY.size :][:length].decode(errors="surrogateescape")
        value = area[offset : offset + size]
        if inode or len(value) != size:
            raise InputError(f"extended attribute {name!r} is stored in a way that is not read here")
        if prefix in _ACLS:
            found[_ACLS[prefix]] = acl(value)
        elif prefix in _PREFIXES and not (prefix == 7 and name == "data"):  # "data" is a file's content
            found[_PREFIXES[prefix] + name] = value
        at += -(-(_XATTR_ENTRY.size + length) // 4) * 4
    return found


def acl(stored: bytes) -> bytes:
    """An ACL as getxattr(2) gives it, from ext4's shorter form (fs/ext4/acl.h)."""
    out, at = struct.pack("<I", 2), 4
    while at + 4 <= len(stored):
        tag, permissions = struct.unpack_from("<HH", stored, at)
        at += 4
        owner = 0xFFFFFFFF
        if tag in _ACL_WITH_ID:
            owner = struct.unpack_from("<I", stored, at)[0]
            at += 4
        out += struct.pack("<HHI", tag, permissions, owner)
    return out


def modified(raw: bytes) -> tuple[int, int]:
    """Seconds and nanoseconds of the last change; two bits of the extra field are seconds beyond 2038."""
    seconds = struct.unpack_from("<i", raw, _MTIME_AT)[0]
    if len(raw) < _MTIME_EXTRA_AT + 4:
        return seconds, 0
    extra = struct.unpack_from("<I", raw, _MTIME_EXTRA_AT)[0]
    return seconds + ((extra & 3) << 32), extra >> 2


def device_number(raw: bytes) -> tuple[int, int]:
    """Major and minor number of a device (linux/kdev_t.h: old_decode_dev, new_decode_dev)."""
    old, new = struct.unpack_from("<II", raw, _BLOCK_AT)
    if old:
        return old >> 8 & 0xFF, old & 0xFF
    return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00
