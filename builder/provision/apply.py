"""How does a bare disk become the seat? The seat's writer, with a journal on the disk and marks in its tags.

From its first write on the disk says that it is incomplete, until the last sector of the partition table
replaces that; a run that was interrupted in between is begun again by the next one, without asking.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from builder.errors import InputError, TrustError
from builder.files import file_digest, remove_tree
from builder.outputs.checksums import SUMS
from builder.provision.found import Found
from builder.provision.identity import Identity
from builder.provision.journal import Journal
from builder.provision.persona import Persona, edits_of, lay, new_persona
from builder.provision.seatdisk import as_tags
from builder.seat.images import Image
from builder.seat.plan import Environment, Plan
from builder.seat.write import Erase, Materials, Report, Writer, check_materials
from builder.tools import Tools
from builder.volume import target as targets
from builder.volume.luks import Pbkdf
from builder.volume.medium import Medium

VERB = "apply"


def image_id(image: Image) -> str:
    """What an image is recognised by: the digest of its checksums, which cover all of it."""
    return file_digest(image.tar.parent / SUMS)


def image_tags(image: Image, run: str) -> dict[str, str]:
    return {"image": image.version, "id": image_id(image)[:16], "run": run}


def refuse_images(images: Mapping[str, Image], plan: Plan, *, tests: bool) -> None:
    """Raise TrustError for what must not reach a person's disk: stand-in or unsigned images, cheap keys.

    ``tests`` permits it.
    """
    if tests:
        return
    hint = "to try it on a file: --for-tests"
    if names := [n for n, i in images.items() if i.standin]:
        raise TrustError(f"the image of {' and '.join(names)} is made of stand-in packages", hint=hint)
    if names := [n for n, i in images.items() if not i.signed]:
        raise TrustError(f"the image of {' and '.join(names)} is not signed", hint=hint)
    if plan.pbkdf is Pbkdf.FAST_TEST:
        raise TrustError(
            f"the seat {plan.seat} has `pbkdf: fast-test`, whose passphrases are cheap to guess", hint=hint
        )


def refuse_for_tests(identity: Identity, *, tests: bool) -> None:
    """Raise TrustError where --for-tests is used on what may be a person's disk."""
    if tests and not identity.for_tests:
        raise TrustError(
            f"{identity.path} is a disk, and --for-tests is for files",
            hint="a virtual disk for tests has a serial number that begins with SEATSMITH-TEST",
        )


def refuse_content(found: Found, plan: Plan, *, wipe: str | None) -> None:
    """Raise InputError for a disk that holds something whose loss was not agreed to by its id."""
    if found.empty or found.unfinished == plan.seat:
        return
    lines = "\n".join(found.lines())
    said = f"--wipe says {wipe}, which is not what is there now; " if wipe else ""
    if found.seat == plan.seat and wipe != found.id:
        raise InputError(
            f"the seat {plan.seat} is already on {found.path}:\n{lines}",
            hint=f"{said}replace one environment: seatsmith provision env NAME "
            f"(to lose everything and begin anew: --wipe {found.id})",
        )
    if wipe != found.id:
        raise InputError(
            f"{found.path} is not empty:\n{lines}", hint=f"{said}to lose all of it: --wipe {found.id}"
        )


@dataclass
class JournalledWriter(Writer):
    """The seat's writer on a disk, with its steps recorded on it."""

    run: str = field(default_factory=lambda: uuid4().hex[:12])
    journal: Journal | None = None
    personas: Mapping[str, Persona] = field(default_factory=dict)

    def render(self, environment: Environment, overlay: Path) -> None:
        super().render(environment, overlay)
        lay(self.personas.get(environment.name, {}), overlay)

    def note(self, step: str, **data: object) -> None:
        if self.journal is not None:
            self.journal.append(self.run, VERB, step, **data)

    def begin(self, erase: Erase, size: int) -> Erase:
        erased = super().begin(erase, size)
        self.journal = Journal(self.medium)
        self.note(
            "begin", seat=self.plan.seat, images={n: i.version for n, i in self.materials.images.items()}
        )
        return erased

    def write_environments(self, *args: object, **options: object) -> None:
        self.note("boot files and swap")
        super().write_environments(*args, **options)  # type: ignore[arg-type]
        self.note("environments")

    def verify(self) -> None:
        super().verify()
        self.note("verified")

    def commit(self, size: int) -> None:
        super().commit(size)
        self.note("done")


def apply(
    plan: Plan,
    materials: Materials,
    identity: Identity,
    *,
    tools: Tools,
    scratch: Path,
    erase: Erase = Erase.AUTO,
    hostnames: Mapping[str, str] | None = None,
    medium: Medium | None = None,
) -> Report:
    """Write the seat to the disk. All that must be refused was refused; what it holds is lost.

    ``hostnames`` are by environment; ``medium`` is for tests. Raises BusyError
    where the disk is in use, MachineError where it fails.
    """
    check_materials(plan, materials)
    named = hostnames or {}
    personas = {e.name: new_persona(hostname=named.get(e.name)) for e in plan.environments}
    edits = {name: {**materials.edits.get(name, {}), **edits_of(p)} for name, p in personas.items()}
    materials = replace(materials, edits=edits)
    targets.refuse_size(replace(identity.target, is_device=True), plan.disk_size)
    remove_tree(scratch)
    scratch.mkdir(mode=0o700, parents=True)
    with contextlib.ExitStack() as stack:
        stack.callback(remove_tree, scratch)
        fd = stack.enter_context(targets.held(identity.target))
        medium = medium or Medium(fd, identity.path, sector=identity.target.sector)
        disk = replace(identity.target, is_device=True)  # also a file is written in place, as the disk it is
        run = uuid4().hex[:12]
        marked = tagged(plan, materials.images, run)
        return JournalledWriter(
            marked, materials, disk, medium, tools, scratch, run=run, personas=personas
        ).write(erase, identity.size)


def tagged(plan: Plan, images: Mapping[str, Image], run: str) -> Plan:
    """The plan whose volumes say which image is in them."""
    volumes = tuple(
        replace(v, tags=tuple(as_tags(image_tags(images[v.name], run)))) if v.name in images else v
        for v in plan.group.volumes
    )
    return replace(plan, group=replace(plan.group, volumes=volumes))
