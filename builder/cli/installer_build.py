"""What does ``seatsmith installer build`` do? Gathers image, keys and answers; tells what was made."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder import ui
from builder.cli.provision_show import Answer
from builder.cli.seat_write import papers
from builder.errors import UsageError
from builder.installer.answers import read_answers
from builder.installer.build import PROFILE, SecureBoot, build_installer, results_of
from builder.installer.trial import install, trial_answers
from builder.machine.boottest import Wanted, boot_test
from builder.machine.places import private_directory
from builder.machine.seatdisk import written_seat
from builder.machine.trial import choose_accelerator
from builder.project import find_project
from builder.seat.images import checked_image
from builder.seat.plan import load_plan
from builder.seat.secrets import made_up
from builder.tools import ensure_tools
from builder.ui import size_text


def build_command(
    seat: str,
    answers: Path | None,
    *,
    with_images: bool,
    secure_boot: tuple[Path | None, Path | None],
    to: Path | None,
    keys: Sequence[Path] | None,
) -> Answer:
    key, certificate = secure_boot
    if (key is None) != (certificate is None):
        raise UsageError("--secure-boot-key and --secure-boot-certificate go together")
    project, tools = find_project(), ensure_tools()
    plan, _, _ = load_plan(project, seat)
    trusted = keys or [project.root / "ci/keys"]
    images = {}
    if with_images:
        images = {e.name: checked_image(project, e.profile, trusted, tools) for e in plan.environments}
    made = build_installer(
        project,
        seat,
        checked_image(project, PROFILE, trusted, tools),
        results=results_of(project, images),
        place=to or project.dist / "installers" / seat,
        keys=trusted,
        answers=read_answers(answers, [e.name for e in plan.environments]) if answers else None,
        tools=tools,
        secure_boot=SecureBoot(key, certificate) if key and certificate else None,
    )
    lines = [
        f"{made.stick}: the installer of {seat}, {size_text(made.size)}",
        f"  {made.uki}, {size_text(made.uki.stat().st_size)}",
    ]
    if made.signature is None:
        lines.append("  not signed: set SIGNING_KEY to sign (docs/signing.md)")
    data = {"seat": seat, "stick": made.stick, "uki": made.uki, "size": made.size}
    return data | {"signed": made.signature is not None}, "\n".join(lines)


def try_command(seat: str, *, quick: bool, keys: Sequence[Path] | None) -> tuple[dict[str, Any], str, bool]:
    project, tools = find_project(), ensure_tools()
    plan, _, _ = load_plan(project, seat)
    trusted = keys or [project.root / "ci/keys"]
    images = {e.name: checked_image(project, e.profile, trusted, tools) for e in plan.environments}
    root = checked_image(project, PROFILE, trusted, tools)
    assert root.uki is not None
    place = project.dist / "installer-tests" / seat
    made = build_installer(
        project,
        seat,
        root,
        results=results_of(project, images),
        place=place / "stick",
        keys=trusted,
        answers=trial_answers(seat),
        tools=tools,
    )
    passphrase = made_up().decode()
    there = place / "seats" / seat
    there.mkdir(parents=True, exist_ok=True)
    took = install(
        tools,
        made.stick,
        there / f"{seat}.img",
        size=plan.disk_size,
        passphrase=passphrase,
        accelerator=choose_accelerator(tools, root.uki),
        log=place / "installer.log",
        say=ui.current().say,
    )
    papers(there, plan, images, passphrase)
    with private_directory("kernel") as folder:
        subject = written_seat(replace(project, dist=place), seat, tools, folder)
        report = boot_test(subject, tools, place, wanted=Wanted(quick=quick), say=ui.current().say)
    text = f"installed in {took:.0f} s; then {len(report.records) - len(report.failed)} passed"
    text += f", {len(report.failed)} failed{report.took}: {report.page}"
    data = {"seat": seat, "seconds": took, "failed": [r.id for r in report.failed], "report": report.page}
    return data, text, report.ok
