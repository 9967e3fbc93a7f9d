"""What does ``seatsmith installer build`` do? Gathers image, keys and answers; tells what was made."""

from collections.abc import Sequence
from pathlib import Path

from builder.cli.provision_show import Answer
from builder.errors import UsageError
from builder.installer.answers import read_answers
from builder.installer.build import PROFILE, SecureBoot, build_installer, results_of
from builder.project import find_project
from builder.seat.images import checked_image
from builder.seat.plan import load_plan
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
        answers=read_answers(answers) if answers else None,
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
