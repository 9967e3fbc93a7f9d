"""How does a profile come from YAML files, with what it extends?"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from builder.errors import InputError
from builder.profile.checks import PART_NAME, PROFILE_NAME, TREE_PATH
from builder.profile.explain import explain, key_path, near_word, place_of
from builder.profile.merge import merge
from builder.profile.model import Profile
from builder.profile.positions import (
    FileError,
    Node,
    Position,
    Problem,
    display_path,
    kind_of,
    parse_mapping,
    read_text,
)
from builder.profile.rule import shown
from builder.profile.rules import disagreements
from builder.project import Project, yaml_names

WHAT = "a profile"
FILE_KEYS = ("extends",)  # what a file says beside the settings of the environment


@dataclass(frozen=True)
class Resolved:
    """A profile with what it was made of. ``files`` are in the order in which they were merged."""

    profile: Profile
    root: Node
    files: tuple[Path, ...]

    def origin(self, path: tuple[str | int, ...]) -> Position | None:
        """Where a value was set; None where it is a default."""
        here = self.root
        for step in path:
            inner = here.value
            if isinstance(inner, dict) and step in inner:
                here = inner[str(step)]
            elif isinstance(inner, list) and isinstance(step, int) and step < len(inner):
                here = inner[step]
            else:
                return None
        return here.position


@dataclass(frozen=True)
class Part:
    """One file: what it says itself, what it extends, and what is wrong with either of its own keys."""

    root: Node
    extends: list[tuple[str, Position]]
    wrong: list[tuple[str, Position]]


def profile_names(project: Project) -> list[str]:
    """The profiles that can be built, sorted; parts, whose names begin with ``_``, are not among them."""
    return [name for name in file_names(project) if not name.startswith("_")]


def part_names(project: Project) -> list[str]:
    return [name for name in file_names(project) if name.startswith("_")]


def file_names(project: Project) -> list[str]:
    return [name for name in yaml_names(project.profiles) if not name.startswith(".")]


def load_profile(project: Project, name: str) -> Profile:
    """Load and check one profile.

    Raises InputError (a FileError where the files are wrong) with file, line and column of every problem.
    """
    return resolve_profile(project, name).profile


def resolve_profile(project: Project, name: str, *, text: str | None = None) -> Resolved:
    """Load and check one profile, keeping where each value came from.

    ``text`` stands in for the content of the profile's own file, which then need not exist.
    """
    wrong = PROFILE_NAME.problem(name)
    if name not in file_names(project) and text is None:
        near = near_word(name.removesuffix(".yaml"), profile_names(project))
        there = ", ".join(profile_names(project))
        hint = f"did you mean {near!r}?" if near else f"there are: {there}" if there else None
        raise InputError(f"there is no profile {shown(name)}", hint=hint)
    if wrong:
        part = "begins with '_': it is a part, which profiles extend" if name.startswith("_") else wrong
        raise FileError([Problem(Position(project.profiles / f"{name}.yaml", 1, 1), f"its name {part}")])
    root, files, problems = merged(project, name, text)
    profile, more = validated(project, name, root, files[-1], part=bool(problems))
    problems += more
    if problems or profile is None:
        raise FileError(problems)
    return Resolved(profile, root, files)


def check_part(project: Project, name: str) -> list[Problem]:
    """What is wrong with a part (``_NAME``), as far as it can be told without what extends it."""
    try:
        root, files, problems = merged(project, name, None)
    except FileError as e:
        return e.problems
    return problems + validated(project, "part", root, files[-1], part=True)[1]


def validated(
    project: Project, name: str, root: Node, file: Path, *, part: bool = False
) -> tuple[Profile | None, list[Problem]]:
    """The profile that merged values make, and everything that is wrong with them.

    A ``part`` lacks something (what extends it, or a base that cannot be read), and that is no error.
    """
    root.value["name"] = Node(name, Position(file, 1, 1))
    data = root.plain()
    profile, problems = None, []
    try:
        profile = Profile.model_validate(data)
    except ValidationError as e:
        problems = list(explain(e, Profile, root, more_keys=FILE_KEYS))
    for one in disagreements(data, part=part):
        problems.append(Problem(place_of(root, one.path), f"{key_path(one.path)}: {one.message}"))
    return profile, [*problems, *missing_files(project, root)]


def merged(project: Project, name: str, text: str | None) -> tuple[Node, tuple[Path, ...], list[Problem]]:
    """The values of a file on top of all that it extends, each file once; the files in that order; problems.

    Raises FileError where the file itself cannot be read, so that there is nothing to go on with.
    """
    problems: list[Problem] = []
    parts: dict[str, Part] = {}
    gather(project, name, text, (), parts, problems)
    if name not in parts:
        raise FileError(problems)
    root, *later = [part.root for part in parts.values()]
    for node in later:
        root = merge(root, node)
    return root, tuple(project.profiles / f"{part}.yaml" for part in parts), problems


def gather(
    project: Project,
    name: str,
    text: str | None,
    above: tuple[str, ...],
    parts: dict[str, Part],
    problems: list[Problem],
) -> None:
    """Read ``name`` and what it extends into ``parts``, in the order of merging: bases first."""
    path = project.profiles / f"{name}.yaml"
    try:
        part = read_part(name, path, text)
    except FileError as e:
        problems += e.problems
        return
    problems += [Problem(place, message) for message, place in part.wrong]
    there = file_names(project)
    for base, place in part.extends:
        if base in (*above, name):
            circle = " → ".join([*(*above, name)[(*above, name).index(base) :], base])
            problems.append(Problem(place, f"extends: profiles extend each other in a circle: {circle}"))
        elif base not in there:
            near = near_word(base, [n for n in there if n != name])
            hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(there)}"
            problems.append(
                Problem(place, f"extends: there is no file {display_path(path.parent)}/{base}.yaml; {hint}")
            )
        elif base not in parts:
            gather(project, base, None, (*above, name), parts, problems)
    parts[name] = part


def read_part(name: str, path: Path, text: str | None) -> Part:
    """One file, with the keys taken out that are about the file and not about the environment."""
    root = parse_mapping(read_text(path, WHAT) if text is None else text, path, WHAT)
    wrong: list[tuple[str, Position]] = []
    said = root.value.pop("name", None)
    if said is not None and said.value != name:
        found = shown(said.value) if isinstance(said.value, str) else kind_of(said.value)
        wrong.append(
            (f"name: {found} is not the file's name; write {name!r} or leave it away", said.position)
        )
    extends = root.value.pop("extends", None)
    bases: list[tuple[str, Position]] = []
    if extends is not None:
        for node in extends.value if isinstance(extends.value, list) else [extends]:
            if not isinstance(node.value, str):
                what = f"expected the name of a profile, or a list of names, found {kind_of(node.value)}"
                wrong.append((f"extends: {what}", node.position))
            elif problem := PART_NAME.problem(node.value.removesuffix(".yaml")):
                wrong.append((f"extends: {problem}; accepted: {PART_NAME.accepted}", node.position))
            elif node.value in [base for base, _ in bases]:
                wrong.append((f"extends: {node.value!r} is there twice", node.position))
            else:
                bases.append((node.value, node.position))
    return Part(root, bases, wrong)


def missing_files(project: Project, root: Node) -> list[Problem]:
    """Files and trees that a profile names, and that are not there."""
    wanted: list[tuple[Node, str, bool]] = []
    if (tree := root.value.get("files")) is not None:
        wanted.append((tree, "files", True))
    listed = root.value.get("repositories")
    for index, node in enumerate(listed.value if listed and isinstance(listed.value, list) else []):
        if isinstance(node.value, dict) and "key" in node.value:
            wanted.append((node.value["key"], f"repositories[{index}].key", False))
    problems = []
    for node, key, is_tree in wanted:
        if not isinstance(node.value, str) or TREE_PATH.problem(node.value):
            continue
        path = project.profiles / node.value
        if not (path.is_dir() if is_tree else path.is_file()):
            message = f"there is no {'directory' if is_tree else 'file'} {display_path(path)}"
        elif not path.resolve().is_relative_to(project.profiles.resolve()):
            message = f"{display_path(path)} leads out of profiles/ by a symbolic link"
        else:
            continue
        problems.append(Problem(node.position, f"{key}: {message}"))
    return problems
