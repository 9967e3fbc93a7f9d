"""Which seats do the tests of plans lay out? Any text, in a project with three tiny profiles."""

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.profile.positions import FileError, Problem
from builder.project import Project
from builder.seat.plan import Plan, load_plan
from tests.support.profiles import project_at
from tests.support.tinyseat import PROFILE

BASE = """\
disk:
  size: 4GiB
esp: 128MiB
swap: 64MiB
environments:
  work:
    size: 1GiB
  private:
    size: rest
host: private
"""


def seat_project(root: Path) -> Project:
    """Profiles work (VT8, a container), private (VT7, a host) and third (VT9, a container)."""
    project = project_at(root)
    roles = (("work", 8, "role: container"), ("private", 7, "role: host"), ("third", 9, "role: container"))
    for name, vt, role in roles:
        (project.profiles / f"{name}.yaml").write_text(PROFILE.format(name=name, vt=vt, role=role))
    project.seats.mkdir(exist_ok=True)
    return project


def put_seat(project: Project, text: str, name: str = "pc") -> None:
    (project.seats / f"{name}.yaml").write_text(text)


def plan_of(project: Project, text: str, name: str = "pc") -> Plan:
    put_seat(project, text, name)
    return load_plan(project, name)[0]


def seat_problems(project: Project, text: str) -> list[Problem]:
    """What is found wrong with a seat file; at least one thing has to be."""
    put_seat(project, text)
    with pytest.raises(FileError) as caught:
        load_plan(project, "pc")
    assert caught.value.exit_code == 3
    return caught.value.problems


Change = Callable[[str], str]


def changed(old: str, new: str) -> str:
    """BASE with one thing replaced."""
    assert old in BASE
    return BASE.replace(old, new)
