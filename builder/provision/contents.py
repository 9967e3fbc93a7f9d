"""What goes into the new filesystem of an environment? Decided, and refused, before anything is written.

Its image, under the seat's own files; what the old one has that is to be kept; and what is given anew, which
goes before both: who names a password or a host name now wants that one, also where `keep:` has its file.
"""

import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from builder import ui
from builder.errors import InputError
from builder.provision.accounts import edits_for, hashes_in, users_of
from builder.provision.hostroots import VolumeRoot, carry_records
from builder.provision.job import Job
from builder.provision.keep import Kept
from builder.provision.persona import HOSTNAME, HOSTS, edits_of, lay, new_persona, persona_in
from builder.seat.images import Image
from builder.seat.overlay import keyfile_of, render_overlay
from builder.seat.tree import Edit
from builder.volume.ext4read import Filesystem, Missing


@dataclass(frozen=True)
class Contents:
    """The parts of a new filesystem."""

    image: Image
    overlay: Path
    """A directory with the seat's own files."""
    edits: Mapping[str, Edit]
    """Changes of small files of the image."""
    kept: Kept | None
    size: int
    """Bytes of what is kept."""

    def write_to(self, out: BinaryIO) -> None:
        self.image.write_tree(self.overlay, out, kept=self.kept, edits=self.edits)


def gather(job: Job, old: Filesystem | None, scratch: Path, *, held: Collection[str] = ()) -> Contents:
    """The contents of what replaces ``old``. ``scratch`` is a directory, in which ``overlay`` is made.

    ``held`` are the containers whose key a host is to have; with the next volume of others it gets one.
    Raises InputError where kept files cannot be read, or lie where the seat has something of another kind.
    """
    overlay, users = scratch / "overlay", users_of(job.profiles[job.name])
    keyed = render_overlay(job.plan, job.profiles, job.name, overlay)
    for name in set(keyed) - set(held):
        (overlay / keyfile_of(name)).unlink()
    persona = new_persona(hostname=job.hostname, old=persona_in(old) if old else None)
    kept = None
    if old and job.keep:
        given = edits_for(job.passwords, where="the old environment, whose file is kept,")
        given |= edits_of(persona) if job.hostname and is_file(old, HOSTS) else {}
        kept = Kept(old, job.keep, given)
        for path in kept.missing:  # may be meant, and may be misspelt
            ui.current().warn(
                f"{path} is to be kept, and the present {job.name} has none: the image's is taken"
            )
    anew = [HOSTNAME] if job.hostname else []
    lay(persona, overlay, without=kept.roots if kept else (), anew=anew)
    if old and job.is_host:
        carry_records(VolumeRoot(old), overlay)
    if kept:
        refuse_clashes(kept, overlay)
    taken_over = hashes_in(old, users) if old else {}
    edits = edits_for(job.passwords, taken_over, where=f"the image of {job.name}") | edits_of(persona)
    return Contents(job.image, overlay, edits, kept, kept.check() if kept else 0)


def is_file(filesystem: Filesystem, path: str) -> bool:
    try:
        return filesystem.find(path).is_file
    except Missing:
        return False


def refuse_clashes(kept: Kept, overlay: Path) -> None:
    """Raise InputError where the seat has a file and a directory of that name is kept, or the reverse."""
    for path in sorted(overlay.rglob("*")):
        name, ours = path.relative_to(overlay).as_posix(), stat.S_ISDIR(path.lstat().st_mode)
        theirs = kept.is_folder(name)
        if theirs is not None and theirs != ours:
            words = {True: "a directory", False: "a file"}
            raise InputError(
                f"/{name} is {words[theirs]} in the old environment, where `keep:` keeps it, "
                f"and {words[ours]} of the seat's own in the new one",
                hint=f"move it away in the old environment, or keep less than {kept.root_of(name)}",
            )
