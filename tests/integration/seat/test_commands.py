"""Do ``seat write`` and ``seat inspect`` do in a shell what their help says, with the right exit codes?"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ExitCode
from builder.outputs.sign import sign_checksums
from builder.project import Project
from tests.support.gpgkeys import TestKey
from tests.support.tinyseat import tiny_project
from tests.support.writtenseat import CHECKOUT, SEAT, SECRETS

MADE_UP = SEAT.replace("pbkdf: fast-test", "pbkdf: fast-test\n  test_passphrase: true")


@dataclass(frozen=True)
class Shell:
    project: Project
    key: TestKey

    def __call__(
        self, *words: str, secret: bytes | None = None, credentials: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """``seatsmith seat WORDS``; a secret is given by file descriptor 3."""
        places = {"SEATSMITH_ROOT": str(self.project.root), "SEATSMITH_DIST": str(self.project.dist)}
        if credentials is not None:
            places["CREDENTIALS_DIRECTORY"] = str(credentials)
        argv = [sys.executable, "-m", "builder", "seat", *words]
        if secret is not None:
            path = self.project.root / "secret"
            path.write_bytes(secret)
            argv = ["sh", "-c", f'exec "$@" 3<{path}', "sh", *argv, "--passphrase-fd", "3"]
        return subprocess.run(
            argv,
            cwd=CHECKOUT,
            env={**os.environ, **places},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def data(self, *words: str, secret: bytes | None = None, status: int = 0) -> Any:
        done = self(*words, "--json", secret=secret)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, release: TestKey) -> Shell:
    return Shell(tiny_project(tmp_path_factory.mktemp("shell") / "project", release, seat=SEAT), release)


def test_write_and_inspect_agree_and_the_exit_code_tells_damage(shell: Shell, tmp_path: Path) -> None:
    disk = tmp_path / "tiny.img"
    words = ("write", "tiny", "--target", str(disk), "--key", str(shell.key.public), "--recovery-key")
    made = shell.data(*words, secret=SECRETS["work"] + b"\n")
    assert (made["seat"], made["erased"], set(made["recovery"])) == ("tiny", "discard", {"work", "private"})
    assert made["test_passphrase"] is None
    seen = shell.data("inspect", str(disk), "--digests", secret=SECRETS["work"])
    assert seen["ok"] and seen["compared"]
    files = {f["path"]: f for f in seen["files"]["work"]}
    assert files["/usr/bin/program"]["mode"] == "-rw-r--r--"
    assert len(files["/usr/bin/program"]["sha256"]) == 64
    assert files["/home/user"]["uid"] == 1000

    text = shell("inspect", str(disk))
    assert "It is what the plan says." in text.stdout
    assert "keyslot 1: recovery key" in text.stdout
    assert "keyslot 2: key file" in text.stdout
    wrong = shell("inspect", str(disk), "--files", secret=b"wrong horse")
    assert wrong.returncode == ExitCode.TRUST
    assert "volume work: no keyslot opens with this passphrase" in wrong.stderr
    assert "the files are encrypted" in shell("inspect", str(disk), "--files").stderr

    again = shell(*words, secret=SECRETS["work"])
    assert again.returncode == ExitCode.INPUT
    assert "is not empty" in again.stderr
    with disk.open("r+b") as f:
        f.truncate(disk.stat().st_size - 512)
    damaged = shell.data("inspect", str(disk), status=1)
    assert not damaged["ok"]
    assert "of a disk of 872415232 bytes; this one has 872414720" in damaged["problems"][0]
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(1 << 20))
    assert "no GUID partition table" in shell.data("inspect", str(empty), status=1)["problems"][0]


def test_a_seat_for_tests_gets_a_made_up_passphrase_beside_it_that_nobody_else_can_read(
    shell: Shell, release: TestKey
) -> None:
    (shell.project.seats / "tiny.yaml").write_text(MADE_UP)
    made = shell.data("write", "tiny", "--key", str(release.public))
    place = shell.project.dist / "seats/tiny"
    kept = place / "tiny.passphrase"
    assert {p.name for p in place.iterdir()} == {"tiny.img", "tiny.passphrase", "plan.json", "plan.svg"}
    assert kept.read_text() == made["test_passphrase"]
    assert kept.stat().st_mode & 0o777 == 0o600
    plan = json.loads((place / "plan.json").read_text())
    assert plan["images"]["work"]["signed"]
    assert shell.data("inspect", str(place / "tiny.img"), secret=kept.read_bytes())["ok"]


def test_a_credential_goes_before_a_made_up_passphrase(shell: Shell, tmp_path: Path) -> None:
    (shell.project.seats / "tiny.yaml").write_text(MADE_UP)
    (tmp_path / "seatsmith.passphrase").write_bytes(b"correct horse\n")
    disk = tmp_path / "tiny.img"
    words = ("write", "tiny", "--target", str(disk), "--key", str(shell.key.public))
    made = shell(*words, credentials=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "test passphrase" not in made.stdout
    listed = shell("inspect", str(disk), "--files", credentials=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert {"Files of work", "Files of private"} <= set(listed.stdout.splitlines())


def test_one_volume_can_be_read_by_who_knows_its_passphrase_alone(shell: Shell, tmp_path: Path) -> None:
    (shell.project.seats / "tiny.yaml").write_text(SEAT)
    disk, key = tmp_path / "tiny.img", tmp_path / "work"
    key.write_bytes(SECRETS["work"])
    key.chmod(0o600)
    words = ("write", "tiny", "--target", str(disk), "--key", str(shell.key.public))
    made = shell(*words, "--passphrase-file", f"work:{key}", secret=b"another one")
    assert made.returncode == 0, made.stderr
    read = shell.data("inspect", str(disk), "--files", "--passphrase-file", f"work:{key}")
    assert set(read["files"]) == {"work"}
    both = shell("inspect", str(disk), "--files", "--passphrase-file", str(key))
    assert both.returncode == ExitCode.TRUST
    assert "volume private: no keyslot opens with this passphrase" in both.stderr
    assert "hint: for one volume alone: --passphrase-fd private:N" in both.stderr


def test_what_is_wrong_is_told_in_one_line_with_a_way_out(shell: Shell, make_key: Any) -> None:
    (shell.project.seats / "tiny.yaml").write_text(SEAT)
    key = ("--key", str(shell.key.public))
    none = shell("write", "tiny", *key)
    assert none.returncode == ExitCode.USAGE
    assert "--passphrase-fd" in none.stderr
    assert shell("write", "tiny", "--erase", "burn", *key).returncode == ExitCode.USAGE
    assert "there is no seat 'nowhere'" in shell("plan", "nowhere").stderr
    sums = shell.project.dist / "work"
    sign_checksums(sums, os.fspath(make_key("stranger").secret))
    stranger = shell("write", "tiny", *key, secret=b"correct horse")
    assert stranger.returncode == ExitCode.TRUST
    moved = shell.project.dist / "elsewhere"
    sums.rename(moved)
    new = shell.project.root / "new.img"
    missing = shell("write", "tiny", "--target", str(new), *key, secret=b"correct horse")
    moved.rename(sums)
    assert missing.returncode == ExitCode.INPUT
    assert "there is no image of work" in missing.stderr
    assert "hint: make image PROFILE=work" in missing.stderr
    assert not new.exists()
    new.with_name(f".{new.name}.part").touch()
    cut_off = shell("inspect", str(new))
    assert cut_off.returncode == ExitCode.INPUT
    assert "writing it was interrupted" in cut_off.stderr
    assert "Traceback" not in none.stderr + stranger.stderr
    sign_checksums(sums, os.fspath(shell.key.secret))
