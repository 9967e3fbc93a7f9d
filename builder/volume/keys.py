"""How do secrets live and die? In memory only, handed to programs by file descriptor, wiped after use."""

import contextlib
import os
from collections.abc import Iterator

from builder.volume.cipher import KEY_SIZE

MODHEX = "cbdefghijklnrtuv"  # the same keys on every layout, as systemd's recovery keys use them


@contextlib.contextmanager
def volume_key() -> Iterator[bytearray]:
    """A new volume key from the kernel's generator, zeroed on leaving."""
    key = bytearray(os.urandom(KEY_SIZE))
    try:
        yield key
    finally:
        wipe(key)


def wipe(secret: bytearray) -> None:
    secret[:] = bytes(len(secret))


@contextlib.contextmanager
def as_fd(secret: bytearray | bytes) -> Iterator[int]:
    """A memfd that holds the secret, to be named /dev/fd/N to a program; zeroed and closed on leaving."""
    fd = os.memfd_create("secret", os.MFD_CLOEXEC)
    try:
        os.write(fd, secret)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.pwrite(fd, bytes(len(secret)), 0)
        os.close(fd)


def recovery_key() -> bytearray:
    """256 random bits as systemd-cryptenroll writes them: eight groups of eight modhex letters."""
    letters = "".join(MODHEX[b >> 4] + MODHEX[b & 15] for b in os.urandom(32))
    return bytearray("-".join(letters[i : i + 8] for i in range(0, 64, 8)).encode())
