"""What happens on a PC that the installer was started on? Images are found, a disk is chosen, the seat made.

Unattended where the answers name a disk; otherwise a person chooses one, sees what is on it, and types the
seat's name. Everything that writes is `seatsmith provision apply`, with its refusals.
"""

import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import ui
from builder.cli.provision_apply import apply_command
from builder.cli.provision_show import plan_command, reading
from builder.errors import InputError, TrustError, UsageError
from builder.files import file_digest
from builder.installer.answers import Answers, Then, read_answers
from builder.installer.disks import PATIENCE, Candidate, candidates, disk_paths, with_serial
from builder.installer.firmware import start_first
from builder.installer.layout import ANSWERS, PINS
from builder.outputs.checksums import SUMS
from builder.outputs.sign import trusted_keys
from builder.project import Project, find_project
from builder.provision.found import Found, look
from builder.provision.identity import Identity, own_id
from builder.publish.pull import Policy, pull
from builder.run import Arg, run
from builder.seat.load import seat_names
from builder.seat.plan import load_plan
from builder.tools import Tools, ensure_tools

PASSWORD = "seatsmith.password."  # credentials: seatsmith.password.ENVIRONMENT.USER
WAIT_ONLINE = Path("/usr/lib/systemd/systemd-networkd-wait-online")
ONLINE_SECONDS = 60


@dataclass(frozen=True)
class Session:
    """One run of the installer. ``disks`` lists the disks that may be offered."""

    stick: Path
    disks: Callable[[], Sequence[Path]] = disk_paths
    patience: float = PATIENCE
    """Seconds that a disk has to show up."""

    def run(self) -> Then:
        """Make the seat; return what is to follow. Raises whatever provisioning refuses or fails with."""
        project, tools = find_project(), ensure_tools()
        seat = the_seat(project)
        plan, _, _ = load_plan(project, seat)
        answers = find_answers(project, self.stick, [e.name for e in plan.environments])
        if answers is not None and answers.seat != seat:
            raise InputError(f"the answers are for the seat {answers.seat}; this installer is for {seat}")
        ui.current().say(f"Seatsmith installer: seat {seat}")
        if answers is not None and answers.url is not None:
            fetch(project, seat, answers, tools)
        else:
            refuse_other_images(project)
        if answers is not None and answers.serial is not None:
            identity = with_serial(answers.serial, self.disks, patience=self.patience).identity
            wipe = answers.wipe
        else:
            identity = choose(candidates(self.disks()))
            everything = answers is not None and answers.read_all
            say_plan(seat, identity, everything=everything)
            wipe = agree_to_loss(seat, identity, tools, everything=everything)
        passwords = password_files()
        _, text = apply_command(
            seat,
            identity.path,
            wipe=wipe,
            yes=answers is not None and answers.serial is not None,
            serial=own_id(identity),
            descriptors=[],
            files=[],
            passwords=passwords,
            ask=not passwords and (answers is None or answers.serial is None),
            hostnames=[f"{e}:{name}" for e, name in (answers.hostnames if answers else {}).items()],
            recovery=answers is None or answers.serial is None,
            erase="auto",
            keys=None,
            tests=answers is not None and answers.for_tests,
            read_all=answers is not None and answers.read_all,
        )
        ui.current().say(text)
        if identity.target.is_device:
            start_first(identity.path, seat, tools)
        return answers.then if answers else Then.WAIT


def the_seat(project: Project) -> str:
    """The one seat that the installer is for."""
    names = seat_names(project)
    if len(names) != 1:
        raise InputError(f"an installer is for one seat; in {project.seats} there are {len(names)}")
    return names[0]


def find_answers(project: Project, stick: Path, environments: Collection[str]) -> Answers | None:
    """The answers that were signed with the installer, else those on the stick."""
    for place in (project.root / ANSWERS, stick / ANSWERS):
        if place.is_file():
            return read_answers(place, environments)
    return None


