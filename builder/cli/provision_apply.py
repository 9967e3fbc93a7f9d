"""What do ``provision apply``, ``env`` and ``add`` do? Check, refuse, ask, and only then write."""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from builder import ui
from builder.cli.provision_show import Answer, reading
from builder.errors import InputError, UsageError
from builder.files import exclusive, json_digest, scratch_directory
from builder.profile import Profile
from builder.project import Project, find_project
from builder.provision.accounts import Hashes, ask_for_all, edits_for, read_for_all
from builder.provision.apply import (
    apply,
    refuse_content,
    refuse_for_tests,
    refuse_images,
    refuse_same_group,
)
from builder.provision.found import Found, look
from builder.provision.hostroots import at_rest
from builder.provision.identity import (
    Identity,
    check_identity,
    identify,
    refuse_running_system,
    to_expect,
)
from builder.provision.job import Job, Report
from builder.provision.keyfiles import to_be_opened, to_hold
from builder.provision.live import changing, running_host
from builder.provision.persona import read_hostnames
from builder.provision.replace import VERB, replace_environment
from builder.provision.seatdisk import open_seat
from builder.provision.space import extents_for
from builder.seat.hostfiles import digests_for
from builder.seat.images import Image, checked_image
from builder.seat.overlay import hosts
from builder.seat.plan import load_plan
from builder.seat.secrets import Passphrases, obtain
from builder.seat.write import Erase, Materials
from builder.sizes import parse_size
from builder.tools import Tools, ensure_tools
from builder.ui import size_text
from builder.volume.keys import wipe


def apply_command(
    seat: str,
    path: Path,
    *,
    wipe: str | None,
    yes: bool,
    serial: str | None,
    descriptors: Sequence[str],
    files: Sequence[str],
    passwords: Sequence[str],
    ask: bool,
    hostnames: Sequence[str],
    recovery: bool,
    erase: str,
    keys: Sequence[Path] | None,
    tests: bool,
    read_all: bool,
) -> Answer:
    if erase not in set(Erase):
        raise UsageError(f"--erase {erase}: accepted are {', '.join(Erase)}")
    project, tools = find_project(), ensure_tools()
    plan, _, profiles = load_plan(project, seat)
    identity = identify(path)
    check_identity(identity, pinned=plan.serial, expected=serial)
    refuse_running_system(identity)
    refuse_for_tests(identity, tests=tests)
    refuse_same_group(identity, plan)
    trusted = keys or [project.root / "ci/keys"]
    names = [e.name for e in plan.environments]
    named = read_hostnames(hostnames, names)
    given = read_for_all(passwords, profiles, tools)

    def checked() -> dict[str, Image]:
        return {e.name: checked_image(project, e.profile, trusted, tools) for e in plan.environments}

    with busy(project, identity):
        with (
            ui.current().step("Looking at the disk and checking the images"),
            ThreadPoolExecutor(1) as pool,
            reading(identity) as medium,
        ):
            checking = pool.submit(checked)  # reads images, while the disk is read
            found = look(medium, identity.size, tools, everything=read_all)
        images = checking.result()
        refuse_images(images, plan, tests=tests)
        refuse_content(found, plan, wipe=wipe)
        confirm(seat, identity, found, yes=yes, serial=serial, what="all of it will be lost")
        given = with_asked(given, profiles, tools) if ask else given
        edits = {name: edits_for(who, where=f"the image of {name}") for name, who in given.items()}
        with passphrases(names, descriptors, files) as secrets:
            report = apply(
                plan,
                Materials(images, profiles, secrets, recovery=recovery, edits=edits),
                identity,
                tools=tools,
                scratch=scratch_place(project, identity),
                erase=Erase(erase),
                hostnames=named,
            )
    text = f"{identity.path} is the seat {seat}: {size_text(report.written)} written and read back"
    data = {"seat": seat, "disk": identity.path, "written": report.written, "seconds": report.seconds}
    return with_recovery(data, text, report.recovery)


def env_command(
    name: str,
    path: Path,
    *,
    size: str | None,
    yes: bool,
    serial: str | None,
    descriptors: Sequence[str],
    files: Sequence[str],
    passwords: Sequence[str],
    ask: bool,
    hostnames: Sequence[str],
    recovery: bool,
    keys: Sequence[Path] | None,
    tests: bool,
    new: bool,
) -> Answer:
    project, tools = find_project(), ensure_tools()
    identity = identify(path)
    refuse_for_tests(identity, tests=tests)
    with reading(identity) as medium:
        disk = open_seat(medium, identity.size)
        seat = disk.seat
        plan, file, profiles = load_plan(project, seat)
        check_identity(identity, pinned=plan.serial, expected=serial)
        running = running_host(identity, disk.metadata.name, hosts(plan))
    environment = next((e for e in plan.environments if e.name == name), None)
    if environment is None:
        known = ", ".join(e.name for e in plan.environments)
        raise InputError(f"{name} is no environment of the seat {seat}", hint=f"there are: {known}")
    image = checked_image(project, environment.profile, keys or [project.root / "ci/keys"], tools)
    refuse_images({name: image}, plan, tests=tests)
    hostname = read_hostnames(hostnames, [name]).get(name)
    own = {name: profiles[name]}
    given = read_for_all(passwords, own, tools)
    roots = [h for h in at_rest(disk, name, digests_for(plan, profiles, name)) if h != running]
    roots += [h for h in to_be_opened(disk, plan, name, running) if h not in roots]
    holder = to_hold(disk, plan, name)
    holder = None if holder == running else holder
    boot = name in hosts(plan)
    with busy(project, identity), changing(identity, [name, *roots], tools, boot=boot) as medium:
        disk = open_seat(medium, identity.size)
        pending = disk.interrupted(VERB, name)
        if new and name in disk.names and not (pending and disk.tags(name).get("run") == pending.id):
            raise InputError(f"{name} is already on the disk", hint="replace it: seatsmith provision env")
        if not new and name not in disk.names:
            done = "finish adding it" if pending and pending.command == "add" else "add it"
            raise InputError(f"the disk has no {name}", hint=f"{done}: seatsmith provision add {name}")
        found = Found(identity.path, identity.size)
        what = f"{name} will be {'added' if new else 'replaced'}"
        confirm(seat, identity, found, yes=yes, serial=serial, what=what)
        hashes = (with_asked(given, own, tools) if ask else given).get(name, {})
        with (
            scratch_directory(scratch_place(project, identity)) as scratch,
            passphrases(
                asked_for(name, roots, holder), descriptors, files, present=disk.environments
            ) as secrets,
        ):
            job = Job(
                plan,
                profiles,
                environment,
                image,
                secrets,
                keep=tuple(file.seat.environments[name].keep),
                recovery=recovery,
                passwords=hashes,
                hostname=hostname,
                extents=extents_for(parse_size(size)) if size else None,
                old=not new,
                running=running,
            )
            report = replace_environment(disk, job, tools=tools, scratch=scratch)
    return replaced(name, image.version, report, recovery=recovery, passwords=bool(hashes))


