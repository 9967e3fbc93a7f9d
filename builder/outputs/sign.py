"""Who vouches for a result? ``SHA256SUMS.gpg``, made by gpg and checked by gpgv against named keys.

gpgv ends with status 0 also for signatures by expired and revoked keys, so its exit status is not what is
believed here: its status lines are (GnuPG, doc/DETAILS, "Format of the --status-fd output").
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from builder import ui
from builder.errors import InputError, UsageError
from builder.files import atomic_path
from builder.outputs.checksums import SIGNATURE, SUMS
from builder.outputs.gpg import (
    FINGERPRINT,
    Keyring,
    read_secret,
    signing_keyring,
    trusted_keyring,
    when,
)
from builder.outputs.pkcs11 import SCHEME, parse_uri, token_keyring
from builder.run import Arg, ProgramError
from builder.tools import Tools, ensure_tools

SIGNATURE_LIMIT = 1 << 20  # bytes
KEY_SUFFIXES = (".asc", ".gpg", ".pgp")


class Verdict(StrEnum):
    """What is to be said about one signature."""

    GOOD = "good"
    BAD = "bad"  # made over something else
    UNKNOWN_KEY = "unknown key"
    EXPIRED_KEY = "expired key"
    REVOKED_KEY = "revoked key"
    EXPIRED_SIGNATURE = "expired signature"
    UNREADABLE = "not a signature"


@dataclass(frozen=True)
class Signature:
    """One signature as checked. ``fingerprint`` is the primary key's; empty where only a key id is known."""

    verdict: Verdict
    key_id: str = ""
    fingerprint: str = ""
    user: str = ""
    made: datetime | None = None
    key_expired: datetime | None = None
    key_revoked: datetime | None = None

    @property
    def good(self) -> bool:
        return self.verdict is Verdict.GOOD

    def __str__(self) -> str:
        key = f"{self.fingerprint or self.key_id}" + (f" ({self.user})" if self.user else "")
        made = f", made {day(self.made)}" if self.made else ""
        match self.verdict:
            case Verdict.GOOD:
                return f"signed by {key}{made}"
            case Verdict.BAD:
                return f"the signature by {key} does not fit the file: it has been changed"
            case Verdict.UNKNOWN_KEY:
                return f"signed by {key}{made}, which is not one of the trusted keys"
            case Verdict.EXPIRED_KEY:
                since = f" on {day(self.key_expired)}" if self.key_expired else ""
                return f"signed by {key}{made}, a key that expired{since}"
            case Verdict.REVOKED_KEY:
                since = f" on {day(self.key_revoked)}" if self.key_revoked else ""
                return f"signed by {key}{made}, a key that was revoked{since}"
            case Verdict.EXPIRED_SIGNATURE:
                return f"the signature by {key} has expired"
            case Verdict.UNREADABLE:
                return "there is no readable OpenPGP signature in it"


@dataclass(frozen=True)
class Signer:
    """A secret key that is ready to sign."""

    ring: Keyring
    fingerprint: str
    passphrase: bytes | None
    """None where the user's own agent asks for it."""
    once: bool = False
    """It is a token's PIN: a few wrong ones lock the token, so it is never given a second time."""

    def sign(self, data: Path, signature: Path) -> Signature:
        """Write the detached binary signature of ``data``; it is checked before it appears."""
        with atomic_path(signature) as made:
            words: list[Arg] = ["--digest-algo=SHA512", "--local-user", self.fingerprint, "--output", made]
            try:
                self.ring.gpg([*self.asking(), *words, "--detach-sign", data], stdin=self.passphrase)
            except ProgramError as e:
                raise InputError(
                    f"the signing key {self.fingerprint} cannot sign:\n{e.message}",
                    hint="is the PIN wrong? it was tried once, and a few wrong ones lock the token"
                    if self.once
                    else "is it expired or revoked, or is SIGNING_PASSPHRASE (FILE or fd:N) missing?",
                ) from e
            made.chmod(0o644)
            found = check_signature(data, made.read_bytes(), [self.public_key()], tools=self.ring.tools)
            if not found.good:
                raise InputError(f"the new signature is not usable: {found}")
            return found

    def asking(self) -> list[Arg]:
        """How gpg gets the passphrase from its standard input."""
        if self.passphrase is None:
            return []
        # --passphrase-fd answers each question with the same again, --command-fd with the next line
        return ["--pinentry-mode", "loopback", "--command-fd" if self.once else "--passphrase-fd", "0"]

    def public_key(self) -> bytes:
        return self.ring.export(self.fingerprint)


@contextlib.contextmanager
def open_signer(key: str, *, tools: Tools | None = None) -> Iterator[Signer]:
    """Make the key that ``key`` (SIGNING_KEY; gpg.signing_keyring tells its forms) names ready to sign.

    A passphrase, if the key has one, comes from SIGNING_PASSPHRASE: a path, or ``fd:N``; so does a PIN.
    """
    source = os.environ.get("SIGNING_PASSPHRASE", "")
    passphrase = read_secret(source).split(b"\n")[0] + b"\n" if source else b"\n"
    if key.startswith(SCHEME):
        uri = parse_uri(key)
        if not source:
            raise UsageError(
                "a key on a token needs its PIN", hint="SIGNING_PASSPHRASE=fd:N or SIGNING_PASSPHRASE=FILE"
            )
        with token_keyring(uri) as (ring, fingerprint):
            yield Signer(ring, fingerprint, passphrase, once=True)
        return
    with signing_keyring(tools or ensure_tools(), key) as (ring, fingerprint):
        own_agent = bool(FINGERPRINT.fullmatch(key)) and not source
        yield Signer(ring, fingerprint, None if own_agent else passphrase)


