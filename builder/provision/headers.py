"""How is a LUKS2 header kept outside of the disk, so that a damaged one is not the end of the volume?

A header in the clear would let whoever finds it guess at passphrases for ever, also at ones long given up.
So it leaves the disk only encrypted, under a key made from a passphrase by scrypt, and bound to its volume.
"""

import base64
import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from builder.errors import InputError, MachineError, TrustError
from builder.provision.seatdisk import SeatDisk
from builder.volume import luks
from builder.volume.read import Read

MAGIC = b"SEATSMITH LUKS HEADER 1\n"
LARGEST = 64 << 20  # bytes of a backup; more is none
COST = 1 << 17  # scrypt's N with r = 8: 128 MiB
COSTS = (1 << 14, 1 << 20)  # accepted in a file


@dataclass(frozen=True)
class Sealed:
    """What a backup says about itself in the clear, and its encrypted content."""

    said: dict[str, Any]
    head: bytes
    box: bytes


def header_bytes(disk: SeatDisk, name: str) -> bytes:
    """A volume's header with all keyslots. Raises InputError where it is damaged."""
    return disk.volume_reader(name)(0, disk.whole_header(name).payload)


def seal(disk: SeatDisk, name: str, secret: bytearray) -> bytes:
    """The backup of a volume's header, encrypted for ``secret``."""
    data, salt, nonce = header_bytes(disk, name), os.urandom(16), os.urandom(12)
    header = disk.header(name)
    said = {
        "seat": disk.seat,
        "environment": name,
        "volume": disk.volume(name).id,
        "luks": header.uuid if header else "",
        "n": COST,
        "salt": base64.b64encode(salt).decode(),
        "nonce": base64.b64encode(nonce).decode(),
    }
    head = MAGIC + json.dumps(said, sort_keys=True).encode() + b"\n"
    return head + ChaCha20Poly1305(key_of(secret, salt, COST)).encrypt(nonce, data, head)


def parse(data: bytes) -> Sealed:
    """Raises InputError for what is no backup of ours."""
    try:
        line, box = data.removeprefix(MAGIC).split(b"\n", 1)
        said = json.loads(line)
        wrong = not data.startswith(MAGIC) or not COSTS[0] <= said["n"] <= COSTS[1]
        for field in ("volume", "environment", "luks", "salt", "nonce"):
            wrong = wrong or not isinstance(said[field], str)
    except (ValueError, KeyError, TypeError):
        wrong = True
    if wrong:
        raise InputError("this is no backup of a LUKS2 header by `seatsmith provision header-save`")
    return Sealed(said, data[: len(data) - len(box)], box)


def unseal(sealed: Sealed, secret: bytearray) -> bytes:
    """The header in a backup. Raises TrustError for another passphrase, or a changed file."""
    said = sealed.said
    try:
        salt, nonce = base64.b64decode(said["salt"]), base64.b64decode(said["nonce"])
        return ChaCha20Poly1305(key_of(secret, salt, said["n"])).decrypt(nonce, sealed.box, sealed.head)
    except (InvalidTag, ValueError) as e:
        raise TrustError(
            "the backup does not open",
            hint="give the passphrase of the time when it was saved, or the key that was shown then",
        ) from e


def key_of(secret: bytearray, salt: bytes, cost: int) -> bytes:
    """The backup's key, by scrypt (RFC 7914); ``cost`` is its N."""
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(bytes(secret))


def check_place(path: Path) -> None:
    """Raise InputError where ``save`` would, before anybody is asked for a passphrase."""
    if os.path.lexists(path):
        raise InputError(f"{path} is there already", hint="a backup is written to a new file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"there is no directory {path.absolute().parent}")


def save(path: Path, data: bytes) -> None:
    """Write a backup to a file that did not exist, for its owner alone."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise InputError(f"cannot make {path}: {e.strerror}") from e
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
    except OSError as e:
        with contextlib.suppress(OSError):
            path.unlink()
        raise MachineError(f"cannot write {path}: {e.strerror}") from e


def load(path: Path) -> Sealed:
    """The backup in a file. Raises InputError where it cannot be read or is none."""
    try:
        with path.open("rb") as f:
            data = f.read(LARGEST)
    except OSError as e:
        raise InputError(f"cannot read {path}: {e.strerror}") from e
    try:
        return parse(data)
    except InputError as e:
        raise InputError(f"{path}: {e.message}", hint=e.hint) from None


def restore(disk: SeatDisk, name: str, sealed: Sealed, secret: bytearray) -> None:
    """Put a header back. Raises TrustError where it belongs to another volume, or does not open."""
    volume, said = disk.volume(name), sealed.said
    if said["volume"] != volume.id:
        raise TrustError(
            f"the backup is of another volume, which was {said['environment']} then",
            hint=f"{name} was replaced since: a new volume has a new key, which no older header opens",
        )
    data = unseal(sealed, secret)
    if luks.read_header(reader(data)).payload != len(data):
        raise TrustError("the header in the backup is not whole")
    if volume.segments[0].count * disk.metadata.group.extent_size < len(data):
        raise InputError(f"volume {name} begins in several pieces")
    written = disk.medium.write(disk.offset(name), data)
    disk.medium.sync()
    if disk.medium.read(disk.offset(name), written.size) != data:
        raise MachineError(f"{disk.medium.path}: what was written to volume {name} reads back otherwise")


def reader(data: bytes) -> Read:
    return lambda offset, length: data[offset : offset + length]
