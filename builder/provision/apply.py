"""How does a bare disk become the seat? The seat's writer, with a journal on the disk and marks in its tags.

From its first write on the disk says that it is incomplete, until the last sector of the partition table
replaces that. A run that was interrupted in between is taken up by the next one, without asking: volumes
that were written and read back stay, as long as everything that they are made of is the same.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from builder import ui
from builder.errors import InputError, TrustError
from builder.files import file_digest, scratch_directory
from builder.outputs.checksums import SUMS
from builder.provision.found import Found
from builder.provision.hostroots import tags_for
from builder.provision.identity import Identity, refuse_exchanged
from builder.provision.journal import Journal
from builder.provision.persona import Persona, edits_of, lay, new_persona
from builder.provision.resume import CLEARED, VERB, WRITTEN, TakenUp, made_of, take_up
from builder.provision.seatdisk import as_tags
from builder.seat.hostfiles import files_for_all
from builder.seat.images import Image
from builder.seat.plan import Environment, Plan
from builder.seat.write import Erase, Materials, Report, Writer, check_materials
from builder.tools import Tools
from builder.volume import target as targets
from builder.volume.luks import Pbkdf
from builder.volume.medium import Medium
from builder.volume.xts import Written


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
    for name, image in images.items():
        if image.testing:
            raise TrustError(f"the image of {name} {image.testing}", hint=hint)
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


def refuse_same_group(identity: Identity, plan: Plan) -> None:
    """Raise InputError where another disk of this machine has a volume group of the name that ours gets.

    Started with both, lvm2 takes either; where it is the same seat, also all ids are the same.
    """
    others = targets.group_elsewhere(identity.path, plan.group.name) if identity.target.is_device else []
    if others:
        where = " and ".join(map(str, others))
        raise InputError(
            f"the volume group {plan.group.name} is on another disk of this machine, too ({where})",
            hint="take that disk out, or write another `vg:` (and `seed:`, for this seat) in the seat file",
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
        sure = bool(found.things or found.unfinished)
        known = "is not empty" if sure else "may hold something"
        instead = "" if sure else "read all of it to know: --read-all; "
        raise InputError(
            f"{found.path} {known}:\n{lines}",
            hint=f"{said}{instead}to lose all of it: --wipe {found.id}",
        )


@dataclass
class JournalledWriter(Writer):
    """The seat's writer on a disk, with its steps recorded on it."""

    run: str = field(default_factory=lambda: uuid4().hex[:12])
    journal: Journal | None = None
    personas: Mapping[str, Persona] = field(default_factory=dict)
    key: str = ""
    taken_up: TakenUp | None = None
    proved: list[Written] = field(default_factory=list)
    """What was read back already, of the environments of this run."""

    @property
    def missing(self) -> Sequence[Environment]:
        complete = self.taken_up.complete if self.taken_up else frozenset()
        return [e for e in self.plan.environments if e.name not in complete]

    def render(self, environment: Environment, overlay: Path) -> None:
        super().render(environment, overlay)
        lay(self.personas.get(environment.name, {}), overlay)

    def note(self, step: str, **data: object) -> None:
        if self.journal is not None:
            self.journal.append(self.run, VERB, step, **data)

    def begin(self, erase: Erase, size: int) -> Erase:
        if self.taken_up:
            self.journal = Journal(self.medium)
            self.note("taken up", kept=sorted(self.taken_up.complete))
            return self.taken_up.erased
        erased = super().begin(erase, size)
        self.journal = Journal(self.medium)
        images = {name: image.version for name, image in self.materials.images.items()}
        self.note("begin", seat=self.plan.seat, images=images, key=self.key, erased=erased.value)
        return erased

    def clear_free(self, size: int) -> None:
        if self.taken_up and self.taken_up.cleared:
            return
        super().clear_free(size)
        self.note(CLEARED)

    def write_environments(self, made: Mapping[str, Future[Path]], report: Report, *, dense: bool) -> None:
        self.note("boot files and swap")
        super().write_environments(made, report, dense=dense)
        self.note("environments")

    def write_environment(
        self, environment: Environment, path: Path, report: Report, *, dense: bool
    ) -> None:
        before = len(self.done)
        super().write_environment(environment, path, report, dense=dense)
        self.medium.sync()
        pieces = self.done[before:]
        with ui.current().step(
            f"Reading back {environment.name}", total=sum(p.size for p in pieces)
        ) as meter:
            self.medium.read_back(pieces, meter=meter)
        del self.done[before:]
        self.proved += pieces
        self.note(WRITTEN, volume=environment.name)

    def verify(self) -> None:
        super().verify()
        self.note("verified")

    def commit(self, size: int) -> None:
        super().commit(size)
        self.note("done")
        self.done += self.proved


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
    named = dict(hostnames or {})
    ids = {name: image_id(image) for name, image in materials.images.items()}
    personas = {e.name: new_persona(hostname=named.get(e.name)) for e in plan.environments}
    edits = {name: {**materials.edits.get(name, {}), **edits_of(p)} for name, p in personas.items()}
    targets.refuse_size(replace(identity.target, is_device=True), plan.disk_size)
    with (
        scratch_directory(scratch),
        targets.held(identity.target) as fd,
        medium or Medium(fd, identity.path, sector=identity.target.sector) as medium,
    ):
        refuse_exchanged(identity, fd)
        disk = replace(identity.target, is_device=True)  # also a file is written in place, as the disk it is
        key = made_of(plan, materials, ids, named | {"--erase": erase.value}, identity.size)
        taken_up = take_up(medium, plan, materials, key, tools=tools, scratch=scratch)
        run = taken_up.run if taken_up else uuid4().hex[:12]
        roots = {
            name: tags_for(files_for_all(plan, materials.profiles, name, scratch))
            for name in materials.images
        }
        return JournalledWriter(
            tagged(plan, materials.images, run, roots),
            replace(materials, edits=edits),
            disk,
            medium,
            tools,
            scratch,
            run=run,
            personas=personas,
            key=key,
            taken_up=taken_up,
        ).write(erase, identity.size)


def tagged(
    plan: Plan, images: Mapping[str, Image], run: str, roots: Mapping[str, Mapping[str, str]]
) -> Plan:
    """The plan whose volumes say which image is in them, and what belongs to them in roots of hosts."""
    volumes = tuple(
        replace(v, tags=tuple(as_tags(image_tags(images[v.name], run) | dict(roots[v.name]))))
        if v.name in images
        else v
        for v in plan.group.volumes
    )
    return replace(plan, group=replace(plan.group, volumes=volumes))
