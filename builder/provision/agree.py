"""Does the seat file still describe the disk? Some of it was fixed when the seat was made."""

from collections.abc import Iterator

from builder.errors import InputError
from builder.provision.seatdisk import SeatDisk
from builder.seat.plan import Plan


def disagreements(disk: SeatDisk, plan: Plan) -> Iterator[tuple[str, str]]:
    """What a new environment would look for on the disk by a name that it has not; each with what to do."""
    if disk.metadata.name != plan.group.name:
        yield (
            f"the volume group on the disk is {disk.metadata.name}, and by the seat file {plan.group.name}",
            f"write `vg: {disk.metadata.name}` in the seat file",
        )
    if disk.esp.id != plan.esp.id:
        yield (
            f"the EFI system partition has the id {disk.esp.id}, and by the seat file {plan.esp.id}",
            "put `seed:` in the seat file back to what it was when the seat was made",
        )


def refuse_others(disk: SeatDisk, plan: Plan) -> None:
    """Raise InputError where environments by this seat file would not find their volumes on the disk."""
    for what, hint in disagreements(disk, plan):
        raise InputError(what, hint=hint)
