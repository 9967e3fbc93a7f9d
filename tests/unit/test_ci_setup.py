"""Does ``ci/setup`` make the Python environment whole, also after one that was killed, or beside another?

Python is a script here that notes what is asked of it, so nothing is installed and no network is needed.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
echo "$*" | head -n1 >> log
case "$1 $2" in
    "-m venv") rm -rf .venv; mkdir -p .venv/bin; cp fake/python3 .venv/bin/python ;;
    "-m pip") sleep 0.2; touch .venv/whole ;;
    "-c from"*) test -e .venv/whole ;;
esac
"""
VENV = "-m venv --clear .venv"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with the script, and programs that do nothing; its path has a space and an umlaut."""
    root = tmp_path / "mein Häuschen"
    (root / "ci").mkdir(parents=True)
    (root / "fake").mkdir()
    shutil.copy2(ROOT / "ci/setup", root / "ci/setup")
    (root / "requirements.lock").touch()
    (root / "pyproject.toml").touch()
    for name in ("python3", "mmdebstrap", "setpriv", "newuidmap", "apt-get", "sudo"):
        (root / "fake" / name).write_text(
            PYTHON if name == "python3" else f"#!/bin/sh\necho {name} >> log\n"
        )
        (root / "fake" / name).chmod(0o755)
    return root


def start(checkout: Path, **environment: str) -> subprocess.Popen[str]:
    gone = ("PYTHON", "VENV")
    base = {k: v for k, v in os.environ.items() if k not in gone} | environment
    path = f"{checkout / 'fake'}:{os.environ['PATH']}"
    argv = [checkout / "ci/setup"]
    return subprocess.Popen(argv, env=base | {"PATH": path}, stderr=subprocess.PIPE, text=True)


def set_up(checkout: Path) -> list[str]:
    """Run it once; what it asked of Python and of others."""
    (checkout / "log").unlink(missing_ok=True)
    with start(checkout) as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    return (checkout / "log").read_text().splitlines()


def test_a_new_clone_gets_an_environment_from_the_locked_requirements(checkout: Path) -> None:
    asked = set_up(checkout)
    assert VENV in asked
    (locked,) = [line for line in asked if "requirements.lock" in line]
    assert locked.startswith("-m pip install") and "--require-hashes" in locked
    assert (checkout / ".venv/ready").exists()
    assert "apt-get" not in asked, "nothing was missing"


def test_an_environment_that_is_whole_is_brought_up_to_date_and_not_made_anew(checkout: Path) -> None:
    set_up(checkout)
    (checkout / ".venv/mine").touch()
    asked = set_up(checkout)
    assert VENV not in asked and "-m pip" in " ".join(asked)
    assert (checkout / ".venv/mine").exists()


def test_what_a_killed_set_up_left_is_made_anew(checkout: Path) -> None:
    set_up(checkout)
    (checkout / ".venv/ready").unlink()
    (checkout / ".venv/whole").unlink()
    assert VENV in set_up(checkout)
    assert (checkout / ".venv/ready").exists()


def test_two_set_ups_at_once_are_one(checkout: Path) -> None:
    with start(checkout) as one, start(checkout) as other:
        said = [process.communicate(timeout=20)[1] for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0), said
    asked = (checkout / "log").read_text().splitlines()
    assert len([line for line in asked if line.startswith("-m pip")]) == 2
    assert sorted("Waiting for another set-up" in words for words in said) == [False, True]


def test_a_place_that_cannot_be_written_is_said_with_what_to_do(checkout: Path) -> None:
    with start(checkout, VENV="pyproject.toml/venv") as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 6
    assert "cannot be written to pyproject.toml/venv; name another place: make VENV=" in err
    assert "-m pip" not in (checkout / "log").read_text()
