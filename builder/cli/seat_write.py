"""What does ``seatsmith seat write`` do? Gathers images, passphrases and a target; tells what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import ui
from builder.errors import UsageError
from builder.files import exclusive, write_atomic, write_json
from builder.project import Project, find_project
from builder.seat.images import Image, checked_image
from builder.seat.plan import Plan, load_plan
from builder.seat.secrets import Passphrases, given, made_up, obtain
from builder.seat.show import as_data, as_svg
from builder.seat.write import Erase, Materials, Report, write_seat
from builder.tools import ensure_tools
from builder.ui import size_text
from builder.volume.keys import wipe
from builder.volume.luks import Pbkdf


@dataclass(frozen=True)
class Outcome:
    data: dict[str, Any]
    text: str
    ok: bool = True


def write_seat_command(
    name: str,
    target: Path | None,
    *,
    descriptors: Sequence[str],
    files: Sequence[str],
    separate: bool,
    test_passphrase: bool,
    recovery: bool,
    erase: str,
    overwrite: bool,
    keys: Sequence[Path] | None,
) -> Outcome:
    if erase not in set(Erase):
        raise UsageError(f"--erase {erase}: accepted are {', '.join(Erase)}")
    project = find_project()
    plan, _, profiles = load_plan(project, name)
    place = project.dist / "seats" / name
    own = target is None
    if target is None:
        place.mkdir(parents=True, exist_ok=True)
        target = place / f"{name}.img"
    tools = ensure_tools()
    images = {
        e.name: checked_image(project, e.profile, keys or [project.root / "ci/keys"], tools)
        for e in plan.environments
    }
    warn(images)
    names = [e.name for e in plan.environments]
    test = made_up_allowed(plan, asked=test_passphrase)
    with exclusive(project.cache / "work" / f"seat-{name}.lock", f"the seat {name}"):
        with passphrases(names, descriptors, files, separate=separate, test=test) as secrets:
            report = write_seat(
                plan,
                Materials(images, profiles, secrets, recovery=recovery),
                target.absolute(),
                tools=tools,
                scratch=scratch_place(project, name, target),
                erase=Erase(erase),
                overwrite=overwrite or own,
            )
            made = bytes(secrets[plan.host]).decode() if secrets.made_up else None
            if own:
                papers(place, plan, images, made)
        return outcome(plan, report, made)


def made_up_allowed(plan: Plan, *, asked: bool) -> bool:
    """Whether a passphrase is made up: where that was asked for, or the seat file says so."""
    if asked and plan.pbkdf is not Pbkdf.FAST_TEST:
        raise UsageError("--test-passphrase is for seats with `pbkdf: fast-test`")
    return asked or plan.test_passphrase


def passphrases(
    names: Sequence[str], descriptors: Sequence[str], files: Sequence[str], *, separate: bool, test: bool
) -> Passphrases:
    with given(names) as credentials:
        told = bool(descriptors or files or credentials)
    if test and not told:
        one = made_up()
        secrets = Passphrases({name: bytearray(one) for name in names})
        secrets.made_up = True
        return secrets
    found = obtain(names, descriptors=descriptors, files=files, separate=separate)
    if found is None:
        raise UsageError(
            "a passphrase is needed, and there is no terminal to ask for it",
            hint="give one with --passphrase-fd N or --passphrase-file FILE",
        )
    return found


def scratch_place(project: Project, name: str, target: Path) -> Path:
    """Beside an image file, where there is room for it; in the cache for a disk."""
    if target.is_block_device():
        return project.cache / "work" / f"seat-{name}"
    return target.absolute().with_name(f".{target.name}.scratch")


def warn(images: dict[str, Image]) -> None:
    say = ui.current().warn
    if names := [n for n, i in images.items() if i.standin]:
        say(f"{', '.join(names)}: made of stand-in packages, for tests alone")
    if names := [n for n, i in images.items() if not i.signed]:
        say(f"{', '.join(names)}: the image is not signed")


def papers(place: Path, plan: Plan, images: dict[str, Image], made: str | None) -> None:
    """What lies beside an image file: the plan as JSON and picture, the images' names, a test passphrase."""
    used = {n: {"version": i.version, "image": i.tar.name, "signed": i.signed} for n, i in images.items()}
    write_json(place / "plan.json", as_data(plan) | {"images": used})
    write_atomic(place / "plan.svg", as_svg(plan))
    path = place / f"{plan.seat}.passphrase"
    path.unlink(missing_ok=True)
    if made is not None:
        write_atomic(path, made, mode=0o600)


def outcome(plan: Plan, report: Report, made: str | None) -> Outcome:
    lines = [
        f"{report.path}: seat {plan.seat}, {size_text(report.written)} written and read back, "
        f"{size_text(report.encrypted)} of it encrypted"
    ]
    if plan.pbkdf is Pbkdf.FAST_TEST:
        lines.append("  for tests alone: its passphrases are cheap to guess (`pbkdf: fast-test`)")
    if made:
        lines.append(f"  test passphrase: {made}")
    for name, key in report.recovery.items():
        lines.append(f"  recovery key of {name}, shown only now: {key.decode()}")
    data = {
        "seat": plan.seat,
        "path": report.path,
        "written": report.written,
        "encrypted": report.encrypted,
        "erased": report.erased,
        "seconds": {k: round(v, 3) for k, v in report.seconds.items()},
        "recovery": {n: k.decode() for n, k in report.recovery.items()},
        "test_passphrase": made,
    }
    for key in report.recovery.values():
        wipe(key)
    return Outcome(data, "\n".join(lines))
