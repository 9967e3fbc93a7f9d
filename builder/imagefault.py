"""Why could an image not be built? What package managers and mkosi said, with the line that asked for it."""

import re
from collections.abc import Iterator
from pathlib import Path

from builder import unitcheck
from builder.distro.base import UnknownPackages
from builder.errors import InputError, MachineError, SeatsmithError, ToolError, TrustError
from builder.profile import Profile, resolve_profile
from builder.project import Project
from builder.run import tail_of

UNTRUSTED = (  # as pacman says it, and emerge
    r"^(?:error: .*(?:signature|PGP|corrupted|key \").*"
    r"|!!! Error extracting .*GnuPG verification failed|[ *\t]+binpkg appears unsigned.*"
    r"|!!! Digest verification failed.*|!!! Fetched file: .* VERIFY FAILED!)$"
)
LACKING_UNIT = rf"^{unitcheck.LACKING}(\S+?)(?:; near: (.+))?$"


def unknown_packages(project: Project, profile: Profile, unknown: UnknownPackages) -> InputError:
    return InputError("\n".join(located(project, profile, unknown)), hint=unknown.hint)


def located(project: Project, profile: Profile, unknown: UnknownPackages) -> Iterator[str]:
    """The package manager's answers, each with the place of the profile that asked."""
    resolved = resolve_profile(project, profile.name)
    added = resolved.profile.packages.add
    for name, answer in unknown.answers.items():
        position = resolved.origin(("packages", "add", added.index(name))) if name in added else None
        yield f"{position}: {answer}" if position else f"{answer} (it is in Seatsmith's own package sets)"


def build_failure(name: str, log: Path, kept: Path) -> SeatsmithError:
    """The error that mkosi's log tells of: a full disk or a bad signature is no failure of mkosi."""
    text = log.read_text(errors="replace")
    hint = f"log: {kept}"
    if "No space left on device" in text:
        return MachineError(f"mkosi could not build {name}: No space left on device", hint=hint)
    if refused := list(dict.fromkeys(re.findall(UNTRUSTED, text, flags=re.M))):
        lines = "\n".join(f"  {line.strip(' *')}" for line in refused[:5])
        return TrustError(f"the package manager refused what {name} is made of:\n{lines}", hint=hint)
    return ToolError(f"mkosi could not build {name}:\n{indented(tail_of(log))}", hint=hint)


def lacking_units(project: Project, profile: Profile, log: Path) -> InputError | None:
    """The error for units that the profile turns on and the image has not, with their places; else None."""
    resolved = resolve_profile(project, profile.name)
    enabled = resolved.profile.services.enable
    lines = []
    for unit, near in re.findall(LACKING_UNIT, log.read_text(errors="replace"), flags=re.M):
        position = resolved.origin(("services", "enable", enabled.index(unit)))
        asked = f"; did you mean {' or '.join(near.split())}?" if near else ""
        lines.append(f"{position}: {unitcheck.LACKING}{unit}{asked}")
    hint = "it must come with a package, or be among the profile's files"
    return InputError("\n".join(lines), hint=hint) if lines else None


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
