"""Where do a seat's passphrases come from? A prompt, a file descriptor, a file, a credential."""

import getpass
import os
import secrets
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from builder import ui
from builder.errors import InputError, UsageError
from builder.volume.keys import MODHEX, wipe

CREDENTIAL = "seatsmith.passphrase"  # in $CREDENTIALS_DIRECTORY; seatsmith.passphrase.NAME for one volume
LONGEST = 512  # cryptsetup's limit for a typed passphrase
SHORT = 12  # characters below which a person is warned


class Passphrases(dict[str, bytearray]):
    """Passphrases by environment, wiped on leaving a ``with`` block."""

    made_up = False
    """Whether nobody knows them yet, so that they must be told."""

    def __enter__(self) -> "Passphrases":
        return self

    def __exit__(self, *_: object) -> None:
        for secret in self.values():
            wipe(secret)


def obtain(
    names: Sequence[str],
    *,
    descriptors: Sequence[str] = (),
    files: Sequence[str] = (),
    separate: bool = False,
    present: Collection[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Passphrases | None:
    """A passphrase for each of ``names``; None where none was given and there is no terminal to ask at.

    ``descriptors`` and ``files`` are ``N`` and ``PATH`` for all, or ``NAME:N`` and ``NAME:PATH`` for one
    environment. Without any, credentials are looked for, then a person is asked: once for all, or for each
    (``separate``). Volumes that are ``present`` have a passphrase: it is asked for once, and no new one.
    """
    found = given(names, descriptors=descriptors, files=files, environment=environment)
    missing = [name for name in names if name not in found]
    if missing and (descriptors or files):
        raise UsageError(f"no passphrase was given for {', '.join(missing)}")
    if missing and not sys.stdin.isatty():
        return None
    if there := [name for name in missing if name in present]:
        found |= typed(there)
        missing = [name for name in missing if name not in present]
    if missing and separate:
        found |= {name: ask(f"the volume of {name}") for name in missing}
    elif missing:
        one = ask(f"the volumes of {' and '.join(missing)}")
        found |= {name: bytearray(one) for name in missing}
        wipe(one)
    return found


def given(
    names: Sequence[str],
    *,
    descriptors: Sequence[str] = (),
    files: Sequence[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Passphrases:
    """Those of ``names`` that descriptors, files or else credentials have a passphrase for."""
    found = Passphrases()
    for value in descriptors:
        take(found, names, value, read_descriptor)
    for value in files:
        take(found, names, value, read_file)
    if place := environment.get("CREDENTIALS_DIRECTORY"):
        for name in names:
            for candidate in (Path(place, f"{CREDENTIAL}.{name}"), Path(place, CREDENTIAL)):
                if name not in found and candidate.is_file():
                    found[name] = checked(bytearray(candidate.read_bytes()), str(candidate))
    return found


def may_be_had() -> bool:
    """Whether a passphrase can come without a descriptor or file: there is a credential, or a terminal."""
    return "CREDENTIALS_DIRECTORY" in os.environ or sys.stdin.isatty()


def for_reading(
    names: Sequence[str],
    *,
    descriptors: Sequence[str],
    files: Sequence[str],
    wanted: bool,
    environment: Mapping[str, str] = os.environ,
) -> Passphrases:
    """Passphrases of volumes that exist, perhaps of some of them alone.

    Without a descriptor or file nothing is looked for unless ``wanted``: then credentials are, or a person
    at the terminal is asked, once for all of them.
    """
    if not (wanted or descriptors or files):
        return Passphrases()
    found = given(names, descriptors=descriptors, files=files, environment=environment)
    if not found and names and sys.stdin.isatty():
        found |= typed(names)
    return found


def typed(names: Sequence[str]) -> dict[str, bytearray]:
    """The passphrase that volumes have, asked for at the terminal: once for all of them."""
    what = f"the volume{'s' if len(names) > 1 else ''} {' and '.join(names)}"
    said = getpass.getpass(f"Passphrase of {what}: ")
    return {name: checked(bytearray(said.encode()), "the terminal") for name in names}


def take(found: Passphrases, names: Sequence[str], value: str, read: Callable[[str], bytearray]) -> None:
    name, colon, rest = value.partition(":")
    if colon and name in names:
        found[name] = read(rest)
        return
    one = read(value)
    for other in names:
        found.setdefault(other, bytearray(one))
    wipe(one)


def read_descriptor(value: str) -> bytearray:
    if not value.isdigit():
        raise UsageError(f"not a file descriptor: {value!r}", hint="for example: --passphrase-fd 3 3<FILE")
    data = bytearray()
    try:
        while part := os.read(int(value), LONGEST * 4):
            data += part
    except OSError as e:
        raise UsageError(f"cannot read file descriptor {value}: {e.strerror}") from e
    return checked(data, f"file descriptor {value}")


def read_file(value: str) -> bytearray:
    """Only a file that nobody else can read is taken."""
    path = Path(value)
    try:
        mode = path.stat().st_mode
        if mode & 0o077:
            hint = f"run: chmod 600 {path}"
            raise InputError(f"others can read the passphrase in {path} (mode {mode & 0o777:o})", hint=hint)
        return checked(bytearray(path.read_bytes()), str(path))
    except OSError as e:
        raise InputError(f"cannot read the passphrase in {path}: {e.strerror}") from e


def checked(secret: bytearray, where: str) -> bytearray:
    """A passphrase without the line end behind it. Raises InputError for one that nobody could type."""
    if secret.endswith(b"\n"):
        del secret[-1]
    if not secret:
        raise InputError(f"the passphrase from {where} is empty")
    if len(secret) > LONGEST:
        raise InputError(f"the passphrase from {where} is longer than {LONGEST} bytes")
    if any(b < 0x20 or b == 0x7F for b in secret):
        raise InputError(
            f"the passphrase from {where} has control characters, which nobody can type at boot"
        )
    return secret


def ask(what: str) -> bytearray:
    """Ask twice at the terminal."""
    while True:
        first, second = (getpass.getpass(f"{p} passphrase for {what}: ") for p in ("New", "Repeat the"))
        if first != second:
            ui.current().warn("they differ; once more")
        elif not first:
            ui.current().warn("it is empty; once more")
        else:
            break
    if len(first) < SHORT:
        ui.current().warn(f"the passphrase is shorter than {SHORT} characters")
    if not first.isascii():
        ui.current().warn("the passphrase is not plain ASCII; the boot prompt may lack such keys")
    return checked(bytearray(first.encode()), "the terminal")


def made_up() -> bytearray:
    """A passphrase for a test seat: letters that are at the same place on every keyboard layout."""
    return bytearray("".join(secrets.choice(MODHEX) for _ in range(16)).encode())
