"""Which environments of this seat are strict, and what is each given?"""

import json
from dataclasses import dataclass
from pathlib import Path

PLACE = Path("/etc/seatsmith/environments")
DATABASE = Path("/run/udev/data")
LINKS = Path("/dev/seatsmith")  # by templates/strict/usr/lib/udev/rules.d/73-seatsmith-broker.rules


@dataclass(frozen=True)
class Environment:
    """One file of PLACE."""

    name: str
    vt: int
    uid_base: int
    gpu: bool
    input: bool
    extra: tuple[str, ...]


def load_environment(path: Path) -> Environment:
    data = json.loads(path.read_text(encoding="utf-8"))
    return Environment(
        name=data["name"],
        vt=data["vt"],
        uid_base=data["uid_base"],
        gpu=data["gpu"],
        input=data["input"],
        extra=tuple(data["extra"]),
    )


def load_environments(place: Path = PLACE) -> list[Environment]:
    return [load_environment(path) for path in sorted(place.glob("*.json"))]
