"""How does a LUKS2 header come to be, and how is it read? Made by cryptsetup, parsed by us."""

import hashlib
import json
import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from builder.errors import InputError, TrustError
from builder.run import ProgramError
from builder.tools import Tools
from builder.volume.cipher import KEY_SIZE, SECTOR
from builder.volume.keys import as_fd, wipe
from builder.volume.read import Read

HEADER_SIZE = 16 << 20  # cryptsetup's default data offset; the payload follows
LARGEST_HEADER = 256 << 20  # cryptsetup's limits: two copies of 4 MiB and 128 MiB of keyslots
RECOVERY_SLOT, KEYFILE_SLOT = 1, 2
CIPHER = "aes-xts-plain64"
MAGIC, SECOND_MAGIC = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
SECOND_HEADER = 0x4000  # where the copy is when each JSON area has 12 KiB, cryptsetup's default

_BINARY = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")


class Pbkdf(StrEnum):
    """How expensive guessing a passphrase is. ``fast-test`` is for tests alone; provisioning refuses it."""

    BENCHMARK = "benchmark"
    FAST_TEST = "fast-test"


_WEAK_MEMORY = 65536  # KiB; a benchmarked argon2id takes more on anything with 256 MiB of memory
_RANDOM_PBKDF, _RANDOM_COST = "pbkdf2", 1000  # for random keys, where stretching gains nothing
_CHEAP = ["--pbkdf-force-iterations", "4", "--pbkdf-memory", str(_WEAK_MEMORY), "--pbkdf-parallel", "1"]
COSTS = {
    Pbkdf.BENCHMARK: ["--pbkdf", "argon2id"],
    Pbkdf.FAST_TEST: ["--pbkdf", "argon2id", *_CHEAP],
}


@dataclass(frozen=True)
class Keyslot:
    number: int
    pbkdf: str
    cost: int
    """Time cost of argon2, iterations of pbkdf2."""
    memory: int
    """In KiB."""
    token: str | None
    """What keeps its key, as far as the header says so: ``systemd-recovery``, ``systemd-tpm2`` …"""

    @property
    def random(self) -> bool:
        """Whether its key is a random one, which nobody guesses: systemd's, or that of our key files."""
        keyfile = (self.number, self.pbkdf, self.cost) == (KEYFILE_SLOT, _RANDOM_PBKDF, _RANDOM_COST)
        return keyfile or (self.token or "").startswith("systemd-")

    @property
    def weak(self) -> bool:
        return not self.random and (self.pbkdf != "argon2id" or self.memory <= _WEAK_MEMORY)


@dataclass(frozen=True)
class Header:
    """What a LUKS2 header says of its volume."""

    uuid: str
    label: str
    cipher: str
    sector: int
    payload: int
    """Byte offset of the payload from the header's start."""
    keyslots: tuple[Keyslot, ...]
    tokens: tuple[str, ...]


def make_header(
    tools: Tools,
    scratch: Path,
    *,
    uuid: str,
    label: str,
    key: bytearray,
    passphrase: bytearray,
    pbkdf: Pbkdf,
    recovery: bytearray | None = None,
    keyfile: bytearray | None = None,
) -> bytes:
    """The first HEADER_SIZE bytes of a volume whose volume key is ``key``; ``scratch`` is a file to be made.

    Keys and passphrases go to cryptsetup by file descriptor. ``recovery`` and ``keyfile`` get keyslots of
    their own; both are random.
    """
    with scratch.open("wb") as f:
        f.truncate(HEADER_SIZE + (2 << 20))  # cryptsetup wants room for a payload
    try:
        with as_fd(key) as key_fd, as_fd(passphrase) as fd:
            argv: list[str | Path] = ["cryptsetup", "luksFormat", "-q", "--type", "luks2"]
            argv += ["--cipher", CIPHER, "--key-size", str(KEY_SIZE * 8), "--sector-size", str(SECTOR)]
            argv += ["--uuid", uuid, "--label", label, *COSTS[pbkdf], "--key-file", f"/dev/fd/{fd}"]
            argv += ["--volume-key-file", f"/dev/fd/{key_fd}", scratch]
            tools.run(argv, pass_fds=(fd, key_fd))
        if recovery is not None:
            _add_random(tools, scratch, passphrase, recovery, slot=RECOVERY_SLOT)
            token = {"type": "systemd-recovery", "keyslots": [str(RECOVERY_SLOT)]}
            argv = ["cryptsetup", "token", "import", "--json-file", "-", "--token-id", "0", scratch]
            tools.run(argv, stdin=json.dumps(token).encode())
        if keyfile is not None:
            _add_random(tools, scratch, passphrase, keyfile, slot=KEYFILE_SLOT)
        with scratch.open("rb") as f:
            return f.read(HEADER_SIZE)
    finally:
        scratch.unlink(missing_ok=True)


