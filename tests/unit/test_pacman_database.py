"""Are pacman's databases read exactly, and damaged or misleading ones refused with one line?"""

import base64
import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.distro.arch import not_installable
from builder.distro.base import UnknownPackages
from builder.distro.pacman import MAX_DESC, near_names, pacman_conf, read_database, refused
from builder.errors import InputError, MachineError, TrustError
from builder.run import ProgramError, Result

DIGEST = "ab" * 32
FIELDS = {
    "FILENAME": "bash-1:5.2.037-1-x86_64.pkg.tar.zst",
    "NAME": "bash",
    "VERSION": "1:5.2.037-1",
    "CSIZE": "1900000",
    "SHA256SUM": DIGEST,
    "PGPSIG": base64.b64encode(b"signature").decode(),
    "DEPENDS": "glibc\nreadline",
}


def desc(**changes: str | None) -> str:
    fields = {k: v for k, v in (FIELDS | changes).items() if v is not None}
    return "".join(f"%{key}%\n{value}\n\n" for key, value in fields.items())


def database(*texts: str | bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n, text in enumerate(texts):
            directory = tarfile.TarInfo(f"p{n}")
            directory.type = tarfile.DIRTYPE
            tar.addfile(directory)
            data = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(f"p{n}/desc")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_every_compression_that_repo_add_knows_is_read(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "core.db"
    path.write_bytes(pack(database(desc(), desc(NAME="zlib", PGPSIG=None))))
    found = read_database(path)
    assert set(found) == {"bash", "zlib"}
    bash = found["bash"]
    assert (bash.repository, bash.version, bash.filename) == ("core", "1:5.2.037-1", FIELDS["FILENAME"])
    assert (bash.size, bash.sha256, bash.signature) == (1900000, DIGEST, b"signature")
    assert found["zlib"].signature == b""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"FILENAME": "../../etc/passwd"}, "'../../etc/passwd'"),
        ({"FILENAME": "a/b.pkg"}, "'a/b.pkg'"),
        ({"FILENAME": ".hidden"}, "'.hidden'"),
        ({"FILENAME": "-option"}, "'-option'"),
        ({"FILENAME": None}, "'FILENAME' is missing"),
        ({"NAME": "ba sh"}, "'ba sh'"),
        ({"NAME": ""}, "''"),
        ({"VERSION": "1\x1b[31m"}, "'1"),
        ({"CSIZE": "-1"}, "size -1"),
        ({"CSIZE": "lots"}, "invalid literal"),
        ({"CSIZE": "9" * 30}, "cannot be"),
        ({"SHA256SUM": "short"}, "digest 'short'"),
        ({"SHA256SUM": None}, "'SHA256SUM' is missing"),
        ({"PGPSIG": "?"}, "."),
    ],
)
def test_an_entry_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, str | None], said: str
) -> None:
    path = tmp_path / "core.db"
    path.write_bytes(database(desc(**changes)))
    if changes == {"PGPSIG": "?"}:  # base64 skips what it does not know, and the signature then fails
        assert read_database(path)["bash"].signature == b""
        return
    with pytest.raises(InputError, match=r"package database core\.db is damaged: ") as caught:
        read_database(path)
    assert said in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"not a tar",
        database(desc())[:700],
        gzip.compress(database(desc()), mtime=0)[:-20],
        zstandard.compress(database(desc()))[:-20],
        lzma.compress(database(desc()))[:-20],
        b"\x28\xb5\x2f\xfdrubbish",
        database(b"%NAME%\n\xff\xfe\n"),
        zstandard.compress(database(b"x" * (MAX_DESC + 1))),
    ],
)
def test_a_damaged_database_is_refused_or_shorter(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "core.db"
    path.write_bytes(data)
    try:
        assert set(read_database(path)) <= {"bash"}  # where no more than the end is missing
    except InputError as e:
        assert e.message.startswith("package database core.db is damaged: ")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10**6), patch=st.binary(min_size=1, max_size=4), packed=st.integers(0, 3))
def test_any_damage_is_an_error_of_ours_or_none(
    tmp_path: Path, position: int, patch: bytes, packed: int
) -> None:
    data = (bytes, gzip.compress, zstandard.compress, lzma.compress)[packed](
        database(desc(), desc(NAME="b"))
    )
    position %= len(data)
    path = tmp_path / "core.db"
    path.write_bytes(data[:position] + patch + data[position + len(patch) :])
    try:
        read_database(path)
    except InputError as e:
        assert "\n" not in e.message


def failed(text: str) -> ProgramError:
    return ProgramError(["pacman"], 1, text)


URLS = {"core": "http://one/core", "own": "http://two/own"}


def test_pacmans_answers_are_told_once_as_what_they_are() -> None:
    bad = 'error: own: signature from "X <x@y>" is unknown trust\n' * 3
    error = refused(failed(bad), "cannot read the package databases", URLS)
    assert isinstance(error, TrustError)
    assert error.message.count("unknown trust") == 1
    gone = "error: failed retrieving file 'own.db' from two : The requested URL returned error: 404"
    error = refused(failed(gone), "cannot read the package databases", URLS)
    assert isinstance(error, MachineError)
    assert error.hint == "is http://two/own right, and does it answer?"
    error = refused(failed(gone.replace(".db'", ".db.sig'")), "cannot read", URLS)
    assert isinstance(error, TrustError)
    assert error.message == "the database of repository own is not signed"


def test_unknown_names_and_conflicts_are_told_apart() -> None:
    unknown = not_installable(Result(1, b"", b"error: target not found: bsh\n", 0), {"bash", "zsh"})
    assert isinstance(unknown, UnknownPackages)
    assert unknown.answers == {"bsh": "pacman: no package is called 'bsh'; did you mean bash, zsh?"}
    said = b":: a and b are in conflict\n"
    conflict = not_installable(Result(1, said, b"error: unresolvable package conflicts\n", 0), set())
    assert not isinstance(conflict, UnknownPackages)
    assert "pacman: :: a and b are in conflict" in conflict.message


def test_near_names_are_given_where_there_are_any() -> None:
    assert near_names("pulsaudio", {"pulseaudio", "bash"}) == "; did you mean pulseaudio?"
    assert near_names("qqq", {"pulseaudio", "bash"}) == ""


def test_repositories_keep_their_order_and_levels_in_pacmans_settings() -> None:
    text = pacman_conf(
        {"own": "http://two/own", "core": "file:///nowhere"},
        levels={"own": "Required DatabaseOptional", "core": "Required"},
        gpgdir=Path("/keys"),
        docs=False,
    )
    assert text.index("[own]\nSigLevel = Required DatabaseOptional\n") < text.index(
        "[core]\nSigLevel = Required\n"
    )
    assert "SigLevel = Required\n" in text.split("[own]")[0]
    assert "NoExtract = usr/share/man/*" in text
    assert "GPGDir = /keys" in text
