"""Where may a passphrase come from, and which ones are refused?"""

import os
import re
from pathlib import Path

import pytest

from builder.errors import InputError, SeatsmithError, UsageError
from builder.seat.secrets import CREDENTIAL, Passphrases, ask, for_reading, made_up, obtain
from builder.volume.keys import MODHEX

NAMES = ("work", "private")


def pipe_with(data: bytes) -> str:
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return str(reader)


def secret_file(path: Path, data: bytes, mode: int = 0o600) -> str:
    path.write_bytes(data)
    path.chmod(mode)
    return str(path)


def plain(found: Passphrases | None) -> dict[str, bytes]:
    assert found is not None
    return {name: bytes(secret) for name, secret in found.items()}


def test_one_descriptor_serves_all_volumes_and_loses_its_line_end() -> None:
    found = obtain(NAMES, descriptors=[pipe_with(b"correct horse\n")], environment={})
    assert plain(found) == {"work": b"correct horse", "private": b"correct horse"}


def test_each_volume_can_have_its_own_source(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "a", b"of the file")
    found = obtain(
        NAMES, descriptors=[f"work:{pipe_with(b'of the pipe')}"], files=[f"private:{path}"], environment={}
    )
    assert plain(found) == {"work": b"of the pipe", "private": b"of the file"}


def test_credentials_of_systemd_are_found_the_more_special_one_first(tmp_path: Path) -> None:
    secret_file(tmp_path / CREDENTIAL, b"for all\n")
    secret_file(tmp_path / f"{CREDENTIAL}.work", b"for work\n")
    found = obtain(NAMES, environment={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert plain(found) == {"work": b"for work", "private": b"for all"}


def test_passphrases_are_wiped_when_they_are_no_longer_needed() -> None:
    with Passphrases(work=bytearray(b"correct horse")) as found:
        secret = found["work"]
    assert secret == bytearray(13)


def test_without_a_source_and_a_terminal_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert obtain(NAMES, environment={}) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"x" * 513, "longer than 512 bytes"),
        (b"two\nlines\n", "control characters"),
        (b"a\x7fb", "control characters"),
    ],
)
def test_a_passphrase_that_nobody_could_type_is_refused(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        obtain(NAMES, descriptors=[pipe_with(data)], environment={})
    with pytest.raises(InputError, match=message):
        obtain(NAMES, files=[secret_file(tmp_path / "f", data)], environment={})


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    path = secret_file(tmp_path / "f", b"correct horse", mode)
    with pytest.raises(InputError, match="others can read") as caught:
        obtain(NAMES, files=[path], environment={})
    assert caught.value.hint == f"run: chmod 600 {path}"


@pytest.mark.parametrize(
    ("descriptors", "files", "error"),
    [
        (["correct horse"], [], UsageError),
        (["99"], [], UsageError),
        ([], ["/nonexistent"], InputError),
        (["work:99"], [], UsageError),
    ],
)
def test_a_wrong_source_is_named(
    descriptors: list[str], files: list[str], error: type[SeatsmithError]
) -> None:
    with pytest.raises(error, match=r"descriptor|cannot read"):
        obtain(NAMES, descriptors=descriptors, files=files, environment={})


def test_a_volume_that_was_forgotten_is_named() -> None:
    with pytest.raises(UsageError, match="no passphrase was given for private"):
        obtain(NAMES, descriptors=[f"work:{pipe_with(b'x')}"], environment={})


def test_a_person_is_asked_until_both_answers_agree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["correct horse", "wrong horse", "", "", "correct horse", "correct horse"])
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return next(answers)

    monkeypatch.setattr("getpass.getpass", answer)
    assert ask("the volumes of work and private") == bytearray(b"correct horse")
    assert "work and private" in prompts[0]
    told = capsys.readouterr().err
    assert "they differ; once more" in told
    assert "it is empty; once more" in told
    assert "correct horse" not in told


def test_a_volume_can_be_read_without_the_passphrases_of_the_others(tmp_path: Path) -> None:
    file = secret_file(tmp_path / "a", b"of the file")
    one = for_reading(NAMES, descriptors=[], files=[f"work:{file}"], wanted=True, environment={})
    assert plain(one) == {"work": b"of the file"}
    secret_file(tmp_path / CREDENTIAL, b"for all")
    places = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    found = for_reading(NAMES, descriptors=[], files=[], wanted=True, environment=places)
    assert plain(found) == {"work": b"for all", "private": b"for all"}
    assert for_reading(NAMES, descriptors=[], files=[], wanted=False, environment=places) == {}


def test_a_person_who_reads_volumes_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return "correct horse"

    monkeypatch.setattr("getpass.getpass", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    found = for_reading(NAMES, descriptors=[], files=[], wanted=True, environment={})
    assert plain(found) == {"work": b"correct horse", "private": b"correct horse"}
    assert prompts == ["Passphrase of the volumes work and private: "]


def test_a_made_up_passphrase_can_be_typed_on_every_layout() -> None:
    assert re.fullmatch(f"[{MODHEX}]{{16}}", made_up().decode())
    assert made_up() != made_up()


def test_a_passphrase_that_volumes_have_is_asked_for_once_and_no_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = []

    def typed(question: str) -> str:
        said.append(question)
        return "a new passphrase" if "passphrase for" in question else "short"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", typed)
    found = obtain(["private", "work"], present=["private"], environment={})
    assert found == {"private": b"short", "work": b"a new passphrase"}
    assert said == [
        "Passphrase of the volume private: ",
        "New passphrase for the volumes of work: ",
        "Repeat the passphrase for the volumes of work: ",
    ]
