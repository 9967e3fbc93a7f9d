"""What does an ext4 inode tell beyond ext4read.Inode? Extended attributes, times of day, device numbers.

Layout: the kernel's Documentation/filesystems/ext4/ (inodes, attributes). Offsets named _AT count from the
inode's first byte.
"""

import struct
from collections.abc import Callable

from builder.volume.ext4xattr import stored_in

_MTIME_AT = 0x10  # i_mtime
_BLOCK_AT = 0x28  # i_block: of a device, its number in the old encoding and in the new one
_MTIME_EXTRA_AT = 0x88  # i_mtime_extra

_PREFIXES = {1: "user.", 4: "trusted.", 6: "security.", 7: "system."}
_ACLS = {2: "system.posix_acl_access", 3: "system.posix_acl_default"}
_ACL_WITH_ID = (0x02, 0x08)  # ACL_USER, ACL_GROUP


def extended_attributes(raw: bytes, read_block: Callable[[int], bytes]) -> dict[str, bytes]:
    """Extended attributes of an inode, those in it and those in a block of its own (``read_block``).

    Raises InputError where they are damaged, or a value has an inode to itself (the feature ea_inode).
    """
    found = {}
    for prefix, name, value in stored_in(raw, read_block):
        if prefix in _ACLS:
            found[_ACLS[prefix]] = acl(value)
        elif prefix in _PREFIXES:
            found[_PREFIXES[prefix] + name.decode(errors="surrogateescape")] = value
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
