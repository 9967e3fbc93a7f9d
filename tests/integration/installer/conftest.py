"""What do the tests of the installer start from? A project with the tiny seat, and an empty disk."""

import os
import shutil
from pathlib import Path

import pytest

from builder.tools import Tools
from tests.support.gpgkeys import TestKey
from tests.support.installers import SERIAL, Desk
from tests.support.tinyseat import DISK_SIZE, PASSPHRASE, tiny_project


@pytest.fixture
def desk(tmp_path: Path, tools: Tools, release: TestKey, monkeypatch: pytest.MonkeyPatch) -> Desk:
    project = tiny_project(tmp_path / "project", release)
    (project.root / "ci/keys").mkdir(parents=True)
    shutil.copy(release.public, project.root / "ci/keys/release.asc")
    stick, disk, secrets = tmp_path / "stick", tmp_path / SERIAL, tmp_path / "secrets"
    stick.mkdir()
    with disk.open("wb") as f:
        f.truncate(DISK_SIZE)
    secrets.mkdir(mode=0o700)
    (secrets / "seatsmith.passphrase").write_bytes(PASSPHRASE)
    monkeypatch.setenv("SEATSMITH_ROOT", os.fspath(project.root))
    monkeypatch.setenv("SEATSMITH_DIST", os.fspath(project.dist))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", os.fspath(secrets))
    return Desk(project, release, tools, stick, disk)
