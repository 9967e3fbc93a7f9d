"""How is a run of sectors encrypted fast? OpenSSL's AES-256-XTS, one call a sector, in place.

A LUKS2 payload with 4096-byte sectors and ``plain64``: the tweak of a sector is its offset in the payload
divided by 512 (dm-crypt without ``iv_large_sectors``), as a little-endian number of 16 bytes.

The ``cryptography`` package needs a new object for every sector, which takes ten times as long as the
encryption itself (measured: 0.35 against 5 GB/s). So we call the OpenSSL that Python is linked to ourselves,
after comparing a sector of each direction with what ``cryptography`` gives; where there is none,
``cryptography`` does it all.
"""

import contextlib
import ctypes
import ctypes.util
import mmap
from collections.abc import Callable
from ctypes import c_int, c_uint64, c_void_p

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SECTOR = 4096
KEY_SIZE = 64  # AES-256 twice

_Tweak = c_uint64.__ctype_le__ * 2  # a number of 16 bytes
Buffer = bytearray | mmap.mmap
Crypt = Callable[[Buffer, int, int], None]  # buffer, bytes of it, offset in the payload


class Sectors:
    """En- and decrypts runs of whole sectors, in place, under one volume key."""

    def __init__(self, key: bytes | bytearray, *, native: bool = True) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError(f"a volume key has {KEY_SIZE} bytes, not {len(key)}")
        self.encrypt: Crypt = _slow(key, encrypt=True)
        self.decrypt: Crypt = _slow(key, encrypt=False)
        if native:
            with contextlib.suppress(OSError, AttributeError):
                fast = _Native(key, encrypt=True), _Native(key, encrypt=False)
                if _agree(self.encrypt, fast[0]) and _agree(self.decrypt, fast[1]):
                    self.encrypt, self.decrypt = fast


def tweak(offset: int) -> bytes:
    return (offset // 512).to_bytes(16, "little")


def _agree(one: Crypt, other: Crypt) -> bool:
    """Whether both make the same of two sectors at an odd place."""
    left, right = bytearray(range(256)) * 32, bytearray(range(256)) * 32
    one(left, len(left), 5 << 40)
    other(right, len(right), 5 << 40)
    return left == right


def _slow(key: bytes | bytearray, *, encrypt: bool) -> Crypt:
    algorithm = algorithms.AES(bytes(key))

    def crypt(buffer: Buffer, size: int, offset: int) -> None:
        for at in range(0, size, SECTOR):
            cipher = Cipher(algorithm, modes.XTS(tweak(offset + at)))
            step = cipher.encryptor() if encrypt else cipher.decryptor()
            buffer[at : at + SECTOR] = step.update(bytes(buffer[at : at + SECTOR]))

    return crypt


class _Native:
    """One EVP context (OpenSSL 3); only the tweak is set anew for each sector.

    A sector takes OpenSSL less time than ctypes takes for a call. So nothing is converted that can be kept,
    and the interpreter's lock is not given up in between (PyDLL).
    """

    def __init__(self, key: bytes | bytearray, *, encrypt: bool) -> None:
        lib = ctypes.PyDLL(ctypes.util.find_library("crypto") or "libcrypto.so.3")
        lib.EVP_CIPHER_CTX_new.restype = c_void_p
        lib.EVP_aes_256_xts.restype = c_void_p
        self._lib = lib
        self._context = c_void_p(lib.EVP_CIPHER_CTX_new())
        aes = c_void_p(lib.EVP_aes_256_xts())
        if lib.EVP_CipherInit_ex(self._context, aes, None, bytes(key), bytes(16), int(encrypt)) != 1:
            raise OSError("libcrypto does not take the key")

    def __call__(self, buffer: Buffer, size: int, offset: int) -> None:
        start = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        init, update, context = self._lib.EVP_CipherInit_ex, self._lib.EVP_CipherUpdate, self._context
        place, done, tweak, same = c_void_p(), ctypes.byref(c_int()), _Tweak(), c_int(-1)
        number, length = offset // 512, c_int(SECTOR)
        for at in range(start, start + size, SECTOR):
            place.value, tweak[0] = at, number
            if (
                init(context, None, None, None, tweak, same) != 1
                or update(context, place, done, place, length) != 1
            ):
                raise OSError(5, "libcrypto failed to encrypt")
            number += SECTOR // 512

    def __del__(self) -> None:
        if context := getattr(self, "_context", None):
            self._lib.EVP_CIPHER_CTX_free(context)  # zeroes the key schedule
