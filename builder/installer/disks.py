"""Which disks could become the seat, and which of them is meant?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import ui
from builder.errors import BusyError, InputError, SeatsmithError, TrustError
from builder.provision.identity import Identity, identify, own_id, refuse_running_system
from builder.volume.diskid import NO_DISKS

BLOCK = Path("/sys/class/block")
PATIENCE = 60.0  # seconds until a disk, perhaps on a slow bus, must have shown up


@dataclass(frozen=True)
class Candidate:
    """A disk, and why it cannot be written, if it cannot."""

    identity: Identity
    problem: str | None = None


def disk_paths() -> list[Path]:
    """The whole disks of this machine."""
    return [
        Path("/dev", place.name)
        for place in sorted(BLOCK.iterdir())
        if not place.name.startswith(NO_DISKS)
        and not (place / "partition").exists()
        and (place / "size").read_text().strip() != "0"
        and (place / "ro").read_text().strip() == "0"
    ]


def candidates(paths: Sequence[Path]) -> list[Candidate]:
    """Each disk with what speaks against it."""
    found = []
    for path in paths:
        try:
            identity = identify(path)
        except SeatsmithError as e:
            ui.current().warn(e.message)
            continue
        problem = None if own_id(identity) else "it has no serial number or WWN of its own to know it by"
        try:
            refuse_running_system(identity)
        except BusyError as e:
            problem = e.message
        found.append(Candidate(identity, problem))
    return found


def with_serial(serial: str, paths: Callable[[], Sequence[Path]], *, patience: float) -> Candidate:
    """The disk with that serial number. Raises InputError where there is none, TrustError where two are."""
    until = time.monotonic() + patience
    while True:
        there = candidates(paths())
        found = [c for c in there if serial in c.identity.ids]
        if len(found) > 1:
            both = ", ".join(str(c.identity.path) for c in found)
            raise TrustError(f"{both} all have the serial number {serial}; nothing was written")
        if found:
            return found[0]
        if time.monotonic() >= until:
            break
        time.sleep(1)
    lines = "".join(f"\n  {c.identity.path}: {' or '.join(c.identity.ids) or 'none'}" for c in there)
    raise InputError(
        f"there is no disk with the serial number {serial}; there are{lines or ' no disks'}",
        hint="the answer file is for another PC, or the disk is not connected; nothing was written",
    )
