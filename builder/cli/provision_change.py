"""What do ``provision rollback``, ``drop``, ``remove`` and ``grow`` do? Changes without a new image."""

from pathlib import Path

from builder.cli.provision_apply import busy, confirm, scratch_place
from builder.cli.provision_show import Answer, reading
from builder.files import remove_tree
from builder.project import find_project
from builder.provision.change import Change
from builder.provision.found import Found
from builder.provision.identity import check_identity, identify
from builder.provision.live import changing
from builder.provision.replace import extents_for
from builder.provision.seatdisk import open_seat
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
    verb: str, name: str, path: Path, *, yes: bool, serial: str | None, size: str | None = None
) -> Answer:
    project, tools = find_project(), ensure_tools()
    identity = identify(path)
    with reading(identity) as medium:
        seat = open_seat(medium, identity.size).seat
    plan, _, _ = load_plan(project, seat)
    check_identity(identity, pinned=plan.serial, expected=serial)
    with busy(project, identity), changing(identity, [name], tools) as medium:
        disk = open_seat(medium, identity.size)
        found = Found(identity.path, identity.size)
        confirm(seat, identity, found, yes=yes, serial=serial, what=WHAT[verb].format(name=name))
        scratch = scratch_place(project, identity)
        remove_tree(scratch)
        scratch.mkdir(mode=0o700, parents=True)
        try:
            change = Change(disk, plan, tools, scratch)
            match verb:
                case "rollback":
                    change.roll_back(name)
                case "drop":
                    change.drop(name)
                case "remove":
                    change.remove(name)
                case _:
                    change.grow(name, extents_for(parse_size(size or "0")))
        finally:
            remove_tree(scratch)
    return {"environment": name, "verb": verb, "done": change.done}, "\n".join(change.done)
