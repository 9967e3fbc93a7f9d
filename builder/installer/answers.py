"""Which disk does an unattended installation write, and where does it find the images? The answer file."""

from collections.abc import Collection, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from builder.errors import InputError
from builder.profile.checks import HostName, ProfileName
from builder.profile.explain import explain
from builder.profile.model import Bool, Section
from builder.profile.package_checks import Url
from builder.profile.positions import FileError, Node, Problem, read_mapping
from builder.profile.rule import Rule
from builder.seat.model import SEAT_NAME, SERIAL
from builder.seat.secrets import CREDENTIAL

WHAT = "an answer file"
SECRETS = ("passphrase", "password", "passwords", "recovery_key")
FOUND_ID = Rule(
    what="id of what is on a disk",
    accepted="the id that `seatsmith provision plan` shows: 8 hexadecimal digits",
    pattern=r"[0-9a-f]{8}",
    example="0f3a91c2",
    longest=8,
)


class Then(StrEnum):
    """What follows a finished installation."""

    REBOOT = "reboot"
    POWEROFF = "poweroff"
    WAIT = "wait"


class Answers(Section):
    """What a person would say at the installer's terminal. Never a secret: anybody may read a stick."""

    seat: Annotated[str, SEAT_NAME]
    """The seat that the stick was made for."""
    serial: Annotated[str, SERIAL] | None = None
    """Serial number of the disk; without one, a person is asked for disk and consent."""
    wipe: Annotated[str, FOUND_ID] | None = None
    """Lose just what is on that disk, by its id; without it, only an empty disk is written."""
    read_all: Bool = False
    """Read all of a large disk, which takes long, to know that it is empty; it need not be wiped then."""
    url: Url | None = None
    """A published directory to fetch the images from; without it, they are on the stick."""
    hostnames: dict[ProfileName, HostName] = Field(default_factory=dict)
    """Host names by environment; without one, the image's."""
    for_tests: Bool = False
    """Accept stand-in and unsigned images, on virtual disks for tests alone."""
    then: Then = Then.REBOOT
    """What follows: `reboot`, `poweroff` or `wait`."""


def read_answers(path: Path, environments: Collection[str]) -> Answers:
    """Read and check an answer file for a seat with these ``environments``.

    Raises FileError with every problem, InputError for a secret in it.
    """
    root = read_mapping(path, WHAT)
    for name in SECRETS:
        if name in root.value:
            raise InputError(
                f"{root.value[name].position}: {name}: a secret does not belong into a file on a stick",
                hint=f"hand it over as the credential {CREDENTIAL}, or type it when the installer asks",
            )
    try:
        answers = Answers.model_validate(root.plain())
    except ValidationError as e:
        raise FileError(list(explain(e, Answers, root))) from e
    if problems := list(out_of_place(answers, root, environments)):
        raise FileError(problems)
    return answers


def out_of_place(answers: Answers, root: Node, environments: Collection[str]) -> Iterator[Problem]:
    """Answers that nobody would look at."""
    if answers.wipe is not None and answers.serial is None:
        yield Problem(
            root.value["wipe"].place,
            "wipe: is of the disk with a `serial`, which is not given; without it a person is asked",
        )
    for name in answers.hostnames:
        if name not in environments:
            known = ", ".join(environments)
            place = root.value["hostnames"].value[name].place
            yield Problem(place, f"hostnames.{name}: is no environment of the seat; there are: {known}")
