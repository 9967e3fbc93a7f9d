"""Who signs the stand-in? A key made on this machine, trusted for nothing else."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import ToolError
from builder.files import atomic_path
from builder.tools import Tools

# gpg's unattended key generation: an expiry would end a mirror that is kept for long, so there is none
KEY_PARAMETERS = """\
%no-protection
Key-Type: eddsa
Key-Curve: ed25519
Key-Usage: sign
Name-Real: Seatsmith stand-in
Name-Email: standin@example.invalid
Expire-Date: 0
%commit
"""


@dataclass(frozen=True)
class SigningKey:
    """A secret key in a GnuPG home of its own."""

    home: Path
    fingerprint: str

    @property
    def public(self) -> Path:
        """The public key as binary OpenPGP, as keyrings take it."""
        return public_key_of(self.home)

    def gpg(self, tools: Tools) -> list[str]:
        """Start of a gpg command line that signs with this key and asks nothing."""
        return [
            "gpg",
            "--homedir",
            str(tools.gnupg_home(self.home)[0]),
            "--batch",
            "--no-tty",
            "--yes",
            "--local-user",
            self.fingerprint,
        ]


def public_key_of(home: Path) -> Path:
    """Where the public key of the key below ``home`` is, once that has been made."""
    return home / "public.pgp"


def ensure_key(home: Path, tools: Tools, *, parameters: str = KEY_PARAMETERS) -> SigningKey:
    """The key below ``home``, made first where there is none. Raises ToolError where gpg cannot make one."""
    if not (home / "fingerprint").is_file():
        with atomic_path(home) as made:
            make_key(made, tools, parameters)
    return SigningKey(home, (home / "fingerprint").read_text().strip())


def make_key(home: Path, tools: Tools, parameters: str) -> None:
    home.mkdir(mode=0o700)
    place, options = tools.gnupg_home(home)
    with agent(home, tools):
        gpg = ["gpg", "--homedir", str(place), "--batch", "--no-tty"]
        tools.run([*gpg, "--quiet", "--generate-key"], stdin=parameters.encode(), options=options)
        listing = tools.run([*gpg, "--with-colons", "--list-secret-keys"], options=options).text
        found = [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")]
        if not found:
            raise ToolError("gpg made no key", hint="is there room below ~/.cache?")
        tools.run([*gpg, "--output", place / "public.pgp", "--export", found[0]], options=options)
    (home / "fingerprint").write_text(found[0] + "\n")


@contextlib.contextmanager
def agent(home: Path, tools: Tools) -> Iterator[None]:
    """End the agent that gpg starts for ``home`` when leaving."""
    try:
        yield
    finally:
        place, options = tools.gnupg_home(home)
        tools.run(["gpgconf", "--homedir", place, "--kill", "all"], options=options, check=False)


def sign_files(key: SigningKey, tools: Tools, files: Sequence[Path]) -> None:
    """Write a detached binary signature FILE.sig beside each file, two at a time."""
    names = b"\0".join(os.fsencode(path) for path in files)
    with agent(key.home, tools):
        tools.run(
            ["xargs", "-0", "-n", "1", "-P", "2", *key.gpg(tools), "--quiet", "--detach-sign"],
            stdin=names,
            options=tools.gnupg_home(key.home)[1],
        )
