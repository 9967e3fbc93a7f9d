"""How does a new profile begin? As a file that names the usual settings, most of them commented out."""

import os
import tempfile
from pathlib import Path

from builder.errors import InputError, MachineError
from builder.profile.checks import PART_NAME, PROFILE_NAME
from builder.profile.load import profile_names, resolve_profile
from builder.profile.model import Distribution
from builder.profile.positions import FileError, display_path
from builder.profile.rule import shown
from builder.profile.show import scalar
from builder.project import Project


def new_profile(
    project: Project,
    name: str,
    *,
    extends: list[str],
    distribution: Distribution | None = None,
    vt: int | None = None,
) -> Path:
    """Write ``profiles/NAME.yaml``, whole or not at all. Raises InputError where it exists or is wrong."""
    if wrong := PROFILE_NAME.problem(name):
        raise InputError(f"the name {wrong}", hint=f"accepted: {PROFILE_NAME.accepted}")
    path = project.profiles / f"{name}.yaml"
    if os.path.lexists(path):
        raise InputError(f"{display_path(path)} exists and is left as it is", hint="choose another name")
    if vt is None:
        vt = free_vt(project)
    text = new_text(name, extends=extends, distribution=distribution, vt=vt)
    try:
        resolve_profile(project, name, text=text)
    except FileError as e:
        wrong = "; ".join(p.message for p in e.problems)
        raise InputError(f"the new profile would not be usable: {wrong}") from e
    create(path, text)
    return path


def create(path: Path, text: str) -> None:
    """Make a file that is not there yet, whole or not at all."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.stem}.", encoding="utf-8"
        ) as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
            os.fchmod(f.fileno(), 0o644)
            os.link(f.name, path)  # unlike a rename, refuses to replace what somebody else has just made
    except FileExistsError as e:
        raise InputError(f"{display_path(path)} exists and is left as it is") from e
    except OSError as e:
        raise MachineError(f"cannot write {display_path(path)}: {e.strerror}") from e


def free_vt(project: Project) -> int:
    """The first VT from 8 on that no other profile names; broken profiles count for nothing here."""
    taken = set()
    for name in profile_names(project):
        try:
            taken.add(resolve_profile(project, name).profile.display.vt)
        except InputError:
            continue
    return next(vt for vt in range(8, 64) if vt not in taken or vt == 63)


def new_text(name: str, *, extends: list[str], distribution: Distribution | None, vt: int) -> str:
    names = [scalar(base) for base in extends]
    bases = f"extends: {names[0]}" if len(names) == 1 else f"extends: [{', '.join(names)}]"
    said = (
        f"distribution: {distribution.value}" if distribution else "# distribution: arch       # or gentoo"
    )
    package = "app-editors/vim" if distribution is Distribution.GENTOO else "vim"
    return f"""\
# yaml-language-server: $schema=schema.json
# {name}: what is this environment for?
# All settings are in docs/profiles.md; `seatsmith profile show {name}` shows what this comes to.
{bases if extends else "# extends: _desktop"}
description: {scalar(name.replace("-", " ").capitalize())}
{said}
# hostname: {name}
# timezone: Europe/Berlin
# locale: en_US.UTF-8
# keymap: us
# bootable: true           # bring a kernel, so that it can be the host of a seat

display:
  vt: {vt}
  session: i3
  # autologin: user        # one of the users

# users:                   # never with a password: that is set when a seat is provisioned
#   - name: user
#     groups: [audio, video, input]
#     ssh_keys:
#       - ssh-ed25519 AAAA… user@example

# packages:
#   add: [{package}]
#   remove: []

# services:
#   enable: []
#   mask: []

# sizes:
#   root: 8GiB
"""


def checked_words(words: list[str]) -> list[str]:
    """Names from the command line, fit to be written into a file."""
    for word in words:
        if wrong := PART_NAME.problem(word):
            raise InputError(f"--extends {shown(word)}: {wrong}", hint=f"accepted: {PART_NAME.accepted}")
    return words
