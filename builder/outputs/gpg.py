"""How is gpg used without touching the user's keyring, and how does a secret key get in and out of it?

A secret key is imported through a pipe into a directory in memory that only we can read, and the agent that
holds it ends with it. Nothing secret is in an argument list, in the environment or in a log.
"""

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder import ui
from builder.errors import InputError, TrustError, UsageError
from builder.files import remove_tree
from builder.run import Arg, ProgramError, Result
from builder.tools import Tools

FINGERPRINT = re.compile(r"(0x)?([0-9A-F]{40}|[0-9A-F]{64})!?", re.IGNORECASE)
KEY_LIMIT = 1 << 20  # bytes of a key file


@dataclass(frozen=True)
class PublicKey:
    """A primary key, as ``gpg --show-keys`` describes it."""

    fingerprint: str
    user: str
    created: datetime | None
    expires: datetime | None
    expired: bool
    revoked: bool
    revoked_at: datetime | None

    def __str__(self) -> str:
        return f"{self.fingerprint} ({self.user})" if self.user else self.fingerprint


@dataclass(frozen=True)
class Keyring:
    """A gpg home directory with the keys that one operation needs."""

    tools: Tools
    home: Path
    agent: bool = True

    def gpg(self, argv: Sequence[Arg], *, stdin: bytes | None = None, check: bool = True) -> Result:
        # a home with an agent stays where it is: another one put there would find the first one's agent
        home, options = (self.home, []) if self.agent else self.tools.gnupg_home(self.home)
        words: list[Arg] = ["gpg", "--homedir", home, "--batch", "--no-tty"]
        words += [*([] if self.agent else ["--no-autostart"]), *argv]
        return self.tools.run(words, stdin=stdin, network=False, check=check, options=options)

    def secret_keys(self) -> list[str]:
        """Fingerprints of the primary keys whose secret part is here."""
        listing = self.gpg(["--with-colons", "--list-secret-keys"]).text
        return primary_fingerprints(listing, "sec")

    def public_keys(self) -> list[PublicKey]:
        listing = self.gpg(["--with-colons", "--with-sig-list", "--list-keys"]).text
        return parse_key_listing(listing)

    def export(self, fingerprint: str) -> bytes:
        """The public key, in the binary form that gpgv and systemd's import-pubring take."""
        options = ["--export-options", "export-minimal"]
        data = self.gpg([*options, "--export", fingerprint]).stdout
        if not data:
            raise InputError(f"there is no public key {fingerprint} in {self.home}")
        return data


@contextlib.contextmanager
def temporary_keyring(tools: Tools, *, secrets: bool = True) -> Iterator[Keyring]:
    """An empty gpg home, in memory where the machine allows that; its agent is ended and it is removed.

    Without ``secrets`` no agent is started.
    """
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    home = Path(tempfile.mkdtemp(prefix="seatsmith-gpg-", dir=place))  # mode 0700
    try:
        yield Keyring(tools, home, agent=secrets)
    finally:
        if secrets:
            with contextlib.suppress(ProgramError):
                tools.run(["gpgconf", "--homedir", home, "--kill", "all"], network=False, timeout=20)
        remove_tree(home)


@contextlib.contextmanager
def signing_keyring(tools: Tools, key: str) -> Iterator[tuple[Keyring, str]]:
    """The keyring with the secret key that ``key`` (SIGNING_KEY) names, and the fingerprint to sign with.

    ``key`` is the path of an exported secret key, ``fd:N`` for one to be read from an inherited file
    descriptor, or the fingerprint of a key of the user's own gpg agent (which may be on a smart card).
    """
    if FINGERPRINT.fullmatch(key):
        yield Keyring(tools, own_home()), key
        return
    data = read_secret(key)
    with temporary_keyring(tools) as ring:
        try:
            ring.gpg(["--import"], stdin=data)
        except ProgramError as e:
            raise InputError(
                f"the signing key ({secret_name(key)}) cannot be imported:\n{e.message}",
                hint="export it with: gpg --armor --export-secret-keys FINGERPRINT",
            ) from e
        found = ring.secret_keys()
        if len(found) != 1:
            raise InputError(
                f"the signing key ({secret_name(key)}) holds {len(found)} secret keys, not one",
                hint="export one with: gpg --armor --export-secret-keys FINGERPRINT",
            )
        yield ring, found[0]


