"""Which extended attributes does getxattr(2) find in an ext4 inode?"""

import struct
from collections.abc import Callable

from builder.volume.ext4xattr import stored_in

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
