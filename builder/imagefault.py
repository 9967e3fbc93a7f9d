"""Why could an image not be built? What package managers and mkosi said, with the line that asked for it."""

import re
from collections.abc import Iterator
from pathlib import Path

from builder import treecheck
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
LACKING = (  # as treecheck.py says it, and systemd-firstboot, which looks into the tools tree
    rf"^{treecheck.LACKING}(unit|locale|keymap|keyboard layout|time zone) (\S+?)(?:; near: (.+))?$",
    r"^Timezone (\S+) is not valid\.$",
)
SETTINGS = {"locale": "locale", "keymap": "keymap", "keyboard layout": "keymap", "time zone": "timezone"}
HINTS = {
    "unit": "it must come with a package, or be among the profile's files",
    "keyboard layout": "it follows from the keymap; the profile's files can have an"
    " etc/X11/xorg.conf.d/00-keyboard.conf of their own",
}


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


def lacking(project: Project, profile: Profile, log: Path) -> InputError | None:
    """The error for what the profile asks for and the image has not, with the places; else None."""
    found = lacking_in(log.read_text(errors="replace"))
    if not found:
        return None
    resolved = resolve_profile(project, profile.name)
    lines = []
    for kind, name, near in found:
        if kind == "unit":
            place = resolved.origin(("services", "enable", profile.services.enable.index(name)))
        else:
            place = resolved.origin((SETTINGS[kind],))
        key = f" {SETTINGS[kind]}:" if kind in SETTINGS else ""
        asked = f"; did you mean {' or '.join(near)}?" if near else ""
        lines.append(f"{place or profile.name}:{key} {treecheck.LACKING}{kind} {name}{asked}")
    hints = [HINTS[kind] for kind in HINTS if kind in {kind for kind, _, _ in found}]
    return InputError("\n".join(lines), hint=hints[0] if hints else None)


def lacking_in(text: str) -> list[tuple[str, str, list[str]]]:
    """What mkosi's log says is lacking: the kind, the name, and names like it."""
    found = [(kind, name, near.split()) for kind, name, near in re.findall(LACKING[0], text, flags=re.M)]
    return found or [("time zone", name, []) for name in re.findall(LACKING[1], text, flags=re.M)]


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
