"""How does a plan become a disk? Offline, without root, and so that nothing half-written looks whole."""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from builder import ui
from builder.errors import InputError, MachineError
from builder.files import no_space_named, scratch_directory, sync_directory
from builder.profile import Profile
from builder.seat.edges import EDGE, edges
from builder.seat.images import Image
from builder.seat.overlay import esp_files, hosts, keyfile_of, new_keyfile, render_overlay
from builder.seat.plan import Environment, Kind, Plan
from builder.seat.tree import Edit
from builder.tools import Tools
from builder.volume import esp, ext4, gpt, luks, lvm, xts
from builder.volume import target as targets
from builder.volume.diskid import ids_of
from builder.volume.keys import recovery_key, volume_key, wipe
from builder.volume.medium import Medium
from builder.volume.target import Target
from builder.volume.xts import Range, Written, checksum

COPY = 1 << 20


class Erase(StrEnum):
    """What becomes of the data that a disk held: discarded (TRIM), overwritten, or left in free places."""

    AUTO = "auto"
    DISCARD = "discard"
    DENSE = "dense"
    NONE = "none"


@dataclass(frozen=True)
class Materials:
    """What a seat is made from; all by environment. The caller wipes the passphrases."""

    images: Mapping[str, Image]
    profiles: Mapping[str, Profile]
    passphrases: Mapping[str, bytearray]
    recovery: bool = False
    """Give each volume a recovery key, too."""
    edits: Mapping[str, Mapping[str, Edit]] = field(default_factory=dict)
    """By environment: changes of small files of its image."""


@dataclass
class Report:
    """What was written; ``recovery`` has the recovery keys, to be shown once and wiped."""

    path: Path
    erased: Erase
    seconds: dict[str, float] = field(default_factory=dict)
    encrypted: int = 0
    """Bytes of payload that were written."""
    written: int = 0
    recovery: dict[str, bytearray] = field(default_factory=dict)


def write_seat(
    plan: Plan,
    materials: Materials,
    target: Path,
    *,
    tools: Tools,
    scratch: Path,
    erase: Erase = Erase.AUTO,
    overwrite: bool = False,
    workers: int | None = None,
) -> Report:
    """Write the seat to ``target``, a block device or a file (made beside it and renamed when it is whole).

    ``scratch`` is a directory to be made for filesystems on their way (in the clear; removed at the end).
    ``overwrite`` permits the loss of what the target holds. All that was written is read back and compared
    before the partition table and the physical volume's label, written last, make it a seat.

    Raises InputError for a target that is too small or holds something, BusyError for one in use,
    MachineError where writing or reading back fails.
    """
    check_materials(plan, materials)
    final = targets.look_at(target)
    refuse_target(plan, tools, final, overwrite=overwrite)
    if not final.is_device:
        targets.refuse_loop(target)
    place = final if final.is_device else replace(final, path=target.with_name(f".{target.name}.part"))
    with (
        scratch_directory(scratch),
        no_space_named(target),
        targets.held(place) as fd,
        removed_on_failure(place),
        Medium(fd, place.path, sector=place.sector, workers=workers) as medium,
    ):
        writer = Writer(plan, materials, place, medium, tools, scratch)
        report = writer.write(erase, final.size if final.is_device else plan.disk_size)
        if not final.is_device:
            place.path.replace(target)
            sync_directory(target.parent)
    return replace(report, path=target)


@contextlib.contextmanager
def removed_on_failure(place: Target) -> Iterator[None]:
    """An unfinished file is removed; an unfinished device keeps the mark that says so."""
    try:
        yield
    except BaseException:
        if not place.is_device:
            place.path.unlink(missing_ok=True)
        raise


def check_materials(plan: Plan, materials: Materials) -> None:
    """Raise InputError where an environment lacks its image, a host its UKI, or a volume its passphrase."""
    names = [e.name for e in plan.environments]
    if missing := [n for n in names if n not in materials.images]:
        raise InputError(f"there is no image for {', '.join(missing)}")
    if missing := [n for n in hosts(plan) if materials.images[n].uki is None]:
        raise InputError(
            f"the image of {', '.join(missing)} brings no kernel (UKI), so it cannot be a host",
            hint="set `bootable: true` in the profile and build the image again",
        )
    if missing := [n for n in names if not materials.passphrases.get(n)]:
        raise InputError(f"the passphrase of {', '.join(missing)} is missing or empty")


def refuse_target(plan: Plan, tools: Tools, target: Target, *, overwrite: bool) -> None:
    """Raise InputError for a target that is too small, is another disk, or holds what must not be lost."""
    targets.refuse_size(target, plan.disk_size)
    if target.is_device and plan.serial and plan.serial not in (found := ids_of(target.path)):
        known = f"known as {' and '.join(found)}" if found else "without a serial number"
        raise InputError(f"{target.path} is a disk {known}; the seat is for {plan.serial}")
    if overwrite or not target.size:
        return
    with target.path.open("rb") as f:
        if targets.marked_as(f.read(512)) == plan.seat:
            return
    if found_things := targets.findings(tools, target, group=plan.group.name):
        lines = "".join(f"\n  {thing}" for thing in found_things)
        raise InputError(
            f"{target.path} is not empty; there is{lines}", hint="to lose all of it: --overwrite"
        )