def _add_random(tools: Tools, file: Path, passphrase: bytearray, new: bytearray, *, slot: int) -> None:
    with as_fd(passphrase) as old_fd, as_fd(new) as new_fd:
        argv: list[str | Path] = ["cryptsetup", "luksAddKey", "-q", "--key-file", f"/dev/fd/{old_fd}"]
        argv += ["--new-key-slot", str(slot), "--pbkdf", _RANDOM_PBKDF, "--hash", "sha512"]
        argv += ["--pbkdf-force-iterations", str(_RANDOM_COST), file, f"/dev/fd/{new_fd}"]
        tools.run(argv, pass_fds=(old_fd, new_fd))


def read_header(read: Read) -> Header:
    """Parse the header through ``read(offset, length)``; both copies are checked.

    Raises InputError saying what is wrong.
    """
    first = _read_copy(read, 0, MAGIC, "first")
    second = _read_copy(read, SECOND_HEADER, SECOND_MAGIC, "second")
    if first[1] != second[1]:
        raise InputError("the two copies of the LUKS2 header differ")
    binary, text = first
    try:
        data = json.loads(text)
        segment = data["segments"]["0"]
        tokens = {s: str(t["type"]) for t in data["tokens"].values() for s in t["keyslots"]}
        slots = [_slot(n, s, tokens.get(n)) for n, s in sorted(data["keyslots"].items())]
        return Header(
            uuid=binary[7].rstrip(b"\0").decode(),
            label=binary[4].rstrip(b"\0").decode(),
            cipher=str(segment["encryption"]),
            sector=int(segment["sector_size"]),
            payload=_payload(segment["offset"]),
            keyslots=tuple(slots),
            tokens=tuple(str(t["type"]) for t in data["tokens"].values()),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise InputError(f"the LUKS2 header's description cannot be read: {e!r}") from None


def traces(read: Read) -> bool:
    """Whether one of the two copies of a header still begins as one."""
    return read(0, len(MAGIC)) == MAGIC or read(SECOND_HEADER, len(SECOND_MAGIC)) == SECOND_MAGIC


def _payload(text: str) -> int:
    """Where the payload begins. A disk may be anybody's, and all before it is read into memory at once."""
    if not 0 < (offset := int(text)) <= LARGEST_HEADER:
        raise ValueError(f"the payload at byte {offset}")
    return offset


def _slot(number: str, slot: dict[str, Any], token: str | None) -> Keyslot:
    kdf = slot["kdf"]
    cost = kdf["time"] if "time" in kdf else kdf["iterations"]
    return Keyslot(int(number), str(kdf["type"]), int(cost), int(kdf.get("memory", 0)), token)


def _read_copy(read: Read, at: int, magic: bytes, which: str) -> tuple[tuple[Any, ...], str]:
    raw = read(at, 4096)
    if len(raw) < 4096 or raw[:6] != magic:
        raise InputError(f"this is not a LUKS2 volume ({which} header missing)")
    fields = _BINARY.unpack_from(raw)
    version, size, algorithm, checksum = fields[1], fields[2], fields[5].rstrip(b"\0"), fields[11]
    if version != 2 or not 0x4000 <= size <= 0x400000:
        raise InputError(f"the {which} LUKS header is of version {version}, size {size}; only LUKS2 is read")
    if algorithm != b"sha256":
        raise InputError(
            f"the {which} LUKS2 header has a checksum of kind {algorithm!r}; only sha256 is read"
        )
    whole = read(at, size)
    digest = hashlib.sha256(whole[:448] + bytes(64) + whole[512:]).digest()
    if digest != checksum[:32]:
        raise InputError(f"the {which} LUKS2 header is damaged (checksum)")
    return fields, whole[4096:].split(b"\0")[0].decode(errors="replace")


def unlock(tools: Tools, header: Path, passphrase: bytearray) -> bytearray:
    """The volume key of the header in a file, as cryptsetup finds it. The caller wipes it.

    Raises TrustError where no keyslot takes the passphrase.
    """
    argv = ["cryptsetup", "luksDump", "-q", "--dump-volume-key", "--key-file"]
    with as_fd(passphrase) as fd:
        try:
            result = tools.run([*argv, f"/dev/fd/{fd}", header], pass_fds=(fd,))
        except ProgramError as e:
            if e.returncode == 2:  # cryptsetup(8), RETURN CODES: no permission (bad passphrase)
                raise TrustError("no keyslot opens with this passphrase") from None
            raise
    match = re.search(rb"(?:MK|Volume Key) dump:\s*((?:[0-9a-f]{2}\s*)+)", result.stdout, re.IGNORECASE)
    if not match:
        raise InputError("cryptsetup gave no volume key")
    key = bytearray.fromhex(match[1].decode())
    if len(key) != KEY_SIZE:
        wipe(key)
        raise InputError(f"the volume key has {len(key)} bytes; only {KEY_SIZE} (AES-256-XTS) is read")
    return key
