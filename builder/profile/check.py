"""Is every file in profiles/ in order? Everything that is wrong, over all of them at once."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from builder.errors import InputError
from builder.profile.load import check_part, part_names, profile_names, resolve_profile
from builder.profile.positions import FileError, Position, Problem
from builder.project import Project

More = tuple[str, str, str, str]
"""A word for the things, their folder, "module:function" for their names, and one that loads by name."""


@dataclass(frozen=True)
class Report:
    checked: list[str]
    problems: list[Problem]


def check_all(project: Project, more: Sequence[More] = ()) -> Report:
    """Check profiles, parts and stray files, then ``more`` (named by text, to import nothing too early)."""
    profiles, parts = profile_names(project), part_names(project)
    problems: list[Problem] = stray_files(project)
    for name in profiles:
        try:
            resolve_profile(project, name)
        except FileError as e:
            problems += e.problems
    for name in parts:
        problems += check_part(project, name)
    checked = [plural(len(profiles), "profile"), plural(len(parts), "part")]
    for word, folder, names, load in more:
        found = list(function(names)(project))
        for name in found:
            try:
                function(load)(project, name)
            except FileError as e:
                problems += e.problems
            except InputError as e:
                place = Position(project.root / folder / f"{name}.yaml", 1, 1)
                problems.append(Problem(place, e.message))
        checked.append(plural(len(found), word))
    return Report(checked, sorted(set(problems)))


def function(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def stray_files(project: Project) -> list[Problem]:
    """Files that look like profiles but are none by their name."""
    if not project.profiles.is_dir():
        raise InputError(f"there is no directory {project.profiles}")
    return [
        Problem(Position(path, 1, 1), "is not read as a profile; accepted: a name that ends in .yaml")
        for path in sorted(project.profiles.glob("[!.]*.yml"))
    ]


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