def asked_for(name: str, roots: Sequence[str], holder: str | None) -> list[str]:
    """Environments whose passphrases the replacement of ``name`` needs.

    Its own, those of the hosts whose ``roots`` change or are searched for its key, and of the one that holds
    the keys of its containers.
    """
    return list(dict.fromkeys([name, *roots, *([holder] if holder else [])]))


def replaced(name: str, version: str, report: Report, *, recovery: bool, passwords: bool) -> Answer:
    text = f"{name} is now {version}: {size_text(report.encrypted)} written and read back"
    if report.kept:
        text += f", {size_text(report.kept)} of kept files carried over"
    if report.resumed:
        text = f"{name} is now {version}: an interrupted run was taken up where it was {report.resumed}"
    text += "".join(f"\n{line}" for line in report.hosts)
    if report.resumed == "switched" and passwords:
        text += "\nthe passwords are those that were given to that run"
    if recovery and report.recovery is None:
        text += (
            f"\nthe recovery key of that run was never shown; make another when {name} is open: "
            "systemd-cryptenroll --recovery-key"
        )
    data: dict[str, Any] = {
        "environment": name,
        "image": version,
        "run": report.run,
        "resumed": report.resumed,
        "kept": report.kept,
        "encrypted": report.encrypted,
        "dropped": report.dropped,
        "hosts": report.hosts,
        "seconds": report.seconds,
    }
    return with_recovery(data, text, {name: report.recovery} if report.recovery else {})


def with_recovery(
    data: dict[str, Any], text: str, recovery: dict[str, bytearray], *, what: str = "recovery key"
) -> Answer:
    """Add keys, as text and as a QR code, and wipe them: they are shown only here."""
    for name, key in recovery.items():
        said = key.decode()
        text += f"\n\n{what} of {name}, shown only now: {said}\n{qr_code(said)}"
        data.setdefault("recovery", {})[name] = said
        wipe(key)
    return data, text


def qr_code(text: str) -> str:
    """A QR code of half-block characters, to be photographed from the terminal."""
    import io

    import segno

    out = io.StringIO()
    segno.make(text, error="m", micro=False).terminal(out, border=2, compact=True)
    return out.getvalue()


def busy(project: Project, identity: Identity) -> Any:
    """Only one run over a disk at a time."""
    key = json_digest(os.fspath(identity.path.resolve()))[:16]
    return exclusive(project.cache / "work" / f"provision-{key}.lock", f"the disk {identity.path}")


def confirm(
    seat: str, identity: Identity, found: Found, *, yes: bool, serial: str | None, what: str
) -> None:
    """Have a person type the seat's name; --yes stands for that where the serial number is expected too.

    Raises UsageError without either.
    """
    if yes:
        if serial is None:
            raise UsageError("--yes needs --expect-serial", hint=to_expect(identity))
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask at", hint="for automation: --yes --expect-serial SERIAL"
        )
    say = ui.current().say
    for line in [*identity.lines(), *([] if found.empty else found.lines()), what]:
        say(line)
    if input(f"Type the seat's name to go on ({seat}): ").strip() != seat:
        raise UsageError("the name is another; nothing was written")


def with_asked(
    given: Mapping[str, Hashes], profiles: Mapping[str, Profile], tools: Tools
) -> dict[str, Hashes]:
    """Passwords that were given, and those that a person types now."""
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for passwords at", hint="give them by --password-file instead"
        )
    asked = ask_for_all(profiles, tools)
    return {name: {**asked.get(name, {}), **given.get(name, {})} for name in {*given, *asked}}


def passphrases(
    names: Sequence[str], descriptors: Sequence[str], files: Sequence[str], *, present: Collection[str] = ()
) -> Passphrases:
    """For volumes that are ``present`` the one that they have, for others a new one."""
    found = obtain(names, descriptors=descriptors, files=files, present=present)
    if found is None:
        raise UsageError(
            "a passphrase is needed, and there is no terminal to ask for it",
            hint="give one with --passphrase-fd N or --passphrase-file FILE",
        )
    return found


def scratch_place(project: Project, identity: Identity) -> Path:
    """Beside a file, where there is room for it; in the cache for a disk."""
    if identity.target.is_device:
        return project.cache / "work" / f"provision-{identity.path.resolve().name}"
    path = identity.path.absolute()
    return path.with_name(f".{path.name}.scratch")
