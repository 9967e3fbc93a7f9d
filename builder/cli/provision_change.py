"""What do ``provision rollback``, ``drop``, ``remove`` and ``grow`` do? Changes without a new image."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from builder.cli.provision_apply import busy, confirm, passphrases, scratch_place
from builder.cli.provision_show import Answer, reading
from builder.files import scratch_directory
from builder.project import find_project
from builder.provision.change import Change, goal_of_rollback, without
from builder.provision.found import Found
from builder.provision.hostroots import at_rest, digests_of
from builder.provision.identity import check_identity, identify
from builder.provision.live import changing, running_host
from builder.provision.seatdisk import open_seat
from builder.provision.space import extents_for
from builder.seat.overlay import hosts
from builder.seat.plan import load_plan
from builder.sizes import parse_size
from builder.tools import ensure_tools

WHAT = {
    "rollback": "{name} will be the previous one again",
    "drop": "the previous {name} will be lost",
    "remove": "{name} and all of its data will be lost",
    "grow": "{name} will be larger",
}


def change_command(
    verb: str,
    name: str,
    path: Path,
    *,
    yes: bool,
    serial: str | None,
    size: str | None = None,
    descriptors: Sequence[str] = (),
    files: Sequence[str] = (),
) -> Answer:
    project, tools = find_project(), ensure_tools()
    identity = identify(path)
    with reading(identity) as medium:
        disk = open_seat(medium, identity.size)
        seat = disk.seat
        plan, _, profiles = load_plan(project, seat)
        running = running_host(identity, disk.metadata.name, hosts(plan))
        goal = goal_of_rollback(disk, name) if verb == "rollback" else None
        back = digests_of(disk, goal) if goal and goal in disk.names else {}
        if verb == "remove":
            back = without(plan, disk, name)
        roots = [host for host in at_rest(disk, name, back) if host != running]
        known = [environment.name for environment in plan.environments]
        boot = name in hosts(plan) or name not in known  # it may have been a host
    check_identity(identity, pinned=plan.serial, expected=serial)
    with contextlib.ExitStack() as stack:
        stack.enter_context(busy(project, identity))
        medium = stack.enter_context(changing(identity, [name, *roots], tools, boot=boot))
        disk = open_seat(medium, identity.size)
        found = Found(identity.path, identity.size)
        confirm(seat, identity, found, yes=yes, serial=serial, what=WHAT[verb].format(name=name))
        scratch = stack.enter_context(scratch_directory(scratch_place(project, identity)))
        secrets = stack.enter_context(passphrases(roots, descriptors, files, present=roots)) if roots else {}
        change = Change(disk, plan, tools, scratch, profiles=profiles, passphrases=secrets, running=running)
        match verb:
            case "rollback":
                change.roll_back(name)
            case "drop":
                change.drop(name)
            case "remove":
                change.remove(name)
            case _:
                change.grow(name, extents_for(parse_size(size or "0")))
    return {"environment": name, "verb": verb, "done": change.done}, "\n".join(change.done)
