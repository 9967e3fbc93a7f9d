"""What of an interrupted ``apply`` can stay? Volumes that it read back, where all else is the same."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError, TrustError
from builder.files import json_digest
from builder.provision.journal import Journal, Run
from builder.seat.plan import Environment, Plan
from builder.seat.write import Erase, Materials
from builder.tools import Tools
from builder.volume import luks
from builder.volume.keys import wipe
from builder.volume.medium import Medium
from builder.volume.target import marked_as

VERB = "apply"
WRITTEN, CLEARED = "written", "cleared"  # steps: a volume is whole on the disk; free room was overwritten


@dataclass(frozen=True)
class TakenUp:
    """An interrupted run, and the environments of it that are whole."""

    run: str
    erased: Erase
    cleared: bool
    complete: frozenset[str]


def made_of(
    plan: Plan, materials: Materials, ids: Mapping[str, str], hostnames: Mapping[str, str], size: int
) -> str:
    """A digest of all but secrets that a seat's disk is made from. ``ids`` are those of the images."""
    profiles = {name: profile.model_dump_json() for name, profile in materials.profiles.items()}
    return json_digest([repr(plan), dict(ids), profiles, dict(hostnames), size])


def take_up(
    medium: Medium, plan: Plan, materials: Materials, key: str, *, tools: Tools, scratch: Path
) -> TakenUp | None:
    """The interrupted run that made just this; None where there is none, or nothing of it can stay.

    Environments are written anew where their passphrase is another now, or passwords are given for their
    users; all of them where recovery keys are wanted, which nobody has seen, or where hosts hold key files.
    """
    if marked_as(medium.read(0, 512)) != plan.seat:
        return None
    run = Journal(medium).unfinished
    if run is None or run.verb != VERB or run.data.get("key") != key:
        return None
    keyed = any(e.keyfile for e in plan.environments)
    stay = [] if materials.recovery or keyed else written(run, plan.environments)
    complete = frozenset(
        e.name
        for e in stay
        if not materials.edits.get(e.name) and opens(medium, plan, e, materials, tools, scratch)
    )
    return TakenUp(run.id, Erase(run.data["erased"]), CLEARED in run.steps, complete)


def written(run: Run, environments: Iterable[Environment]) -> list[Environment]:
    names = {record.data["volume"] for record in run.records if record.step == WRITTEN}
    return [e for e in environments if e.name in names]


def opens(
    medium: Medium, plan: Plan, environment: Environment, materials: Materials, tools: Tools, scratch: Path
) -> bool:
    """Whether a volume has the header that it is to have, and its passphrase opens it."""
    start = plan.volume(environment.name).offset
    try:
        header = luks.read_header(lambda offset, length: medium.read(start + offset, length))
        if header.uuid != environment.luks_id:
            return False
        copy = scratch / f"{environment.name}.header"
        copy.write_bytes(medium.read(start, header.payload))
        wipe(luks.unlock(tools, copy, materials.passphrases[environment.name]))
        copy.unlink()
    except (InputError, TrustError):
        return False
    return True
