"""How is one profile boot-tested that is in no seat yet? In a seat made up for it: a host, and it beside."""

import os
import shutil
import sys
from pathlib import Path

from builder.profile import Profile, load_profile
from builder.project import Project
from builder.run import run

HOST = "base"
HOST_PROFILE = "private"  # where the profile cannot boot by itself
SEAT = """\
disk:
  size: 10GiB
esp: 256MiB
swap: 256MiB
environments:
  {name}:
    size: 4GiB
  {host}:
    profile: {host_profile}
    vt: {vt}
    size: rest
host: {host}
keys:
  pbkdf: fast-test
  test_passphrase: true
"""


def seat_name(profile: str) -> str:
    return f"try-{profile}"


def host_profile(profile: Profile) -> str:
    """Whose image the made-up seat's host carries."""
    return profile.name if profile.bootable else HOST_PROFILE


def seat_text(profile: Profile) -> str:
    """The seat file."""
    vt = 7 if profile.display.vt != 7 else 8
    return SEAT.format(name=profile.name, host=HOST, host_profile=host_profile(profile), vt=vt)


def try_project(project: Project, name: str, root: Path) -> Project:
    """A copy of the checkout's profiles in ``root`` with the made-up seat; results stay where they are."""
    profile = load_profile(project, name)
    shutil.copytree(project.profiles, root / "profiles", ignore=shutil.ignore_patterns("seats"))
    (root / "profiles/seats").mkdir()
    (root / f"profiles/seats/{seat_name(name)}.yaml").write_text(seat_text(profile))
    (root / "mkosi.conf").touch()
    return Project(root, project.cache, project.dist)


def write_try_seat(project: Project, name: str) -> None:
    """Write the disk of a project's made-up seat, as ``seatsmith seat write`` would."""
    places = {"SEATSMITH_ROOT": os.fspath(project.root), "SEATSMITH_DIST": os.fspath(project.dist)}
    argv = [sys.executable, "-m", "builder", "seat", "write", seat_name(name)]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    run(argv, env={**os.environ, **places, **paths}, stdout=None)
