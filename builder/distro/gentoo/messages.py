"""What does emerge mean when it cannot fulfil a request? One error that says what to change."""

import re
from collections.abc import Callable

from builder.distro.base import UnknownPackages
from builder.errors import InputError

NOT_THERE = re.compile(r'no (?:binary packages|ebuilds)[^"]*to satisfy "([^"]+)"')
NEEDED_BY = re.compile(r'\(dependency required by "([^"]+)" \[(?!argument)')
MASKED = re.compile(r'^!!! All [^"]*that could satisfy "([^"]+)" have been masked', re.M)
MASKED_BY = re.compile(r"^- (\S+?)(?:::\S+)? \(masked by: (.+)\)$", re.M)
USE_CHANGES = re.compile(r"^The following USE changes are necessary.*?\n((?:.+\n)+)", re.M)
USE_CHANGE = re.compile(r"^[<>=~]*(\S+?)-\d\S* (.+)$", re.M)
CONFLICT = "resulting in a slot conflict:"
PULLED_IN = re.compile(r"^ +(\S+) required by \((\S+?):", re.M)
BLOCK = re.compile(r'^\[blocks[^]]*\] .*\("([^"]+)" is (?:hard|soft) blocking ([^,)]+)', re.M)
UNMET = re.compile(
    r"^- (\S+?)(?:::\S+)? USE=.*\n\n +The following REQUIRED_USE[^\n]*\n((?: +\S.*\n)+)", re.M
)
SHOWN = 20  # lines of what is not understood


def not_installable(said: str) -> InputError:
    """The error for emerge's answer: unknown names, masks, USE flags, conflicts, or its own words."""
    for meaning in (unknown, masked, use_changes, required_use, slot_conflict, blocked):
        if (error := meaning(said)) is not None:
            return error
    starts = ("!!!", "-", "(", "emerge:")
    lines = [line.strip() for line in said.splitlines() if line.strip().startswith(starts)]
    shown = "\n".join(f"  {line}" for line in (lines or said.strip().splitlines())[:SHOWN])
    return InputError(
        f"portage cannot install this together:\n{shown}",
        hint="see packages.add and gentoo in the profile",
    )


def unknown(said: str) -> InputError | None:
    names = list(dict.fromkeys(NOT_THERE.findall(said)))
    if not names:
        return None
    if needed := NEEDED_BY.search(said):
        who = needed[1].partition("::")[0]
        return InputError(
            f"{who} needs {names[0]}, of which there is neither an ebuild nor a binary package",
            hint="see packages.add in the profile",
        )
    return UnknownPackages({n: f"portage: there is no package {n!r}, binary or ebuild" for n in names})


def masked(said: str) -> InputError | None:
    found = MASKED.search(said)
    if found is None:
        return None
    rows = MASKED_BY.findall(said)
    needed = NEEDED_BY.search(said)
    by = f", which {needed[1].partition('::')[0]} needs," if needed else ""
    lines = "".join(f"\n  {cpv}: {reason}" for cpv, reason in rows)
    reasons = " ".join(reason for _, reason in rows)
    hints: list[tuple[str, Callable[[str], str]]] = [
        ("keyword", lambda name: f"accept it with gentoo.keywords in the profile: {{{name}: ['~amd64']}}"),
        ("license", lambda _: "accept its license with ACCEPT_LICENSE in gentoo.make_conf"),
    ]
    name = re.sub(r"^[<>=~]+|(?<=\w)-\d.*$|:.*$", "", found[1])
    hint = next((make(name) for word, make in hints if word in reasons), None)
    return InputError(
        f"{found[1]}{by} is masked:{lines}",
        hint=hint
        or "see gentoo.masks and unmasks in the profile; what is newer than the binhost's is masked as well",
    )


def use_changes(said: str) -> InputError | None:
    found = USE_CHANGES.search(said)
    rows = USE_CHANGE.findall(found[1]) if found else []
    if not rows:
        return None
    wanted = ", ".join(f"{name}: [{', '.join(flags.split())}]" for name, flags in rows)
    lines = "".join(f"\n  {name}: {flags}" for name, flags in rows)
    return InputError(
        f"other USE flags are needed:{lines}",
        hint=f"write into the profile: gentoo.package_use: {{{wanted}}}",
    )


def required_use(said: str) -> InputError | None:
    found = UNMET.search(said)
    if found is None:
        return None
    rules = "".join(f"\n  {line.strip()}" for line in found[2].splitlines())
    name = re.sub(r"-\d.*$", "", found[1])
    return InputError(
        f"the USE flags of {found[1]} do not go together; it demands:{rules}",
        hint=f"set them with gentoo.package_use in the profile, for {name}",
    )


def slot_conflict(said: str) -> InputError | None:
    _, conflict, rest = said.partition(CONFLICT)
    rows = dict.fromkeys(PULLED_IN.findall(rest))
    if not conflict or not rows:
        return None
    lines = "".join(f"\n  {who} needs {atom}" for atom, who in rows)
    return InputError(
        f"two packages need different versions of a third:{lines}",
        hint="remove one of them, or mask its newer version with gentoo.masks in the profile",
    )


def blocked(said: str) -> InputError | None:
    rows = dict.fromkeys(BLOCK.findall(said))
    if not rows:
        return None
    lines = "".join(f"\n  {atom} and {who.strip()}" for atom, who in rows)
    return InputError(
        f"these cannot be installed beside each other:{lines}", hint="see packages.remove in the profile"
    )
