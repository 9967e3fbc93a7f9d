"""How does a TPM2 or a FIDO2 device come to open a volume? systemd-cryptenroll works on its header's copy.

The copy's changes then go to the disk in an order in which a power cut leaves one of LUKS2's two headers
whole at every moment: the keyslots area, the secondary header, the primary one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError, MachineError, TrustError
from builder.provision.headers import header_bytes
from builder.provision.seatdisk import SeatDisk
from builder.run import ProgramError
from builder.seat.secrets import read_file
from builder.tools import Tools
from builder.volume.keys import as_fd, wipe
from builder.volume.luks import SECOND_HEADER

KEYSLOTS_AT = 2 * SECOND_HEADER  # behind both headers, which are of one size (LUKS2 on-disk format, 2)
BLOCK = 4096
PATIENCE = 300  # seconds for a person to touch a token; whoever asks for a PIN that nobody hears, ends, too


@dataclass(frozen=True)
class Device:
    """What shall open the volume: systemd-cryptenroll's own words, and a PIN where one is wanted."""

    words: tuple[str, ...]
    pin: bytearray | None = None


def read_pin(file: str) -> bytearray:
    """The PIN in a file. Raises InputError for one that cannot be typed, or handed on: a PIN is text."""
    pin = read_file(file)
    try:
        pin.decode()
    except UnicodeDecodeError as e:
        wipe(pin)
        raise InputError(
            f"the PIN in {file} is not UTF-8 (its byte {e.start + 1})", hint="write the file anew, as UTF-8"
        ) from None
    return pin


def tpm2(device: str, *, pcrs: str, pin: bytearray | None) -> Device:
    """A TPM2 that gives the key only in the present state of ``pcrs``, and only for the PIN, if any."""
    words = [f"--tpm2-device={device}", f"--tpm2-pcrs={pcrs}"]
    return Device((*words, f"--tpm2-with-pin={'yes' if pin else 'no'}"), pin)


def fido2(device: str, *, pin: bytearray | None) -> Device:
    """A FIDO2 token, with its own PIN if it has one."""
    return Device((f"--fido2-device={device}",), pin)


def enroll(
    disk: SeatDisk, name: str, device: Device, passphrase: bytearray, *, tools: Tools, scratch: Path
) -> None:
    """Let the device open the volume, too. Raises TrustError for a wrong passphrase."""
    old = header_bytes(disk, name)
    copy = scratch / f"{name}.header"
    copy.write_bytes(old)
    run_enroll(copy, device.words, passphrase, tools=tools, pin=device.pin)
    write_changes(disk, name, old, copy.read_bytes())
    copy.unlink()


def run_enroll(
    header: Path, words: Sequence[str], passphrase: bytearray, *, tools: Tools, pin: bytearray | None = None
) -> None:
    """systemd-cryptenroll(1) on a header in a file; secrets go by file descriptor, and a PIN as it asks.

    Raises TrustError for a wrong passphrase, MachineError where the device refuses or nobody touches it.
    """
    with as_fd(passphrase) as fd:
        argv: list[str | Path] = ["systemd-cryptenroll", f"--unlock-key-file=/dev/fd/{fd}", *words, header]
        env = {"NEWPIN": pin.decode(), "PIN": pin.decode()} if pin else {}
        try:
            tools.run(argv, pass_fds=(fd,), env=env, timeout=PATIENCE)
        except ProgramError as e:
            if "No key available" in e.output or "not permitted" in e.output:
                raise TrustError("no keyslot opens with this passphrase") from None
            raise MachineError(
                f"the device was not enrolled:\n  {e.output.strip()}",
                hint="systemd-cryptenroll --tpm2-device=list, or --fido2-device=list, shows what there is",
            ) from e


def write_changes(disk: SeatDisk, name: str, old: bytes, new: bytes) -> None:
    """Bring a changed header to the disk. Raises MachineError where it then reads back otherwise."""
    if len(old) != len(new):
        raise InputError(f"the header of {name} has changed its size")
    base = disk.offset(name)
    for start, end in ((KEYSLOTS_AT, len(new)), (SECOND_HEADER, KEYSLOTS_AT), (0, SECOND_HEADER)):
        for at in range(start, end, BLOCK):
            if old[at : at + BLOCK] != new[at : at + BLOCK]:
                disk.medium.write(base + at, new[at : at + BLOCK])
        disk.medium.sync()
    if header_bytes(disk, name) != new:
        raise MachineError(f"{disk.medium.path}: the header of {name} reads back otherwise")
