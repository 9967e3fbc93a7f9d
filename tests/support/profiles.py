"""A project that has nothing but profiles, written by the test itself."""

from pathlib import Path

import pytest

from builder.profile.load import resolve_profile
from builder.profile.positions import FileError, Problem
from builder.project import Project


def project_at(root: Path) -> Project:
    (root / "profiles").mkdir(exist_ok=True, parents=True)
    (root / "mkosi.conf").touch()
    return Project(root, root / "cache", root / "dist")


def problems_of(project: Project, name: str = "work") -> list[Problem]:
    with pytest.raises(FileError) as caught:
        resolve_profile(project, name)
    assert caught.value.exit_code == 3
    return caught.value.problems


def write(project: Project, **files: str | bytes) -> None:
    for name, text in files.items():
        data = text.encode() if isinstance(text, str) else text
        (project.profiles / f"{name}.yaml").write_bytes(data)