def refuse_other_images(project: Project) -> None:
    """Raise TrustError where the stick has other images than it was made with, were they signed, too.

    Who can write to the stick could else put an old release there, with all that was mended since.
    """
    pins = project.root / PINS
    for profile, digest in (json.loads(pins.read_text()) if pins.is_file() else {}).items():
        sums = project.dist / profile / SUMS
        if sums.is_file() and file_digest(sums) != digest:
            raise TrustError(
                f"the image of {profile} on the stick is not the one that the installer was made with",
                hint="make the installer again with the image that is to be installed",
            )


def fetch(project: Project, seat: str, answers: Answers, tools: Tools) -> None:
    """Pull the seat's images from the answers' URL, and let provisioning take them from there."""
    assert answers.url is not None
    if WAIT_ONLINE.exists() and os.environ.get("SEATSMITH_TOOLS") == "host":
        argv: list[Arg] = [WAIT_ONLINE, "--any", f"--timeout={ONLINE_SECONDS}"]
        run(argv, check=False, timeout=ONLINE_SECONDS + 10)
    plan, _, _ = load_plan(project, seat)
    dist = project.cache / "dist"
    keys = trusted_keys([project.root / "ci/keys"])
    policy = Policy(allow_standin=answers.for_tests, allow_dirty=answers.for_tests)
    for profile in sorted({e.profile for e in plan.environments}):
        (dist / profile).parent.mkdir(parents=True, exist_ok=True)
        state = project.cache / "pulled.json"
        pulled = pull(
            answers.url, profile, dist / profile, keys=keys, state=state, policy=policy, tools=tools
        )
        ui.current().say(f"{profile} {pulled.release.version}: {pulled.report.signature}")
    os.environ["SEATSMITH_DIST"] = os.fspath(dist)


def choose(there: Sequence[Candidate]) -> Identity:
    """Have a person choose a disk by its number."""
    usable = [c.identity for c in there if c.problem is None]
    say = ui.current().say
    for c in there:
        if c.problem is not None:
            say(f"not {c.identity.path}: {c.problem}")
    if not usable:
        raise InputError("there is no disk that could be written")
    for number, identity in enumerate(usable, 1):
        for line in identity.lines():
            say(f"{number:>3}  {line}" if line.startswith(("disk", "file")) else f"     {line}")
    said = input(f"Which disk (1 to {len(usable)}; Enter: none)? ").strip()
    if not said.isdecimal() or not 1 <= int(said) <= len(usable):
        raise UsageError("no disk was chosen; nothing was written")
    return usable[int(said) - 1]


def say_plan(seat: str, identity: Identity, *, everything: bool) -> None:
    _, text = plan_command(seat, identity.path, own_id(identity), read_all=everything)
    ui.current().say(text)


def agree_to_loss(seat: str, identity: Identity, tools: Tools, *, everything: bool) -> str | None:
    """Have a person type the id of what is on the disk, where it holds something."""
    with reading(identity) as medium:
        found: Found = look(medium, identity.size, tools, everything=everything)
    if found.empty or found.unfinished == seat:
        return None
    known = "is not empty" if found.things or found.unfinished else "was not read as a whole"
    said = input(f"The disk {known}. To lose all of it type its found-id ({found.id}): ").strip()
    if said != found.id:
        raise UsageError("that is not the id; nothing was written")
    return found.id


def password_files() -> list[str]:
    """Passwords of users that came as credentials, as --password-file takes them."""
    place = os.environ.get("CREDENTIALS_DIRECTORY")
    found = []
    for path in sorted(Path(place).glob(f"{PASSWORD}*.*")) if place else []:
        environment, _, user = path.name.removeprefix(PASSWORD).partition(".")
        found.append(f"{environment}:{user}:{path}")
    return found


def end(then: Then) -> None:
    """Leave the installer: restart or switch off."""
    if then is not Then.WAIT:
        run(["systemctl", "--no-block", then.value], check=False)
