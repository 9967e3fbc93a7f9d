"""Does a key that never leaves its token sign, by SoftHSM2 in the token's place? (make test-registry)"""

import datetime
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from builder.errors import InputError
from builder.outputs import pkcs11
from builder.outputs.gpg import temporary_keyring
from builder.outputs.sign import sign_checksums
from builder.outputs.verify import verify_directory
from builder.project import cache_home
from builder.run import Arg, Result
from builder.tools import Tools, build_tree
from tests.support.results import write_result

pytestmark = [pytest.mark.tools, pytest.mark.registry]

PACKAGES = ("gnupg", "gpgv", "gnupg-pkcs11-scd", "softhsm2", "opensc")
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "402357"
URI = f"pkcs11:token=release;id=%01?module-path={MODULE}"


@dataclass(frozen=True)
class TokenMachine(Tools):
    """A machine with a token in it: a small Debian, whose programs run like those of the tools tree."""

    tree: Tools
    settings: Path
    started: list[str] = field(default_factory=list)
    """Arguments and environment of all programs."""

    @property
    def python_path(self) -> Path:
        return self.tree.python_path

    def command(
        self, argv: Sequence[Arg], *, network: bool = True, options: Sequence[Arg] = ()
    ) -> list[str]:
        token: list[Arg] = ["--ro-bind", self.settings, "/etc/softhsm/softhsm2.conf"]
        return super().command(argv, network=network, options=[*token, *options])

    def run(self, argv: Sequence[Arg], *, env: Mapping[str, str] | None = None, **how: Any) -> Result:
        self.started.append(f"{[*map(str, argv)]} {env}")
        return super().run(argv, env=env, **how)


@pytest.fixture(scope="module")
def machine(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> TokenMachine:
    root = cache_home() / "pkcs11-for-tests"
    if not root.is_dir():
        build_tree(root, PACKAGES, "a machine with SoftHSM2")
        (root / "etc/hosts").touch()  # so that this machine's can be laid over it
    place = tmp_path_factory.mktemp("token")
    (place / "tokens").mkdir()
    (place / "softhsm2.conf").write_text(f"directories.tokendir = {place / 'tokens'}\n")
    return TokenMachine(root, tools, place / "softhsm2.conf")


@pytest.fixture(scope="module")
def token(machine: TokenMachine, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A token with an RSA key and, as gnupg-pkcs11-scd wants it, a certificate by the same id."""
    place = tmp_path_factory.mktemp("made")
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "release")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    ).sign(key, hashes.SHA256())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (place / "key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    (place / "cert").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    util = ["softhsm2-util", "--module", MODULE, "--pin", PIN]
    machine.run([*util, "--init-token", "--free", "--label", "release", "--so-pin", "90817263"])
    named = ["--token", "release", "--label", "release", "--id", "01"]
    machine.run([*util, "--import", place / "key", *named])
    tool = ["pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN]
    machine.run([*tool, "--write-object", place / "cert", "--type", "cert", "--id", "01"])


@pytest.fixture(scope="module")
def public(machine: TokenMachine, token: None) -> bytes:
    """The OpenPGP key made around the token's, in the way that docs/signing.md tells."""
    with temporary_keyring(machine) as ring:
        (ring.home / "gpg-agent.conf").write_text(f"scdaemon-program /{pkcs11.DAEMON}\n")
        (ring.home / "gnupg-pkcs11-scd.conf").write_text(
            f"providers token\nprovider-token-library {MODULE}\n"
        )
        ring.gpg(["--card-status"])
        learned = machine.run(["gpg-connect-agent", "--homedir", ring.home, "SCD LEARN --force", "/bye"])
        (key,) = pkcs11.parse_learned(learned.text)
        (ring.home / "wanted").write_text(
            f"Key-Type: RSA\nKey-Grip: {key.grip}\nKey-Usage: sign\nName-Real: Release\nExpire-Date: 1d\n"
        )
        how = ["--pinentry-mode", "loopback", "--command-fd", "0"]
        ring.gpg([*how, "--full-generate-key", ring.home / "wanted"], stdin=f"{PIN}\n".encode())
        return ring.gpg(["--export"]).stdout


@pytest.fixture
def signing(
    machine: TokenMachine, public: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A result to be signed on the machine with the token, by somebody who has the public key."""
    monkeypatch.setattr(pkcs11, "HOST", machine)
    with temporary_keyring(machine) as own:
        own.gpg(["--import"], stdin=public)
        monkeypatch.setenv("GNUPGHOME", str(own.home))
        write_result(tmp_path / "work")
        machine.started.clear()
        yield tmp_path / "work"


def pin(monkeypatch: pytest.MonkeyPatch, digits: str) -> None:
    """Give a PIN by a file descriptor."""
    reading, writing = os.pipe()
    os.write(writing, f"{digits}\n".encode())
    os.close(writing)
    monkeypatch.setenv("SIGNING_PASSPHRASE", f"fd:{reading}")


def test_a_result_is_signed_by_a_key_on_a_token_and_its_pin_is_shown_to_nobody(
    signing: Path, machine: TokenMachine, public: bytes, monkeypatch: pytest.MonkeyPatch, tools: Tools
) -> None:
    pin(monkeypatch, PIN)
    assert sign_checksums(signing, URI).good
    verify_directory(signing, keys=[public], tools=tools).raise_for_problems()
    assert machine.started
    assert PIN not in "".join(machine.started)


def test_a_wrong_pin_is_tried_once_and_nothing_is_signed(
    signing: Path, machine: TokenMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pin(monkeypatch, "111111")
    with pytest.raises(InputError, match="cannot sign") as refused:
        sign_checksums(signing, URI)
    assert "PIN" in str(refused.value.hint)
    assert not (signing / "SHA256SUMS.gpg").exists()


def test_a_token_that_is_not_there_and_a_key_nobody_knows_are_said(
    signing: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pin(monkeypatch, PIN)
    with pytest.raises(InputError, match=r"fits 0 keys; there are:\n  token=release;serial=\w+;id=%01"):
        sign_checksums(signing, URI.replace("token=release", "token=other"))
    (tmp_path / "empty").mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(tmp_path / "empty"))
    pin(monkeypatch, PIN)
    with pytest.raises(InputError, match="has 0 OpenPGP keys, not one, for the key token=release"):
        sign_checksums(signing, URI)