def own_home() -> Path:
    """The user's own gpg home. Raises InputError where there is none."""
    home = Path(os.environ.get("GNUPGHOME") or Path.home() / ".gnupg")
    if not home.is_dir():
        raise InputError(f"SIGNING_KEY names a key of yours, but there is no gpg home {home}")
    return home


def read_secret(key: str) -> bytes:
    """The bytes that a SIGNING_KEY of the form ``PATH`` or ``fd:N`` stands for."""
    if key.startswith("fd:"):
        if not key[3:].isdecimal():
            raise UsageError(f"{key!r} is not fd:NUMBER")
        try:
            with os.fdopen(os.dup(int(key[3:])), "rb") as f:
                data = f.read(KEY_LIMIT + 1)
        except OSError as e:
            raise UsageError(
                f"cannot read the signing key from file descriptor {key[3:]}: {e.strerror}"
            ) from e
    else:
        try:
            with Path(key).expanduser().open("rb") as f:
                data = f.read(KEY_LIMIT + 1)
                warn_of_readers(f.fileno(), key)
        except OSError as e:
            shown = key if "\n" not in key and len(key) < 200 else "a value that is no path"
            raise InputError(
                f"cannot read the signing key {shown}: {e.strerror}",
                hint="SIGNING_KEY is an exported secret key's path, fd:N, a fingerprint or a pkcs11: URI",
            ) from e
    if not data or len(data) > KEY_LIMIT:
        raise InputError(f"the signing key ({secret_name(key)}) is empty or too large to be one")
    return data


def warn_of_readers(fd: int, key: str) -> None:
    """A pipe (as of `<(pass show …)`) is nobody else's; a file may be."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) and mode & 0o077:
        ui.current().warn(
            f"others can read the secret in {key} (mode {mode & 0o777:o}); run: chmod 600 {key}"
        )


def secret_name(key: str) -> str:
    return f"file descriptor {key[3:]}" if key.startswith("fd:") else Path(key).name


@contextlib.contextmanager
def trusted_keyring(tools: Tools, keys: Sequence[bytes]) -> Iterator[tuple[Keyring, Path]]:
    """A keyring of these key files' contents, and the one file that gpgv takes it as.

    They are imported, not just put side by side: where one file has a key and another its revocation, the
    key is revoked. Raises TrustError where a file holds no key.
    """
    with temporary_keyring(tools, secrets=False) as ring:
        for data in keys:
            if len(data) > KEY_LIMIT or ring.gpg(["--import"], stdin=data, check=False).returncode != 0:
                raise TrustError("a file given as public key holds no usable OpenPGP key")
        exported = ring.home / "trusted.gpg"
        exported.write_bytes(ring.gpg(["--export"]).stdout)
        yield ring, exported


def primary_fingerprints(listing: str, kind: str) -> list[str]:
    found, expecting = [], False
    for fields in (line.split(":") for line in listing.splitlines()):
        if fields[0] == kind:
            expecting = True
        elif fields[0] == "fpr" and expecting:
            found.append(fields[9])
            expecting = False
    return found


def parse_key_listing(listing: str) -> list[PublicKey]:
    """Read gpg's colon listing (GnuPG, doc/DETAILS): pub, fpr, uid and rev records, by primary key."""
    keys: list[PublicKey] = []
    block: dict[str, list[str]] = {}
    for fields in (line.split(":") for line in listing.splitlines()):
        if fields[0] == "pub":
            keys += key_of(block)
            block = {"pub": fields}
        elif fields[0] in ("fpr", "uid", "rev", "sub"):
            if fields[0] == "rev" and "sub" in block:
                continue  # a revoked subkey, not the key
            block.setdefault(fields[0], fields)
    return keys + key_of(block)


def key_of(block: dict[str, list[str]]) -> list[PublicKey]:
    if "pub" not in block or "fpr" not in block:
        return []
    pub = block["pub"]
    return [
        PublicKey(
            fingerprint=block["fpr"][9],
            user=block["uid"][9].replace("\\x3a", ":") if "uid" in block else "",
            created=when(pub[5]),
            expires=when(pub[6]),
            expired=pub[1] == "e",
            revoked=pub[1] == "r",
            revoked_at=when(block["rev"][5]) if "rev" in block else None,
        )
    ]


def when(seconds: str) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds.isdecimal() and int(seconds) else None
