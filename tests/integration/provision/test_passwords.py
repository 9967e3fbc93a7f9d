"""Is what a password file holds the user's password, or its hash, and never something in between?"""

from pathlib import Path

import pytest

from builder.errors import InputError
from builder.provision.accounts import read_passwords
from builder.tools import Tools

HASHES = ("$6$salt$Hash./09azAZ", "$y$j9T$abc./$xyz", "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA")
PASSWORDS = ("$ecret-Passw0rd", "$a:b", "$pässwört", "$6$with a space", "$6$", "$1$two:fields", "p" * 256)


def hash_from(tools: Tools, folder: Path, text: str) -> str:
    path = folder / "password"
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return read_passwords([f"work:user:{path}"], {"work": ["user"]}, tools)["work"]["user"]


@pytest.mark.parametrize("text", HASHES)
def test_a_hash_is_taken_as_it_is(text: str, tools: Tools, tmp_path: Path) -> None:
    assert hash_from(tools, tmp_path, text) == text


@pytest.mark.parametrize("text", PASSWORDS)
def test_what_only_begins_like_a_hash_is_a_password(text: str, tools: Tools, tmp_path: Path) -> None:
    found = hash_from(tools, tmp_path, text)
    assert found.startswith("$6$")
    salt = found.split("$")[2]
    argv = ["openssl", "passwd", "-6", "-salt", salt, "-stdin"]
    assert tools.run(argv, stdin=f"{text}\n".encode()).text.strip() == found


def test_a_password_that_would_be_cut_off_is_refused(tools: Tools, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is longer than 256 bytes"):
        hash_from(tools, tmp_path, "p" * 257)
