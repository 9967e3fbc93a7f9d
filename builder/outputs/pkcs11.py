"""How does a key sign that never leaves a PKCS#11 token (PIV card, HSM)? By gpg, through gnupg-pkcs11-scd.

SIGNING_KEY names it by a URI (RFC 7512): ``pkcs11:token=release;id=%01?module-path=/usr/lib/libykcs11.so``.
The module is a library of this machine, so the programs that load it are this machine's too.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from builder.errors import InputError, MachineError, UsageError
from builder.outputs.gpg import Keyring, own_home, temporary_keyring
from builder.run import Arg
from builder.tools import Tools

SCHEME = "pkcs11:"
HOST = Tools(None)
DAEMON = "usr/bin/gnupg-pkcs11-scd"
PARTS = ("manufacturer", "model", "serial", "token", "id")
"""What pkcs11-helper tells a key by (lib/pkcs11h-serialization.c), in its order, as RFC 7512 calls it."""
KEYPAIR = r"^S KEYPAIRINFO ([0-9A-F]{40}) ((?:[^\s/]*/){4}(?:[0-9A-F]{2})*)$"
SHAPE = f"{SCHEME}token=LABEL;id=%01?module-path=/usr/lib/….so"


@dataclass(frozen=True)
class TokenUri:
    module: Path
    wanted: Mapping[str, bytes]
    """What the key's PARTS have to be; any where one is not here."""

    def fits(self, key: "TokenKey") -> bool:
        return all(key.parts[name] == value for name, value in self.wanted.items())


@dataclass(frozen=True)
class TokenKey:
    """A key that a token shows: what gpg calls it, and what the daemon does."""

    grip: str
    name: str
    """As the daemon writes it: the parts, escaped, between slashes."""

    @property
    def parts(self) -> dict[str, bytes]:
        fields = [unescaped(part) for part in self.name.split("/")]
        return {**dict(zip(PARTS, fields, strict=True)), "id": bytes.fromhex(fields[-1].decode())}

    def __str__(self) -> str:
        said = {name: value.decode(errors="replace") for name, value in self.parts.items() if name != "id"}
        return f"token={said['token']};serial={said['serial']};id=%{self.parts['id'].hex('%')}"


def parse_uri(text: str) -> TokenUri:
    """Read a PKCS#11 URI. Raises UsageError for one that gpg could find no key by, or that holds a PIN."""
    path, _, query = text.removeprefix(SCHEME).partition("?")
    fields = [field.partition("=") for field in [*path.split(";"), *query.split("&")] if field]
    found = {name: unquote_to_bytes(value) for name, _, value in fields}
    if {"pin-value", "pin-source"} & found.keys():
        raise UsageError(
            "a PIN is no part of SIGNING_KEY, which others may read",
            hint="give it by SIGNING_PASSPHRASE=fd:N or SIGNING_PASSPHRASE=FILE",
        )
    module = found.pop("module-path", b"").decode(errors="replace")
    if not module.startswith("/") or not module.isprintable():
        raise UsageError("the PKCS#11 URI names no module by its full path", hint=f"it looks like {SHAPE}")
    found.pop("type", None)
    if unknown := sorted(found.keys() - set(PARTS)):
        raise UsageError(
            f"a key on a token cannot be found by {unknown[0]!r}", hint=f"name it by {', '.join(PARTS)}"
        )
    return TokenUri(Path(module), found)


@contextlib.contextmanager
def token_keyring(uri: TokenUri) -> Iterator[tuple[Keyring, str]]:
    """A keyring for the one key that ``uri`` names, and the fingerprint of its OpenPGP key.

    The OpenPGP key, which only the public part of is needed, is looked for in the user's own keyring.
    """
    if not (HOST.root or Path("/")).joinpath(DAEMON).exists():
        raise MachineError(
            f"/{DAEMON} is not installed, and gpg uses tokens by it",
            hint="run: sudo apt-get install gnupg gnupg-pkcs11-scd",
        )
    if not (HOST.root or Path("/")).joinpath(uri.module.relative_to("/")).exists():
        raise InputError(
            f"there is no PKCS#11 module {uri.module}", hint="it comes with the token's software"
        )
    with temporary_keyring(HOST) as ring:
        ring.home.joinpath("gpg-agent.conf").write_text(f"scdaemon-program /{DAEMON}\n")
        ring.home.joinpath("gnupg-pkcs11-scd.conf").write_text(
            f"providers token\nprovider-token-library {uri.module}\n"
        )
        key = the_key(uri, parse_learned(ask(ring, "SCD LEARN --force")))
        ask(ring, f"READKEY --card --no-data {key.name}")  # makes the stub that says where the key is
        public = Keyring(HOST, own_home(), agent=False).gpg(["--export"]).stdout
        if public:
            ring.gpg(["--import"], stdin=public)
        yield ring, openpgp_key(ring, key)


def ask(ring: Keyring, command: str) -> str:
    """What gpg's agent answers. Raises InputError where it is an error."""
    words: list[Arg] = ["gpg-connect-agent", "--homedir", ring.home, command, "/bye"]
    said = ring.tools.run(words, network=False, timeout=60)
    if "\nERR " in f"\n{said.text}" or "\nOK" not in f"\n{said.text}":
        answer = said.text + said.stderr.decode(errors="replace")
        raise InputError(
            f"the token does not answer {command.split()[0]}:\n{answer}",
            hint="is it plugged in, and does pkcs11-tool --module … --list-objects show it?",
        )
    return said.text


def parse_learned(text: str) -> list[TokenKey]:
    """The keys that the daemon's LEARN shows: those that have a certificate, by the same id."""
    return [TokenKey(*found) for found in re.findall(KEYPAIR, text, re.M)]


def unescaped(text: str) -> bytes:
    return re.sub(rb"\\x([0-9A-Fa-f]{2})", lambda m: bytes.fromhex(m[1].decode()), text.encode())


def the_key(uri: TokenUri, keys: list[TokenKey]) -> TokenKey:
    fitting = [key for key in keys if uri.fits(key)]
    if len(fitting) != 1:
        shown = "".join(f"\n  {key}" for key in fitting or keys) or " none"
        raise InputError(
            f"the PKCS#11 URI fits {len(fitting)} keys; {'these' if fitting else 'there'} are:{shown}",
            hint="only RSA keys that have a certificate with the same id are seen (docs/signing.md)",
        )
    return fitting[0]


def openpgp_key(ring: Keyring, key: TokenKey) -> str:
    """The fingerprint of the OpenPGP key whose secret part, or a subkey's, is this one."""
    listing = ring.gpg(["--with-colons", "--with-keygrip", "--list-keys"]).text
    primary, found, fresh = "", set[str](), False
    for fields in (line.split(":") for line in listing.splitlines()):
        if fields[0] == "pub":
            fresh = True
        elif fields[0] == "fpr" and fresh:
            primary, fresh = fields[9], False
        elif fields[0] == "grp" and fields[9] == key.grip:
            found.add(primary)
    if len(found) != 1:
        raise InputError(
            f"your gpg keyring has {len(found)} OpenPGP keys, not one, for the key {key}",
            hint="gpg --import its public key, or make one (docs/signing.md)",
        )
    return found.pop()
