"""How does a seat come from its YAML file?"""

from dataclasses import dataclass

from pydantic import ValidationError

from builder.errors import InputError
from builder.profile.explain import explain
from builder.profile.positions import FileError, Node, Position, Problem, read_mapping
from builder.project import Project, yaml_names
from builder.seat.model import SEAT_NAME, Seat

WHAT = "a seat file"


@dataclass(frozen=True)
class SeatFile:
    """A seat with the places of its settings, for errors that show only later."""

    seat: Seat
    root: Node

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        """A problem at the setting of that path, or at the nearest one above that is written down."""
        node = self.root
        for key in path:
            below = node.value.get(key) if isinstance(node.value, dict) else None
            if isinstance(node.value, list) and isinstance(key, int) and key < len(node.value):
                below = node.value[key]
            if below is None:
                break
            node = below
        name = ".".join(str(k) for k in path)
        return Problem(node.position, f"{name}: {message}" if name else message)


def seat_names(project: Project) -> list[str]:
    return yaml_names(project.seats)


def load_seat(project: Project, name: str) -> Seat:
    """Load and check one seat file by itself; whether it fits its disk is the plan's business.

    Raises FileError (an InputError) with every problem and its line and column.
    """
    return load_seat_file(project, name).seat


def load_seat_file(project: Project, name: str) -> SeatFile:
    """The same with the places of all settings."""
    path = project.seats / f"{name}.yaml"
    if name not in seat_names(project):
        there = ", ".join(seat_names(project)) or "none yet"
        raise InputError(f"there is no seat {name!r}", hint=f"seats in {project.seats}: {there}")
    if wrong := SEAT_NAME.problem(name):
        raise FileError([Problem(Position(path, 1, 1), f"its name {wrong}; accepted: {SEAT_NAME.accepted}")])
    root = read_mapping(path, WHAT)
    said = root.value.pop("name", None)
    if said is not None and said.value != name:
        raise FileError(
            [Problem(said.position, f"name: is not the file's name; write {name!r} or leave it away")]
        )
    root.value["name"] = Node(name, Position(path, 1, 1))
    try:
        seat = Seat.model_validate(root.plain())
    except ValidationError as e:
        raise FileError(list(explain(e, Seat, root))) from e
    return SeatFile(seat, root)
