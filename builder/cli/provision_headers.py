"""What do ``provision header-save``, ``header-restore`` and ``enroll`` do? LUKS2 headers move."""

from collections.abc import Sequence
from pathlib import Path

from builder.cli.provision_apply import busy, confirm, passphrases, scratch_place, with_recovery
from builder.cli.provision_show import Answer, reading
from builder.errors import BusyError, UsageError
from builder.files import scratch_directory
from builder.project import Project, find_project
from builder.provision import enroll, headers
from builder.provision.found import Found
from builder.provision.identity import Identity, check_identity, identify
from builder.provision.live import changing
from builder.provision.seatdisk import SeatDisk, open_seat, opened
from builder.seat.load import seat_names
from builder.seat.plan import load_plan
from builder.tools import ensure_tools
from builder.ui import size_text
from builder.volume.keys import recovery_key, wipe


def save_command(
    name: str, path: Path, to: Path, *, own_key: bool, descriptors: Sequence[str], files: Sequence[str]
) -> Answer:
    headers.check_place(to)
    project, tools = find_project(), ensure_tools()
    identity = identify(path)
    keys = {}
    with (
        busy(project, identity),  # also its scratch directory is the one of other commands
        passphrases([name], descriptors, files, present=[name]) as secrets,
        reading(identity) as medium,
    ):
        disk = open_seat(medium, identity.size)
        with (
            scratch_directory(scratch_place(project, identity)) as scratch,
            opened(disk, name, secrets[name], tools, scratch),
        ):
            pass  # the passphrase is right: what it encrypts can be opened by who knows the volume's
        secret = secrets[name]
        if own_key:
            keys[name] = secret = recovery_key()
        data = headers.seal(disk, name, secret)
    headers.save(to, data)
    text = f"{to}: the header of {name}, encrypted, {size_text(len(data))}; keep it apart from the disk"
    answer = {"environment": name, "file": str(to), "size": len(data)}
    return with_recovery(answer, text, keys, what="key of this backup")


def restore_command(
    name: str,
    path: Path,
    source: Path,
    *,
    yes: bool,
    serial: str | None,
    descriptors: Sequence[str],
    files: Sequence[str],
) -> Answer:
    project, tools = find_project(), ensure_tools()
    sealed = headers.load(source)
    identity = identify(path)
    check_disk(project, identity, serial)
    with busy(project, identity), changing(identity, [name], tools) as medium:
        disk = open_seat(medium, identity.size)
        refuse_unfinished(disk)
        found = Found(identity.path, identity.size)
        what = f"the header of {name} will be the one of the backup, with its passphrases"
        confirm(disk.seat, identity, found, yes=yes, serial=serial, what=what)
        with passphrases([name], descriptors, files, present=[name]) as secrets:
            try:
                headers.restore(disk, name, sealed, secrets[name])
            finally:
                wipe(secrets[name])
    return {"environment": name}, f"{name} has the header of {source} again"


def check_disk(project: Project, identity: Identity, serial: str | None) -> None:
    """Raise TrustError for another disk than is meant: also by the seat file, where we have that one."""
    with reading(identity) as medium:
        seat = open_seat(medium, identity.size).seat
    pinned = load_plan(project, seat)[0].serial if seat in seat_names(project) else None
    check_identity(identity, pinned=pinned, expected=serial)


def refuse_unfinished(disk: SeatDisk) -> None:
    if pending := disk.journal.unfinished:
        raise BusyError(
            f"a run of `provision {pending.command}` on this disk was interrupted", hint="finish it first"
        )


def enroll_command(
    name: str,
    path: Path,
    *,
    tpm2: str | None,
    fido2: str | None,
    pcrs: str,
    pin_file: str | None,
    yes: bool,
    serial: str | None,
    descriptors: Sequence[str],
    files: Sequence[str],
) -> Answer:
    if (tpm2 is None) == (fido2 is None):
        raise UsageError("say which device: --tpm2 DEVICE or --fido2 DEVICE, such as `auto`")
    project, tools = find_project(), ensure_tools()
    pin = enroll.read_pin(pin_file) if pin_file else None
    device = enroll.tpm2(tpm2, pcrs=pcrs, pin=pin) if tpm2 else enroll.fido2(str(fido2), pin=pin)
    identity = identify(path)
    check_disk(project, identity, serial)
    with busy(project, identity), changing(identity, [name], tools) as medium:
        disk = open_seat(medium, identity.size)
        refuse_unfinished(disk)
        found = Found(identity.path, identity.size)
        kind = "TPM2" if tpm2 else "FIDO2 token"
        what = f"the {kind} will open {name}, too"
        confirm(disk.seat, identity, found, yes=yes, serial=serial, what=what)
        try:
            with (
                scratch_directory(scratch_place(project, identity)) as scratch,
                passphrases([name], descriptors, files, present=[name]) as secrets,
            ):
                enroll.enroll(disk, name, device, secrets[name], tools=tools, scratch=scratch)
        finally:
            if pin is not None:
                wipe(pin)
    return {"environment": name, "device": kind}, f"the {kind} opens {name}, too; its passphrase still does"
