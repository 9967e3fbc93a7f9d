"""Which OpenPGP keys do the tests sign with? Real ones, made on the spot by gpg and gone with the test."""

from dataclasses import dataclass
from pathlib import Path

from builder.outputs.gpg import Keyring

LONG_AGO = "20200101T000000"


@dataclass(frozen=True)
class TestKey:
    """A key pair as files: what SIGNING_KEY and --key are given."""

    __test__ = False

    fingerprint: str
    secret: Path
    public: Path


class KeyMaker:
    """Makes keys in one gpg home and exports them below ``place``."""

    def __init__(self, ring: Keyring, place: Path) -> None:
        self.ring, self.place = ring, place
        self.names: set[str] = set()

    def unused(self, name: str) -> str:
        """The name, with a number behind it where another test has made a key of that name."""
        found = next(n for n in (name, *(f"{name}{i}" for i in range(2, 100))) if n not in self.names)
        self.names.add(found)
        return found

    def __call__(self, name: str, *, passphrase: str = "", expires: str = "never") -> TestKey:
        """A new key; ``expires`` as for gpg's --quick-generate-key."""
        name = self.unused(name)
        self.gpg(
            ["--quick-generate-key", f"{name} <{name}@example.org>", "ed25519", "sign", expires], passphrase
        )
        return self.export(name, passphrase)

    def made_in_2020(self, name: str) -> TestKey:
        """A key that was valid for one day of 2020."""
        name = self.unused(name)
        then = ["--faked-system-time", LONG_AGO]
        made = f"{name} <{name}@example.org>"
        self.gpg([*then, "--quick-generate-key", made, "ed25519", "sign", "seconds=86400"])
        return self.export(name)

    def revoked(self, key: TestKey) -> bytes:
        """The public key with its revocation, as a maintainer publishes it after a leak."""
        certificate = next(self.ring.home.glob(f"openpgp-revocs.d/{key.fingerprint}.rev")).read_text()
        self.gpg(["--import"], stdin=certificate.replace(":-----BEGIN", "-----BEGIN").encode())
        return self.gpg(["--export", key.fingerprint])

    def sign_in_2020(self, key: TestKey, data: Path, signature: Path) -> None:
        """Sign as on the day when a key of ``made_in_2020`` was valid."""
        signature.unlink(missing_ok=True)
        then = ["--faked-system-time", "20200101T120000", "--local-user", key.fingerprint]
        self.gpg([*then, "--output", str(signature), "--detach-sign", str(data)])

    def export(self, name: str, passphrase: str = "") -> TestKey:
        address = f"={name} <{name}@example.org>"
        listing = self.gpg(["--with-colons", "--list-keys", address]).decode()
        fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
        secret, public = self.place / f"{name}.secret.asc", self.place / f"{name}.gpg"
        secret.write_bytes(self.gpg(["--armor", "--export-secret-keys", fingerprint], passphrase))
        secret.chmod(0o600)
        public.write_bytes(self.gpg(["--export", fingerprint]))
        return TestKey(fingerprint, secret, public)

    def gpg(self, argv: list[str], passphrase: str = "", stdin: bytes | None = None) -> bytes:
        words = ["--pinentry-mode", "loopback", "--passphrase", passphrase, *argv]
        return self.ring.gpg(words, stdin=stdin).stdout