@dataclass
class Writer:
    """One run over one open target. ``done`` has what was written, for reading back."""

    plan: Plan
    materials: Materials
    target: Target
    medium: Medium
    tools: Tools
    scratch: Path
    done: list[Written] = field(default_factory=list)
    keyfiles: dict[str, bytearray] = field(default_factory=dict)
    """Keys that open an environment's volume from its host's root."""

    def write(self, erase: Erase, size: int) -> Report:
        report = Report(self.target.path, Erase.NONE)
        self.keyfiles = {e.name: new_keyfile() for e in self.plan.environments if e.keyfile}
        try:
            if not self.target.is_device:
                report.erased = self.begin(erase, size)
            with timed(report, "filesystems"), ThreadPoolExecutor(2) as pool:
                made = self.start_filesystems(pool)
                self.medium.expect(sum(i.tar.stat().st_size for i in self.materials.images.values()))
                boot = self.make_esp()
                if self.target.is_device:  # what does not fit is known before the disk's data is lost
                    for environment in self.missing:
                        self.finished(environment, made)
                    report.erased = self.begin(erase, size)
                dense = report.erased is Erase.DENSE
                self.put_esp(boot, dense=dense)
                self.write_swap(dense=dense)
                if dense:
                    self.clear_free(size)
                self.write_environments(made, report, dense=dense)
                self.put(self.plan.pv.start + lvm.AREA_AT, lvm.encode_metadata(self.plan.group))
            with timed(report, "sync"), ui.current().step("Waiting for the disk"):
                self.medium.sync()
            with timed(report, "verify"):
                self.verify()
            self.commit(size)
        finally:
            for key in self.keyfiles.values():
                wipe(key)
        report.written = sum(w.size for w in self.done)
        return report

    def begin(self, erase: Erase, size: int) -> Erase:
        """Make the target invalid for everybody, then free or fresh."""
        if not self.target.is_device:
            os.ftruncate(self.medium.fd, 0)
            os.ftruncate(self.medium.fd, size)
            self.mark()
            return Erase.DISCARD
        self.mark()  # first, and left in place until the partition table's last sector replaces it
        for at, end in edges(self.plan, size, self.target.sector):
            self.medium.write(at, bytes(end - at))
        self.medium.sync()
        if erase in (Erase.AUTO, Erase.DISCARD):
            if self.medium.discard(EDGE, size - EDGE):
                return Erase.DISCARD
            if erase is Erase.DISCARD:
                raise MachineError(f"{self.target.path} cannot discard", hint="write with --erase dense")
            return Erase.DENSE
        return erase

    def mark(self) -> None:
        """Say on the target that it is not complete."""
        self.medium.write(targets.MARK_AT, targets.mark(self.plan.seat))
        self.medium.sync()

    def put(self, offset: int, data: bytes) -> None:
        self.done.append(self.medium.write(offset, data))

    def put_file(self, source: Path, offset: int, ranges: Sequence[Range]) -> None:
        with source.open("rb") as f:
            for piece in xts.split(ranges):
                digest = checksum()
                for start, end in piece:
                    for at in range(start, end, COPY):
                        data = os.pread(f.fileno(), min(COPY, end - at), at)
                        digest.update(data)
                        self.medium.write(offset + at, data)
                self.done.append(Written(offset, piece, digest.digest()))

    def make_esp(self) -> Path:
        image = self.scratch / "esp"
        ukis = {n: self.materials.images[n].kernel_in(self.scratch) for n in hosts(self.plan)}
        with ui.current().step("Composing the EFI system partition"):
            esp.make(
                self.tools,
                image,
                self.plan.esp.size,
                esp_files(self.plan, ukis, self.tools),
                serial=self.plan.esp_serial,
                label="ESP",
                epoch=self.materials.images[self.plan.host].epoch,
                sector=self.target.sector,
            )
        return image

    def put_esp(self, image: Path, *, dense: bool) -> None:
        ranges = [(0, self.plan.esp.size)] if dense else esp.data_ranges(image)
        self.put_file(image, self.plan.esp.start, ranges)
        image.unlink()

    def write_swap(self, *, dense: bool) -> None:
        """A swap signature, or nothing: an encrypted one gets its signature under each boot's new key."""
        for volume in self.plan.volumes:
            if volume.kind is Kind.SWAP:
                image = self.scratch / volume.name
                with image.open("wb") as f:
                    f.truncate(volume.size)
                if not self.plan.swap_encrypted:
                    argv = ["mkswap", "--quiet", "--uuid", str(volume.swap_id), os.fspath(image)]
                    self.tools.run(argv)
                self.put_file(image, volume.offset, [(0, volume.size if dense else 64 << 10)])
                image.unlink()

    def clear_free(self, size: int) -> None:
        """Zeros over free extents and what lies beyond: else a disk that cannot discard keeps old data."""
        group = self.plan.group
        start = self.plan.pv.start + group.offset(group.extents - self.plan.free_extents)
        end = max(self.plan.pv.end, size - EDGE)
        with ui.current().step("Clearing what stays free"):
            for at in range(start, end, COPY):
                self.medium.write(at, bytes(min(COPY, end - at)))

    @property
    def missing(self) -> Sequence[Environment]:
        """The environments that are to be written."""
        return self.plan.environments

    def start_filesystems(self, pool: ThreadPoolExecutor) -> dict[str, "Future[Path]"]:
        """Begin to make all filesystems, two at a time."""
        return {e.name: pool.submit(self.make_filesystem, e) for e in self.missing}

    def make_filesystem(self, environment: Environment) -> Path:
        image = self.materials.images[environment.name]
        overlay = self.scratch / f"{environment.name}.overlay"
        self.render(environment, overlay)
        path, edits = self.scratch / f"{environment.name}.ext4", self.materials.edits.get(environment.name)
        ext4.make(
            self.tools,
            path,
            environment.payload_size,
            lambda pipe: image.write_tree(overlay, pipe, edits=edits),
            uuid=environment.filesystem_id,
            hash_seed=environment.hash_seed,
            label=environment.name[: ext4.LABEL_LENGTH],
            epoch=image.epoch,
        )
        return path

    def render(self, environment: Environment, overlay: Path) -> None:
        """Make what goes over an environment's image."""
        render_overlay(self.plan, self.materials.profiles, environment.name, overlay)

    def write_environments(self, made: Mapping[str, "Future[Path]"], report: Report, *, dense: bool) -> None:
        for environment in self.missing:
            path = self.finished(environment, made)
            self.write_environment(environment, path, report, dense=dense)
            path.unlink()

    @staticmethod
    def finished(environment: Environment, made: Mapping[str, "Future[Path]"]) -> Path:
        """The environment's filesystem, waited for. Raises whatever making it did."""
        future = made[environment.name]
        if not future.done():
            with ui.current().step(f"Making the filesystem of {environment.name}"):
                future.result()
        return future.result()

    def write_environment(
        self, environment: Environment, path: Path, report: Report, *, dense: bool
    ) -> None:
        """Write a volume: its header, and the filesystem in ``path`` encrypted."""
        volume = self.plan.volume(environment.name)
        with volume_key() as key:
            header = self.make_header(environment, key, report)
            self.put(volume.offset, header)
            ranges = [(0, environment.payload_size)] if dense else ext4.used_ranges(self.tools, path)
            total = sum(end - start for start, end in ranges)
            with ui.current().step(f"Encrypting {environment.name}", total=total) as meter:
                self.done += self.medium.encrypt(
                    path,
                    environment.payload,
                    ranges,
                    key,
                    meter=meter,
                    overlay=self.key_blocks(environment, path),
                    consume=True,
                )
        report.encrypted += total

    def make_header(self, environment: Environment, key: bytearray, report: Report) -> bytes:
        recovery = recovery_key() if self.materials.recovery else None
        if recovery is not None:
            report.recovery[environment.name] = recovery
        with ui.current().step(f"Making the LUKS2 header of {environment.name}"):
            return luks.make_header(
                self.tools,
                self.scratch / f"{environment.name}.luks",
                uuid=environment.luks_id,
                label=f"luks-{environment.name}",
                key=key,
                passphrase=self.materials.passphrases[environment.name],
                pbkdf=self.plan.pbkdf,
                recovery=recovery,
                keyfile=self.keyfiles.get(environment.name),
            )

    def key_blocks(self, environment: Environment, image: Path) -> dict[int, bytes]:
        """Where in the host's filesystem the key files' placeholders lie, and what belongs there."""
        if environment.name not in hosts(self.plan):
            return {}
        return {
            ext4.block_of(self.tools, image, f"/{keyfile_of(name)}"): bytes(key)
            for name, key in self.keyfiles.items()
            if name != environment.name
        }

    def verify(self) -> None:
        total = sum(w.size for w in self.done)
        with ui.current().step("Reading back what was written", total=total) as meter:
            self.medium.read_back(self.done, meter=meter)

    def commit(self, size: int) -> None:
        """What makes it valid, the most visible last: PV label, backup table, primary table."""
        last = [(self.plan.pv.start + lvm.LABEL_AT, lvm.encode_label(self.plan.group))]
        table = replace(self.plan.table, disk_size=size, sector=self.target.sector)
        done = self.done
        self.done = []
        for offset, data in [*last, *gpt.encode(table)]:
            self.put(offset, data)
            self.medium.sync()
        self.medium.read_back(self.done, meter=ui.NoMeter())
        self.done = [*done, *self.done]
        if self.target.is_device:
            targets.reread_table(self.medium.fd)


@contextlib.contextmanager
def timed(report: Report, what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    report.seconds[what] = time.monotonic() - started
