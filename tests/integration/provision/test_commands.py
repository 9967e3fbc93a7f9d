"""seatsmith provision, as a person or a script runs it: what it asks, refuses, shows and survives."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder.__main__ import run_cli
from builder.cli.provision_apply import busy
from builder.errors import ExitCode
from builder.outputs.release import mark_test_release
from builder.outputs.sign import sign_checksums
from builder.project import find_project
from builder.provision.identity import identify
from builder.provision.replace import replace_environment
from tests.support.faults import CutAfter, PowerCut
from tests.support.gpgkeys import KeyMaker
from tests.support.provisioned import Bench
from tests.support.tinyseat import DISK_SIZE, PASSPHRASE, put_image

Run = Callable[..., int]
UNASKED = ("--yes", "--expect-serial", "disk")


@pytest.fixture
def place(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("SEATSMITH_ROOT", os.fspath(bench.project.root))
    monkeypatch.delenv("SEATSMITH_DIST", raising=False)
    secret = bench.disk.with_name("passphrase")
    secret.write_bytes(PASSPHRASE)
    secret.chmod(0o600)
    return bench


def trusted(bench: Bench) -> list[str]:
    secret = bench.disk.with_name("passphrase")
    return ["--key", os.fspath(bench.key.public), "--passphrase-file", os.fspath(secret)]


def provision(bench: Bench, *words: str) -> int:
    return run_cli(["provision", *words, "--disk", os.fspath(bench.disk)])


def digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def empty(bench: Bench) -> None:
    with bench.disk.open("r+b") as f:
        f.truncate(0)
        f.truncate(DISK_SIZE)


def test_plan_shows_what_is_there_and_what_would_be_and_writes_nothing(
    place: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    place.new_image("work", "2")
    before = digest(place.disk)
    assert provision(place, "plan", "tiny") == 0
    out = capsys.readouterr().out
    assert "volume group 'vgtiny'" in out
    assert "image 1, in dist/: 2, cheap passphrase" in out
    assert "kept     volume work, for rollback" in out
    assert "written  LUKS2 header of the new work" in out
    assert "carried over: /home, /etc/machine-id, passwords, " in out
    assert "Nothing was written." in out
    assert digest(place.disk) == before
    empty(place)
    assert provision(place, "plan", "tiny", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["found"] == []
    assert data["forecasts"][0]["ranges"][0] == {
        "what": "protective MBR, GPT",
        "fate": "written",
        "offset": 0,
        "size": 17408,
    }
    os.truncate(place.disk, 4096)
    assert provision(place, "plan", "tiny") == 0
    out = capsys.readouterr().out
    assert "cannot be done: the disk has 4096 bytes" in out
    assert "to do it" not in out and "written " not in out
    empty(place)


def test_a_seat_is_written_replaced_and_rolled_back(
    place: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    empty(place)
    assert provision(place, "apply", "tiny", "--for-tests", "--recovery-key", *UNASKED, *trusted(place)) == 0
    out = capsys.readouterr().out
    assert out.count("recovery key of") == 2
    assert "█" in out
    first = place.contents("work")
    place.new_image("work", "2")
    assert provision(place, "env", "work", "--for-tests", *UNASKED, *trusted(place), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["image"], said["resumed"]) == ("2", None)
    assert said["kept"] > 0
    assert provision(place, "status") == 0
    assert "image 2, before: 1" in capsys.readouterr().out
    assert provision(place, "rollback", "work", *UNASKED) == 0
    assert place.contents("work") == first
    assert provision(place, "drop", "work", *UNASKED) == 0
    assert provision(place, "status", "--json") == 0
    rows = json.loads(capsys.readouterr().out.split("gone\n")[-1])["environments"]
    assert [(row["name"], row["image"], row["previous"]) for row in rows] == [
        ("work", "1", None),
        ("private", "1", None),
    ]


def refused(
    capsys: pytest.CaptureFixture[str], code: ExitCode, text: str, bench: Bench, *words: str
) -> None:
    before = digest(bench.disk)
    assert provision(bench, *words) == code
    assert text in capsys.readouterr().err
    assert digest(bench.disk) == before


def test_what_must_not_reach_a_disk_is_refused(
    place: Bench, capsys: pytest.CaptureFixture[str], make_key: KeyMaker
) -> None:
    apply = ["apply", "tiny", *UNASKED, *trusted(place)]
    strong = place.project.seats / "tiny.yaml"
    refused(capsys, ExitCode.TRUST, "fast-test`, whose passphrases are cheap", place, *apply)
    strong.write_text(strong.read_text().replace("fast-test", "benchmark"))
    refused(capsys, ExitCode.INPUT, "already on", place, *apply)
    refused(
        capsys, ExitCode.INPUT, "--wipe says 00000000, which is not", place, *apply, "--wipe", "00000000"
    )
    put_image(place.project, "work", "1-standin", place.key, source="standin")
    refused(capsys, ExitCode.TRUST, "made of stand-in packages", place, *apply)
    place_of = put_image(place.project, "work", "1", None)
    refused(capsys, ExitCode.TRUST, "the image of work is not signed", place, *apply)
    mark_test_release(place_of)
    assert place.key is not None
    sign_checksums(place_of, os.fspath(place.key.secret))
    refused(capsys, ExitCode.TRUST, "the image of work is a test release", place, *apply)
    put_image(place.project, "work", "1", None)
    env = ["env", "work", *UNASKED, *trusted(place)]
    refused(capsys, ExitCode.TRUST, "the image of work is not signed", place, *env)
    put_image(place.project, "work", "1", make_key("stranger"))
    refused(capsys, ExitCode.TRUST, "not one of the trusted keys", place, *apply)


def test_a_disk_must_be_meant(
    place: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = ["env", "work", "--for-tests", *trusted(place)]
    wrong = [*env, "--yes", "--expect-serial", "other"]
    refused(capsys, ExitCode.TRUST, "the serial number disk; --expect-serial says other", place, *wrong)
    refused(capsys, ExitCode.USAGE, "--yes needs --expect-serial", place, *env, "--yes")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    refused(capsys, ExitCode.USAGE, "no terminal to ask at", place, *env)


class Terminal:
    """A person who types one line."""

    def __init__(self, line: str) -> None:
        self.line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return f"{self.line}\n"


def test_a_person_types_the_seats_name(
    place: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.replace("work", place.new_image("work", "2"))
    monkeypatch.setattr("sys.stdin", Terminal("Tiny"))
    refused(capsys, ExitCode.USAGE, "the name is another; nothing was written", place, "drop", "work")
    monkeypatch.setattr("sys.stdin", Terminal("tiny"))
    assert provision(place, "drop", "work") == 0


@pytest.mark.parametrize("seconds", [1.2, 2.2])
def test_a_killed_run_is_taken_up_by_the_next(seconds: float, place: Bench) -> None:
    old = place.contents("work")
    place.new_image("work", "2")
    words = ["provision", "env", "work", "--disk", os.fspath(place.disk), "--for-tests", *UNASKED]
    argv = [sys.executable, "-m", "builder", *words, *trusted(place)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 0
    assert place.contents("work") != old
    with place.opened() as disk:
        assert disk.journal.unfinished is None
        assert set(disk.names) == {"swap", "work", "work.previous", "private"}


def test_a_second_run_over_the_same_disk_waits_for_nobody(bench: Bench) -> None:
    from builder.errors import BusyError
    from builder.provision.live import changing

    identity = identify(bench.disk)
    with (
        changing(identity, ["work"], bench.tools),
        pytest.raises(BusyError, match="already being written"),
        changing(identity, ["work"], bench.tools),
    ):
        pass


def test_a_header_leaves_the_disk_encrypted_by_a_key_that_is_shown_once_and_comes_back(
    place: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    backup, secret = tmp_path / "work.header", place.disk.with_name("passphrase")
    given = ("--passphrase-file", os.fspath(secret), "--json")
    assert provision(place, "header-save", "work", "--to", os.fspath(backup), "--own-key", *given) == 0
    key = json.loads(capsys.readouterr().out)["recovery"]["work"]
    with place.opened() as disk:
        disk.medium.write(disk.offset("work"), bytes(1 << 20))
    back = ("header-restore", "work", "--from", os.fspath(backup), *UNASKED)
    assert provision(place, *back, *given) == ExitCode.TRUST
    secret.write_text(key)
    assert provision(place, *back, *given) == 0
    assert place.contents("work")


def test_a_header_is_not_saved_while_another_command_works_on_the_disk(
    place: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    backup = tmp_path / "work.header"
    words = ("header-save", "work", "--to", os.fspath(backup), *trusted(place)[2:])
    with busy(find_project(), identify(place.disk)), place.empty_scratch():
        refused(capsys, ExitCode.BUSY, "is already being worked on", place, *words)
        assert place.scratch.is_dir()
    assert not backup.exists()
    assert provision(place, *words) == 0


@pytest.mark.parametrize("verb", ["header-restore", "enroll"])
def test_the_seat_files_serial_number_holds_for_headers_too(
    verb: str, place: Bench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    backup = tmp_path / "work.header"
    assert provision(place, "header-save", "work", "--to", os.fspath(backup), *trusted(place)[2:]) == 0
    seat = place.project.seats / "tiny.yaml"
    seat.write_text(seat.read_text().replace("  size: 832MiB\n", "  size: 832MiB\n  serial: OTHER\n"))
    rest = ["--from", os.fspath(backup)] if verb == "header-restore" else ["--tpm2", "auto"]
    words = [verb, "work", *rest, *UNASKED, *trusted(place)[2:]]
    refused(capsys, ExitCode.TRUST, "the seat file is for OTHER", place, *words)
    seat.unlink()  # as on a PC that has nothing but the disk and the backup
    if verb == "header-restore":
        assert provision(place, *words) == 0


def test_a_container_is_removed_with_the_passphrase_of_its_host(
    place: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, ExitCode.USAGE, "a passphrase is needed", place, "remove", "work", *UNASKED)
    assert provision(place, "remove", "work", *UNASKED, *trusted(place)[2:]) == 0
    assert "work were removed" in capsys.readouterr().out
    with place.opened() as disk:
        assert disk.names == ["swap", "private"]


def test_who_adds_an_environment_is_told_of_adding(
    place: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(fd: int, path: Path) -> CutAfter:
        return CutAfter(fd, path, step="allocated")

    assert provision(place, "remove", "work", *UNASKED, *trusted(place)[2:]) == 0
    env = ("env", "work", *UNASKED, "--for-tests", *trusted(place))
    add = ("add", "work", "--size", "128MiB", "--for-tests", *trusted(place))
    refused(capsys, ExitCode.INPUT, "add it: seatsmith provision add work", place, *env)
    job = replace(place.job("work", place.image("work")), old=False, extents=32)
    with place.opened(cut) as disk, place.empty_scratch() as scratch, pytest.raises(PowerCut):
        replace_environment(disk, job, tools=place.tools, scratch=scratch)
    grow = ("grow", "private", "160MiB", *UNASKED)
    refused(capsys, ExitCode.BUSY, "a run of `provision add work` on", place, *grow)
    refused(capsys, ExitCode.INPUT, "finish adding it: seatsmith", place, *env)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", Terminal("Tiny"))
        refused(capsys, ExitCode.USAGE, "work will be added", place, *add)
    assert provision(place, *add, *UNASKED) == 0


def test_a_container_with_a_key_is_added_by_the_passphrases_of_its_hosts(
    place: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert provision(place, "remove", "work", *UNASKED, *trusted(place)[2:]) == 0
    seat = place.project.seats / "tiny.yaml"
    seat.write_text(seat.read_text().replace("    keep: [/home, /etc/machine-id]\n", "    keyfile: true\n"))
    key, words = trusted(place)[:2], ["add", "work", "--for-tests", *UNASKED]
    alone = ["--passphrase-file", f"work:{place.disk.with_name('passphrase')}"]
    refused(capsys, ExitCode.USAGE, "no passphrase was given for private", place, *words, *key, *alone)
    assert provision(place, *words, *trusted(place)) == 0
    assert "private was given a key for work" in capsys.readouterr().out
    assert provision(place, "env", "work", "--for-tests", *UNASKED, *trusted(place)) == 0
    assert "was given a key" not in capsys.readouterr().out
