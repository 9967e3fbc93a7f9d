"""What do ``provision plan`` and ``provision status`` show? Both only read the disk."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from builder.errors import InputError, MachineError
from builder.project import find_project
from builder.provision.forecast import (
    environment_lines,
    environment_rows,
    of_apply,
    of_replacement,
)
from builder.provision.found import Found, look
from builder.provision.hostroots import at_rest
from builder.provision.identity import Identity, check_identity, identify
from builder.provision.seatdisk import SeatDisk, open_seat
from builder.provision.space import free_count
from builder.seat.hostfiles import digests_for
from builder.seat.images import find_image
from builder.seat.plan import load_plan
from builder.tools import Tools, ensure_tools
from builder.volume.medium import Medium

Answer = tuple[dict[str, Any], str]


@contextlib.contextmanager
def reading(identity: Identity) -> Iterator[Medium]:
    """The disk, open for reading."""
    try:
        fd = os.open(identity.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise MachineError(f"cannot read {identity.path}: {e.strerror}", hint="run it as root") from e
    try:
        if identity.target.is_device:  # what LVM wrote through a partition is not in our cache
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        yield Medium(fd, identity.path, sector=identity.target.sector)
    finally:
        os.close(fd)


def plan_command(seat: str, path: Path, serial: str | None, *, read_all: bool = False) -> Answer:
    project, tools = find_project(), ensure_tools()
    plan, file, profiles = load_plan(project, seat)
    identity = identify(path)
    if plan.serial or serial:
        check_identity(identity, pinned=plan.serial, expected=serial)
    images = {e.name: find_image(project, e.profile) for e in plan.environments}
    with reading(identity) as medium:
        found = look(medium, identity.size, tools, everything=read_all)
        forecasts, rows = [], []
        if found.seat == seat and not found.unfinished:
            disk = open_seat(medium, identity.size)
            rows = environment_rows(disk, images, images)
            for name in (row["name"] for row in rows if row["name"] in images and not row["damaged"]):
                roots = at_rest(disk, name, digests_for(plan, profiles, name))
                keep = file.seat.environments[name].keep
                forecasts.append(of_replacement(disk, plan, name, identity, roots=roots, keep=keep))
        else:
            forecasts = [of_apply(plan, identity, found)]
    lines = ["The disk", *(f"  {line}" for line in identity.lines()), ""]
    lines += [f"On it now (found-id {found.id})", *found.lines(), *interrupted(found), ""]
    if rows:
        lines += [f"The seat {seat} is on it", *environment_lines(rows), ""]
    for forecast in forecasts:
        lines += [*forecast.lines(), ""]
    lines += [f"image of {n}: {i.tar.name if i else 'not built'}" for n, i in images.items()]
    lines.append("Nothing was written.")
    data = {
        "seat": seat,
        "disk": {"path": identity.path, "size": identity.size, "model": identity.model}
        | {"serial": identity.serial, "links": identity.links},
        "found_id": found.id,
        "found": [asdict(t) for t in found.things],
        "looked": found.looked,
        "unseen": found.unseen,
        "empty": found.empty,
        "unfinished": found.unfinished,
        "environments": rows,
        "forecasts": [f.data() for f in forecasts],
    }
    return data, "\n".join(lines)


def interrupted(found: Found) -> list[str]:
    run = found.runs[-1] if found.runs and not found.runs[-1].finished else None
    if run is None or found.unfinished:
        return []
    what = f"provision {run.command} {run.data.get('environment', '')}".strip()
    return [
        f"  `{what}` was interrupted after step {run.steps[-1]!r}: run it again, or `provision rollback`"
    ]


def status_command(path: Path) -> Answer:
    tools = ensure_tools()
    identity = identify(path)
    with reading(identity) as medium:
        disk = open_seat(medium, identity.size)
        return describe(disk, identity, tools)


def describe(disk: SeatDisk, identity: Identity, tools: Tools) -> Answer:
    project = find_project()
    images = {}
    for name in disk.environments:
        with contextlib.suppress(InputError):
            images[name] = find_image(project, profile_of(disk, name))
    rows = environment_rows(disk, images, planned_names(disk))
    runs = disk.journal.runs
    free = free_count(disk) * disk.metadata.group.extent_size
    lines = [*identity.lines(), "", f"Seat {disk.seat}, volume group {disk.metadata.name}"]
    lines += environment_lines(rows)
    lines.append(f"  {'free':<12} {free >> 20:>5} MiB")
    lines += ["", "Journal"]
    for run in runs[-8:]:
        when = datetime.fromtimestamp(run.records[0].time, UTC).strftime("%Y-%m-%d %H:%M")
        end = "undone" if run.steps[-1] == "undone" else "done" if run.finished else "interrupted"
        said = [str(run.data[k]) for k in ("environment", "image") if k in run.data]
        lines.append(f"  {when}  {' '.join([run.command, *said])}: {end}")
    pending = disk.journal.unfinished
    data = {
        "seat": disk.seat,
        "group": disk.metadata.name,
        "environments": rows,
        "free": free,
        "unfinished": {"records": [asdict(r) for r in pending.records]} if pending else None,
        "runs": [{"id": r.id, "verb": r.verb, "steps": r.steps, "data": r.data} for r in runs],
    }
    return data, "\n".join(lines)


def planned_names(disk: SeatDisk) -> list[str]:
    """The environments of the seat file, where there is one that can be used."""
    with contextlib.suppress(InputError):
        return [e.name for e in load_plan(find_project(), disk.seat)[0].environments]
    return []


def profile_of(disk: SeatDisk, name: str) -> str:
    """The profile of an environment, by the seat file where there is one."""
    plan, _, _ = load_plan(find_project(), disk.seat)
    return next((e.profile for e in plan.environments if e.name == name), name)
