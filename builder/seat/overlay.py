"""Which files does a seat add to its images? fstab, crypttab, bundles of containers, the boot menu."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import InputError
from builder.profile import Profile
from builder.seat.plan import BootEntry, Kind, Plan
from builder.tools import Tools

if TYPE_CHECKING:
    from builder.render import Container

KEYFILES = "etc/cryptsetup-keys.d"
KEYFILE_SIZE = (
    4096  # one block of the filesystem: the writer puts the key in its place on the way to the disk
)
UKIS = "EFI/seatsmith"  # not EFI/Linux: systemd-boot would list them a second time, without our command line
MENU_SECONDS = 3
ENTRY_SIZE = 512


def new_keyfile() -> bytearray:
    """A random key for the volume of an environment. The caller wipes it."""
    return bytearray(os.urandom(KEYFILE_SIZE))


def keyfile_of(name: str) -> str:
    """Where a host has the key of an environment's volume (without a leading slash)."""
    return f"{KEYFILES}/{name}.key"


def as_in_seat(plan: Plan, profiles: Mapping[str, Profile], name: str) -> Profile:
    """The profile of an environment under the name and on the terminal that the seat gives it."""
    environment = next(e for e in plan.environments if e.name == name)
    profile = profiles[name]
    display = profile.display.model_copy(update={"vt": environment.vt})
    return profile.model_copy(update={"name": name, "display": display})


def hosts(plan: Plan) -> list[str]:
    return [entry.host for entry in plan.entries]


def render_overlay(plan: Plan, profiles: Mapping[str, Profile], name: str, dest: Path) -> list[str]:
    """Render what goes over the image of environment ``name`` into ``dest``.

    Returns the names of those environments for whose key a file of KEYFILE_SIZE placeholder bytes was left.
    """
    from builder.render import HostDisk, render_host, render_image
    from builder.seat.hostfiles import encode, files_for, record_of

    dest.mkdir(parents=True)
    own = as_in_seat(plan, profiles, name)
    if own.display.vt != profiles[name].display.vt or own.name != profiles[name].name:
        render_image(own, dest)
    if name not in hosts(plan):
        return []
    beside = [e for e in plan.environments if e.name != name]
    swap = next((v for v in plan.volumes if v.kind is Kind.SWAP), None)
    disk = HostDisk(
        esp=f"PARTUUID={plan.esp.id}",
        swap=f"/dev/{plan.group.name}/{swap.name}" if swap else None,
    )
    containers = [container_of(plan, profiles, e.name) for e in beside]
    render_host(own, containers, dest, disk=disk)
    for other in beside:
        record = dest / record_of(other.name)
        record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        said = encode(files_for(plan, profiles, name, other.name, dest.with_name(f"{dest.name}.rendered")))
        record.write_bytes(said.data)
        record.chmod(said.mode)
    keyed = [e.name for e in beside if e.keyfile]
    for environment in keyed:
        path = dest / keyfile_of(environment)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(b"to be replaced by the writer of the disk. ".ljust(KEYFILE_SIZE, b"#"))
        path.chmod(0o600)
    return keyed


def container_of(plan: Plan, profiles: Mapping[str, Profile], name: str) -> "Container":
    """An environment as its hosts know it."""
    from builder.render import Container, Volume

    # by the volume's name: a replacement takes over the name in one step (docs/decisions/060)
    return Container(as_in_seat(plan, profiles, name), Volume(f"/dev/{plan.group.name}/{name}"))


def esp_files(plan: Plan, ukis: Mapping[str, Path], tools: Tools) -> dict[str, Path | bytes]:
    """Everything on the EFI system partition: systemd-boot, its menu, and a UKI for each host.

    The menu's entries carry the command line, since it names the seat's volumes and the UKI is the same on
    every seat (Boot Loader Specification, type 1; the UKI's stub takes over the options it is started with).
    """
    boot = (tools.root or Path("/")) / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    files: dict[str, Path | bytes] = {
        "EFI/BOOT/BOOTX64.EFI": boot,
        "EFI/systemd/systemd-bootx64.efi": boot,
        "loader/loader.conf": loader_conf(plan).encode(),
        "loader/entries.srel": b"type1\n",
    }
    for entry in plan.entries:
        uki = f"{UKIS}/{entry.host}.efi"
        files[uki] = ukis[entry.host]
        files[f"loader/entries/{entry.id}.conf"] = entry_text(plan, entry, uki)
    return files


def entry_text(plan: Plan, entry: BootEntry, uki: str) -> bytes:
    """An entry of the boot menu, of exactly one sector: so that it can be replaced by one atomic write."""
    lines = [
        f"title    {entry.title}",
        f"sort-key {[e.id for e in plan.entries].index(entry.id):02d}-{entry.id}",
        f"efi      /{uki}",
        f"options  {entry.options}",
    ]
    text = "".join(f"{line}\n" for line in lines)
    if len(text.encode()) > ENTRY_SIZE:
        raise InputError(f"the boot menu's entry {entry.id} is longer than {ENTRY_SIZE} bytes")
    return filled(text)


def filled(text: str) -> bytes:
    """An entry of the boot menu with empty lines behind it, as many as make it one sector."""
    return text.encode().ljust(ENTRY_SIZE, b"\n")


def loader_conf(plan: Plan) -> str:
    timeout = MENU_SECONDS if len(plan.entries) > 1 else 0
    return f"default {plan.entries[0].id}.conf\ntimeout {timeout}\neditor  no\nauto-entries no\n"