def sign_file(data: Path, signature: Path, key: str, *, tools: Tools | None = None) -> Signature:
    """Write the detached binary signature of ``data``. Raises InputError for a key that cannot sign."""
    with open_signer(key, tools=tools) as signer:
        return signer.sign(data, signature)


def sign_checksums(directory: Path, key: str | Signer, *, tools: Tools | None = None) -> Signature:
    """Sign a directory's SHA256SUMS; only that file is read, so the images need not be here."""
    sums = directory / SUMS
    if not sums.is_file():
        raise InputError(
            f"{directory} has no {SUMS} to sign", hint=f"build it: seatsmith image {directory.name}"
        )
    if isinstance(key, Signer):
        return key.sign(sums, directory / SIGNATURE)
    return sign_file(sums, directory / SIGNATURE, key, tools=tools)


def sign_or_warn(directory: Path, *, tools: Tools | None = None) -> Signature | None:
    """Sign a fresh result with the key that SIGNING_KEY names; without one, say that it is unsigned."""
    key = os.environ.get("SIGNING_KEY", "")
    if not key:
        ui.current().warn(
            f"{directory} is not signed: nobody can tell where it comes from (sign it: SIGNING_KEY=… "
            f"seatsmith sign {directory})"
        )
        return None
    signature = sign_checksums(directory, key, tools=tools)
    ui.current().say(f"  {directory}: {signature}")
    return signature


def check_signature(
    data: Path, signature: bytes, keys: Sequence[bytes], *, tools: Tools | None = None
) -> Signature:
    """Check the detached signature of ``data`` against key files' contents. Never raises for a bad one."""
    tools = tools or ensure_tools()
    if len(signature) > SIGNATURE_LIMIT:
        return Signature(Verdict.UNREADABLE)
    with trusted_keyring(tools, keys) as (ring, trusted):
        sig = ring.home / "signature"
        sig.write_bytes(signature)
        argv: list[Arg] = ["gpgv", "--homedir", ring.home, "--weak-digest", "SHA1", "--status-fd", "1"]
        words = [*argv, "--keyring", trusted, sig, data.absolute()]
        found = parse_status(tools.run(words, check=False, network=False).text)
        if found.verdict is Verdict.REVOKED_KEY:
            since = [k.revoked_at for k in ring.public_keys() if k.fingerprint == found.fingerprint]
            return replace(found, key_revoked=since[0] if since else None)
        return found


def parse_status(status: str) -> Signature:
    """What gpgv's status lines say. Exactly one signature, valid and by a key in good standing, is good."""
    lines = [line.split(" ") for line in status.splitlines() if line.startswith("[GNUPG:] ")]
    words = [(w[1], w[2:]) for w in lines if len(w) > 1]
    names = [name for name, _ in words]

    def first(name: str) -> list[str] | None:
        return next((rest for n, rest in words if n == name), None)

    if names.count("NEWSIG") > 1 or names.count("VALIDSIG") > 1:
        return Signature(Verdict.UNREADABLE)  # several: which of them would count?
    valid, expired = first("VALIDSIG"), first("KEYEXPIRED")
    if bad := first("BADSIG"):
        return Signature(Verdict.BAD, key_id=bad[0], user=" ".join(bad[1:]))
    if valid is None:
        return unverified(first("ERRSIG"))
    for name, verdict in (
        ("REVKEYSIG", Verdict.REVOKED_KEY),
        ("EXPKEYSIG", Verdict.EXPIRED_KEY),
        ("EXPSIG", Verdict.EXPIRED_SIGNATURE),
        ("GOODSIG", Verdict.GOOD),
    ):
        if rest := first(name):
            # VALIDSIG's tenth argument is the primary key, where a subkey made the signature
            return Signature(
                verdict,
                key_id=rest[0],
                fingerprint=valid[9] if len(valid) > 9 else valid[0],
                user=" ".join(rest[1:]),
                made=when(valid[2]),
                key_expired=when(expired[0]) if expired and verdict is Verdict.EXPIRED_KEY else None,
            )
    return Signature(Verdict.UNREADABLE)


def unverified(errsig: list[str] | None) -> Signature:
    """ERRSIG's arguments: key id, two algorithms, class, time, reason (9: no public key), fingerprint."""
    if errsig is None or len(errsig) < 6 or errsig[5] != "9":
        return Signature(Verdict.UNREADABLE)
    known = errsig[6] if len(errsig) > 6 and errsig[6] != "-" else ""
    return Signature(Verdict.UNKNOWN_KEY, key_id=errsig[0], fingerprint=known, made=when(errsig[4]))


def trusted_keys(places: Sequence[Path]) -> list[bytes]:
    """The contents of key files; a directory stands for every key file in it (docs/signing.md, rotation).

    Raises InputError where a place does not exist or holds no key file.
    """
    found: list[bytes] = []
    for place in places:
        if place.is_dir():
            files = sorted(p for p in place.iterdir() if p.suffix in KEY_SUFFIXES)
        elif place.is_file():
            files = [place]
        else:
            raise InputError(f"there is no key file {place}")
        found += [f.read_bytes() for f in files]
    if not found:
        raise InputError(
            f"no public key in {', '.join(map(str, places)) or 'any place'}",
            hint="name one with --key FILE, or gpg --armor --export the release keys into ci/keys/",
        )
    return found


def day(when: datetime | None) -> str:
    return when.strftime("%Y-%m-%d") if when else "?"
