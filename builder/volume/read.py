"""How does whoever decodes a format ask for bytes of a disk, of a part of it, or of a file in its place?"""

from collections.abc import Callable

Read = Callable[[int, int], bytes]
"""Offset and length in bytes. The offset counts from the start of what is decoded: a disk, a partition, a
volume, a filesystem. Fewer bytes come back where it ends."""
