"""How does a disk that ``seatsmith seat write`` wrote become the subject of a boot test?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import InputError
from builder.machine.hardware import Accelerator
from builder.machine.kernel import unpack_uki
from builder.machine.subject import EnvironmentFacts, Kernel, Subject
from builder.machine.trial import choose_accelerator
from builder.profile import Profile, load_profile
from builder.profile.model import DisplayServer, Isolation
from builder.project import Project
from builder.seat.load import load_seat
from builder.tools import Tools


def seat_place(project: Project, seat: str) -> Path:
    """Where ``seatsmith seat write`` left the seat."""
    return project.dist / "seats" / seat


def written_seat(
    project: Project,
    seat: str,
    tools: Tools,
    folder: Path,
    *,
    full: bool = True,
    host: str | None = None,
    accelerator: Accelerator | None = None,
) -> Subject:
    """The seat as it lies in ``dist/seats``; kernel and initrd are taken off its disk into ``folder``.

    ``host`` chooses another line of the boot menu than the first. Raises InputError where the seat was not
    written, or its passphrase is not known.
    """
    place = seat_place(project, seat)
    disk = place / f"{seat}.img"
    if not disk.is_file():
        load_seat(project, seat)  # says which seats there are, where this is none of them
        raise InputError(f"{disk} does not exist", hint=f"run: make seat SEAT={seat}")
    plan = json.loads((place / "plan.json").read_text())
    entry = chosen_entry(plan, host)
    offered = offered_entry(tools, disk, plan, entry["id"])
    uki = take_uki(tools, disk, plan, offered, folder)
    kernel, initrd, own = unpack_uki(uki, folder)
    facts = {e["name"]: facts_of(e, load_profile(project, e["profile"])) for e in environments(plan)}
    return Subject(
        name=seat,
        disk=disk.resolve(),
        host=facts[entry["host"]],
        containers=[facts[name] for name in entry["beside"]],
        fast=Kernel(kernel=kernel, initrd=initrd, cmdline=f"{offered['options']} {own}".strip()),
        passphrase=passphrase(place / f"{seat}.passphrase"),
        full=full and host in (None, plan["entries"][0]["host"]),
        accelerator=accelerator or choose_accelerator(tools, uki),
    )


def environments(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [volume["environment"] for volume in plan["volumes"] if volume["environment"]]


def chosen_entry(plan: Mapping[str, Any], host: str | None) -> dict[str, Any]:
    entries: list[dict[str, Any]] = plan["entries"]
    for entry in entries:
        if host in (None, entry["host"]):
            return entry
    offered = ", ".join(entry["host"] for entry in entries)
    raise InputError(f"the boot menu of {plan['seat']} does not offer {host!r} as host; it offers {offered}")


def offered_entry(tools: Tools, disk: Path, plan: Mapping[str, Any], entry: str) -> dict[str, str]:
    """A line of the boot menu as the seat's disk has it: what was provisioned since has another kernel."""
    said = mtools("mtype", tools, disk, plan, f"::/loader/entries/{entry}.conf")
    return {key: value.strip() for key, _, value in (line.partition(" ") for line in said.splitlines())}


def take_uki(
    tools: Tools, disk: Path, plan: Mapping[str, Any], entry: Mapping[str, str], folder: Path
) -> Path:
    """Copy a host's kernel image off the seat's ESP: what is tested is what the disk carries."""
    path = folder / "host.efi"
    mtools("mcopy", tools, disk, plan, f"::{entry['efi']}", path)
    return path


def mtools(program: str, tools: Tools, disk: Path, plan: Mapping[str, Any], *words: str | Path) -> str:
    """What one of mtools says of the seat's ESP."""
    argv = [program, "-i", f"{disk}@@{plan['esp']['start']}", *words]
    hint = f"does this show the seat? seatsmith seat inspect {disk}"
    return tools.run(argv, env={"MTOOLS_SKIP_CHECK": "1"}, hint=hint).text


def facts_of(environment: Mapping[str, Any], profile: Profile) -> EnvironmentFacts:
    return EnvironmentFacts(
        name=environment["name"],
        vt=environment["vt"],
        user=profile.display.autologin,
        person=profile.display.autologin or next((user.name for user in profile.users), "root"),
        session=profile.display.session,
        wayland=profile.display.server is DisplayServer.WAYLAND,
        network=profile.network.veth,
        keyfile=environment["keyfile"],
        strict=profile.isolation is Isolation.STRICT,
    )


def passphrase(path: Path) -> str:
    if not path.is_file():
        raise InputError(
            f"{path} is missing: a boot test types the passphrase, so it needs a seat made for tests",
            hint="write the seat with `pbkdf: fast-test` and `test_passphrase: true`",
        )
    return path.read_text().rstrip("\n")
