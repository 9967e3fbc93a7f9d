"""What does an ext4 inode tell beyond ext4read.Inode? Times of day, device numbers.

Layout: the kernel's Documentation/filesystems/ext4/ (inodes, attributes). Offsets named _AT count from the
inode's first byte.
"""

import struct

_MTIME_AT = 0x10  # i_mtime
_BLOCK_AT = 0x28  # i_block: of a device, its number in the old encoding and in the new one
_MTIME_EXTRA_AT = 0x88  # i_mtime_extra


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
