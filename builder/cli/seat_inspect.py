"""What does ``seatsmith seat inspect`` do? Reads a disk, compares it with its plan, opens volumes."""

import stat
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder import ui
from builder.cli.seat_write import Outcome
from builder.errors import InputError, TrustError
from builder.project import find_project
from builder.seat.inspect import Disk, Inspection, VolumeFound, compare, inspect_disk, open_volume
from builder.seat.load import seat_names
from builder.seat.plan import load_plan
from builder.seat.secrets import for_reading, may_be_had
from builder.tools import Tools, ensure_tools
from builder.ui import size_text
from builder.volume.ext4read import Entry, Filesystem

Listing = list[dict[str, Any]]
GIVE = "give --passphrase-fd or --passphrase-file"
KEPT_BY = {"systemd-recovery": "recovery key", "systemd-tpm2": "TPM2", "systemd-fido2": "FIDO2 token"}


def inspect_command(
    image: Path,
    seat: str | None,
    *,
    descriptors: Sequence[str],
    files: Sequence[str],
    list_files: bool,
    digests: bool,
) -> Outcome:
    if not image.exists():
        if image.with_name(f".{image.name}.part").exists():
            raise InputError(f"there is no {image}: writing it was interrupted", hint="write it again")
        raise InputError(f"there is no {image}")
    if list_files and not (descriptors or files or may_be_had()):
        raise InputError("the files are encrypted", hint=GIVE)
    listings: dict[str, Listing] = {}
    with Disk(image) as disk, tempfile.TemporaryDirectory(prefix="seatsmith.") as scratch:
        tools = ensure_tools()
        found = inspect_disk(disk, tools)
        names = [v.name for v in found.volumes if v.header]
        with for_reading(names, descriptors=descriptors, files=files, wanted=list_files) as secrets:
            if list_files and names and not secrets:
                raise InputError("the files are encrypted", hint=GIVE)
            for volume in found.volumes:
                if volume.name in secrets:
                    title = f"Reading the files of {volume.name}"
                    with ui.current().step(title):
                        listing = look_into(
                            disk, found, volume, secrets[volume.name], tools, Path(scratch), digests=digests
                        )
                    listings[volume.name] = listing if list_files else []
    project = find_project()
    wanted = seat or found.seat
    if wanted is not None and (seat is not None or wanted in seat_names(project)):
        compare(found, load_plan(project, wanted)[0])
    return Outcome(as_data(found, listings), "\n".join(as_lines(found, listings)), ok=found.ok)


def look_into(
    disk: Disk,
    found: Inspection,
    volume: VolumeFound,
    passphrase: bytearray,
    tools: Tools,
    scratch: Path,
    *,
    digests: bool,
) -> Listing:
    """The files of an encrypted volume; damage becomes a problem of the inspection.

    Raises TrustError for a wrong passphrase.
    """
    listing: Listing = []
    try:
        filesystem = open_volume(disk, volume, passphrase, tools, scratch)
        volume.filesystem_id = filesystem.uuid
        if not filesystem.clean:
            found.problems.append(f"volume {volume.name}: its filesystem was not unmounted")
        for entry in filesystem.walk():
            listing.append(as_entry(filesystem, entry, digests=digests))
    except InputError as e:
        found.problems.append(f"volume {volume.name}: {e.message}")
    except TrustError as e:
        hint = f"for one volume alone: --passphrase-fd {volume.name}:N"
        raise TrustError(f"volume {volume.name}: {e.message}", hint=hint) from None
    volume.files = len(listing)
    return listing


def as_entry(filesystem: Filesystem, entry: Entry, *, digests: bool) -> dict[str, Any]:
    inode = entry.inode
    data: dict[str, Any] = {
        "path": f"/{entry.path}",
        "mode": stat.filemode(inode.mode),
        "uid": inode.uid,
        "gid": inode.gid,
        "size": inode.size,
    }
    if entry.is_link:
        data["target"] = filesystem.target(inode)
    if entry.is_file and digests:
        data["sha256"] = filesystem.digest(inode)
    return data


def as_data(found: Inspection, listings: dict[str, Listing]) -> dict[str, Any]:
    table = found.table
    return {
        "path": found.path,
        "size": found.size,
        "seat": found.seat,
        "ok": found.ok,
        "compared": found.compared,
        "problems": found.problems,
        "disk_id": table.disk_id if table else None,
        "partitions": [asdict(p) for p in table.partitions] if table else [],
        "esp_files": found.esp_files,
        "group": {"name": found.group.name, "id": found.group.id} if found.group else None,
        "volumes": [asdict(v) for v in found.volumes],
        "files": {name: listing for name, listing in listings.items() if listing},
    }


def as_lines(found: Inspection, listings: dict[str, Listing]) -> list[str]:
    lines = [f"{found.path}: {found.size} bytes" + (f", seat {found.seat}" if found.seat else "")]
    if found.table:
        lines.append(f"GPT {found.table.disk_id}")
        for p in found.table.partitions:
            lines.append(f"  {p.name:<16} {p.start:>15} {p.size:>15}  {size_text(p.size)}")
    lines += [f"    {name}  {size_text(size)}" for name, size in found.esp_files.items()]
    if found.group:
        lines.append(f"LVM volume group {found.group.name} {found.group.id}, metadata {found.group.seqno}")
        lines += [line for volume in found.volumes for line in volume_lines(volume)]
    for name, listing in listings.items():
        lines += [f"Files of {name}"] if listing else []
        for e in listing:
            extra = f" -> {e['target']}" if "target" in e else f"  {e['sha256']}" if "sha256" in e else ""
            lines.append(f"{e['mode']} {e['uid']:>5} {e['gid']:>5} {e['size']:>11} {e['path']}{extra}")
    lines += [f"problem: {p}" for p in found.problems]
    if found.ok:
        lines.append(
            "It is what the plan says." if found.compared else "It is whole; no plan to compare with."
        )
    return [harmless(line) for line in lines]


def harmless(line: str) -> str:
    """Names come from a disk that may be anybody's; they must not move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in line)


def volume_lines(volume: VolumeFound) -> list[str]:
    what = "swap signature" if volume.swap_signature else "no header"
    if volume.header:
        what = f"LUKS2 {volume.header.uuid}"
    lines = [
        f"  {volume.name:<16} {volume.offset:>15} {volume.size:>15}  {size_text(volume.size):>9}  {what}"
    ]
    for slot in volume.header.keyslots if volume.header else ():
        kind = KEPT_BY.get(slot.token or "", "key file" if slot.random else "passphrase")
        cost = f"{slot.pbkdf}, {slot.cost} rounds" + (f", {slot.memory >> 10} MiB" if slot.memory else "")
        lines.append(f"    keyslot {slot.number}: {kind}, {cost}")
    if volume.files is not None:
        lines.append(f"    ext4 {volume.filesystem_id}, {volume.files} names")
    return lines
