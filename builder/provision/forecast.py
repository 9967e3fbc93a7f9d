"""What would provisioning do to a disk? What is there, what will be, what is kept and what is lost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.errors import InputError
from builder.provision.agree import disagreements
from builder.provision.apply import image_id, refuse_same_group
from builder.provision.found import Found
from builder.provision.identity import Identity
from builder.provision.seatdisk import NEW, PREVIOUS, SeatDisk
from builder.provision.space import place_for
from builder.seat.images import Image
from builder.seat.overlay import hosts
from builder.seat.plan import Plan
from builder.seat.show import rows
from builder.ui import size_text
from builder.volume import gpt, luks


@dataclass(frozen=True)
class Range:
    """Bytes of the disk and what becomes of them: ``written``, ``kept``, ``freed`` or ``lost``."""

    what: str
    fate: str
    offset: int
    size: int


@dataclass
class Forecast:
    """What a command would do; ``obstacles`` keep it from being done."""

    title: str
    ranges: list[Range] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        out = [self.title]
        width = max((len(r.what) for r in self.ranges), default=0)
        for r in self.ranges:
            end = r.offset + r.size - 1
            out.append(
                f"  {r.fate:8} {r.what:{width}}  bytes {r.offset:>14} to {end:>14}  {size_text(r.size)}"
            )
        out += [f"  {note}" for note in self.notes]
        out += [f"  cannot be done: {o}" for o in self.obstacles]
        if not self.obstacles:
            out += [f"  to do it: {c}" for c in self.commands]
        return out

    def data(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "ranges": [vars(r) for r in self.ranges],
            "notes": self.notes,
            "obstacles": self.obstacles,
            "commands": self.commands,
        }


def of_apply(plan: Plan, identity: Identity, found: Found) -> Forecast:
    """What `provision apply` would do to a disk that is to become the seat."""
    forecast = Forecast(f"`provision apply {plan.seat}` would write the whole seat:")
    forecast.ranges = [
        Range(f"{t.kind} {t.name}".strip(), "lost", t.offset, t.size) for t in found.things if t.depth <= 1
    ]
    if identity.size < plan.disk_size:
        forecast.obstacles.append(
            f"the disk has {identity.size} bytes, the seat needs {plan.disk_size}: "
            f"{size_text(plan.disk_size - identity.size)} are missing"
        )
        return forecast
    try:
        refuse_same_group(identity, plan)
    except InputError as e:
        forecast.obstacles.append(f"{e.message}; {e.hint}")
    forecast.ranges += [
        Range(f"{what} ({which})" if which else what, "written", offset, size)
        for what, which, offset, size in rows(plan)
        if what not in ("free extents", "backup GPT")
    ]
    backup = gpt.encode(plan.table)[0]
    at = identity.size - plan.disk_size + backup[0]
    forecast.ranges.append(Range("backup GPT", "written", at, len(backup[1])))
    command = f"seatsmith provision apply {plan.seat} --disk {identity.given}"
    wipe = f" --wipe {found.id}" if not found.empty and found.unfinished != plan.seat else ""
    forecast.commands.append(command + wipe)
    return forecast


def of_replacement(
    disk: SeatDisk,
    plan: Plan,
    name: str,
    identity: Identity,
    *,
    extents: int | None = None,
    roots: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> Forecast:
    """What `provision env NAME` would do: where the new volume goes, and what stays.

    ``roots`` are hosts whose files for it change, ``keep`` the paths that are carried over.
    """
    forecast = Forecast(f"`provision env {name}` would write beside what is in use:")
    forecast.notes = [
        f"{host}'s files for {name} change, in copies of a few of its extents in free room" for host in roots
    ]
    carried = ", ".join([*keep, "passwords, machine-id, host keys and host name"])
    forecast.notes.append(f"carried over: {carried} (but for passwords and a host name that are given anew)")
    forecast.obstacles += [f"{what}; {hint}" for what, hint in disagreements(disk, plan)]
    unit = disk.metadata.group.extent_size
    wanted = extents or disk.volume(name).extents
    try:
        place, dropped = place_for(disk, name, wanted)
    except InputError as e:
        forecast.obstacles.append(e.message)
        return forecast
    base = disk.pv.start + disk.metadata.group.offset(place.first)
    ranges = [
        Range("LVM metadata", "written", disk.pv.start + disk.metadata.area, disk.metadata.area_size),
        Range(f"LUKS2 header of the new {name}", "written", base, luks.HEADER_SIZE),
        Range(
            f"filesystem of the new {name}",
            "written",
            base + luks.HEADER_SIZE,
            place.count * unit - luks.HEADER_SIZE,
        ),
    ]
    if name in hosts(plan):
        ranges.append(Range("kernel and boot entry on the ESP", "written", disk.esp.start, disk.esp.size))
    for other in disk.names:
        older = other == name + PREVIOUS
        fate = "freed" if other in dropped or older else "kept"
        note = f"{other}, for rollback" if other == name else other
        ranges.append(Range(f"volume {note}", fate, disk.offset(other), disk.size_of(other)))
    forecast.ranges = sorted(ranges, key=lambda r: r.offset)
    forecast.commands.append(f"seatsmith provision env {name} --disk {identity.given}")
    return forecast


def environment_rows(
    disk: SeatDisk, images: Mapping[str, Image | None], known: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """The environments on the disk, each with its image, the previous one, and what dist/ has.

    ``known`` are environments of the seat file; one whose LUKS2 header is damaged may have no other sign.
    """
    found, damaged = [], disk.damaged(known)
    for name in (n for n in disk.names if n in damaged or n in disk.environments):
        tags, image = disk.tags(name), images.get(name)
        before = disk.tags(name + PREVIOUS) if name + PREVIOUS in disk.names else None
        header = disk.header(name)
        found.append(
            {
                "name": name,
                "image": tags.get("image", "unknown"),
                "offset": disk.offset(name),
                "size": disk.size_of(name),
                "luks": header.uuid if header else None,
                "damaged": damaged.get(name),
                "weak_keyslots": [s.number for s in header.keyslots if s.weak] if header else [],
                "previous": before.get("image", "unknown") if before is not None else None,
                "previous_damaged": before is not None and disk.header(name + PREVIOUS) is None,
                "unfinished": name + NEW in disk.names,
                "available": image.version if image else None,
                "current": image is not None and image_id(image)[:16] == tags.get("id"),
            }
        )
    return found


def environment_lines(found: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in found:
        parts = [f"image {row['image']}"]
        if row["damaged"]:
            parts.append(f"its LUKS2 header is damaged ({row['damaged']}): provision header-restore")
        if row["previous"]:
            why = " (its LUKS2 header is damaged)" if row["previous_damaged"] else ""
            parts.append(f"before: {row['previous']}{why}")
        if row["unfinished"]:
            parts.append("a replacement was interrupted")
        if row["available"] and not row["current"]:
            parts.append(f"in dist/: {row['available']}")
        if row["weak_keyslots"]:
            parts.append("cheap passphrase, for tests alone")
        lines.append(f"  {row['name']:<12} {size_text(row['size']):>9}  {', '.join(parts)}")
    return lines
