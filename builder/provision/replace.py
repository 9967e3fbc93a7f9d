"""How is one environment replaced so that at every moment the old one or the new one is whole?

The new image goes to a volume of its own, NAME.new, from free extents; it is read back and compared. Only
then is it switched to: for a host by one sector of the ESP (its boot menu entry, which names kernel and
volume), then for all by one commit of the volume group's metadata that renames NAME to NAME.previous and
NAME.new to NAME. Hosts open the volumes of containers by name, and so take the new one from then on.

Each step is recorded in the disk's journal. An interrupted run is taken up by the next: before the new image
was verified it is written anew, in the same place; after that, only the switch is left.
"""

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from builder import ui
from builder.errors import InputError, TrustError
from builder.provision import bootfiles
from builder.provision.agree import refuse_others
from builder.provision.apply import image_id, image_tags
from builder.provision.bootfiles import (
    BootFiles,
    entry_of,
    has_entry,
    kernel_of,
    offer,
    point_entry,
    remove_stale_kernels,
)
from builder.provision.contents import Contents, gather
from builder.provision.hostroots import FOLLOWS, HostRoots, at_rest, note_new_root, tags_for
from builder.provision.job import Job, Report
from builder.provision.journal import Run
from builder.provision.keyfiles import Keys, hand_out, taken_over
from builder.provision.seatdisk import NEW, PREVIOUS, SeatDisk, as_tags, new_lvm_id, opened
from builder.provision.space import free_count, head_of, place_for, wipe_free
from builder.seat.hostfiles import digest_of, files_for, files_for_all
from builder.tools import Tools
from builder.volume import ext4, luks, lvmcommit
from builder.volume.ext4read import Filesystem
from builder.volume.keys import recovery_key, volume_key
from builder.volume.lvm import Segment
from builder.volume.xts import Written

VERB = "env"


def replace_environment(disk: SeatDisk, job: Job, *, tools: Tools, scratch: Path) -> Report:
    """Replace, or take up an interrupted replacement. ``scratch`` is an empty directory.

    Raises TrustError where the passphrase does not open the present volume, InputError where there is no
    room or kept files cannot be read, MachineError where writing or reading back fails.
    """
    return Replacement(disk, job, tools, scratch).perform()


class Replacement:
    """One run over one open disk."""

    def __init__(self, disk: SeatDisk, job: Job, tools: Tools, scratch: Path) -> None:
        self.disk, self.job, self.tools, self.scratch = disk, job, tools, scratch
        self.new = job.name + NEW
        self.previous = job.name + PREVIOUS
        self.report = Report(uuid4().hex[:12])
        self.written: list[Written] = []

    def perform(self) -> Report:
        refuse_others(self.disk, self.job.plan)
        pending = self.disk.interrupted(VERB, self.job.name)
        if pending and self.switched(pending):
            self.report = Report(pending.id, resumed="switched")
            if self.new in self.disk.names:
                self.hosts.stage(self.job.name)
                self.rename()
            else:
                self.hosts.catch_up()
            self.finish()
            if self.was_asked_for(pending):
                return self.report
            self.report, pending = Report(uuid4().hex[:12]), None
        if not self.job.old and self.job.name in self.disk.names:
            raise InputError(
                f"{self.job.name} is already on the disk", hint=f"replace it: seatsmith provision {VERB}"
            )
        with self.old_filesystem() as old:
            state = old.state if old else ""
            self.hosts.check(self.job.name)
            with taken_over(self.disk, self.job, self.tools, self.scratch) as keys:
                if pending and self.verified(pending, state, keys):
                    self.report = Report(pending.id, resumed="verified")
                else:
                    contents = gather(self.job, old, self.scratch, held=keys.held)
                    self.report.kept = contents.size
                    self.prepare(keys)
                    self.write(contents, keys, state)
            self.switch()
        self.finish()
        return self.report

    @cached_property
    def hosts(self) -> HostRoots:
        """The hosts whose files for this environment follow its profile."""
        job = self.job
        files = files_for_all(job.plan, job.profiles, job.name, self.scratch)
        return HostRoots(
            self.disk,
            job.name,
            {host: digest_of(wanted) for host, wanted in files.items()},
            job.passphrases,
            self.tools,
            self.scratch,
            files,
            job.running,
            job.root,
        )

    @cached_property
    def boot_files(self) -> BootFiles:
        return BootFiles(self.disk.medium, self.disk.esp, self.tools, self.scratch)

    def note(self, step: str, **data: object) -> None:
        self.disk.journal.append(self.report.run, VERB, step, **data)

    @contextlib.contextmanager
    def old_filesystem(self) -> Iterator[Filesystem | None]:
        """The environment's present filesystem; opening it shows that the passphrase is the right one."""
        if not self.job.old:
            yield None
            return
        passphrase = self.job.passphrases[self.job.name]
        with opened(self.disk, self.job.name, passphrase, self.tools, self.scratch) as filesystem:
            if not filesystem.clean:
                raise InputError(
                    f"the filesystem of {self.job.name} was not unmounted cleanly, so what is kept of it, "
                    "such as passwords and host keys, cannot be read safely",
                    hint="start the environment once and stop it properly",
                )
            yield filesystem

    def switched(self, pending: Run) -> bool:
        """Whether the interrupted run had begun to switch: what starts at boot is new, or all of it is."""
        disk, name = self.disk, self.job.name
        if name in disk.names and disk.tags(name).get("run") == pending.id:
            return True
        if (
            not self.job.is_host
            or self.new not in disk.names
            or disk.tags(self.new).get("run") != pending.id
        ):
            return False
        boot, plan, header = self.boot_files, self.job.plan, disk.header(self.new)
        if header is None or not has_entry(boot, plan, name):
            return False
        return header.uuid in entry_of(boot, plan, name)

    def was_asked_for(self, pending: Run) -> bool:
        """Whether all of this was asked for then; of passwords, whether the same users were given any."""
        job, data = self.job, pending.data
        asked = [replace(job, old=old).made_of(self.extents) for old in (True, False)]
        same = data.get("id") == image_id(job.image) and data.get("asked") in asked
        return same and job.given in ("", data.get("given"))

    def verified(self, pending: Run, state: str, keys: Keys) -> bool:
        """Whether its new volume can be used as it is: made of just this, and nothing kept has changed.

        Passwords or a host name that are given now may be others, and nobody has seen a recovery key.
        """
        job = self.job
        anew = job.recovery or job.passwords or job.hostname or keys.lacking
        return (
            not anew
            and "verified" in pending.steps
            and self.new in self.disk.names
            and self.disk.tags(self.new).get("run") == pending.id
            and not at_rest(self.disk, self.new, self.hosts.digests)
            and pending.data.get("id") == image_id(job.image)
            and pending.data.get("asked") == job.made_of(self.extents)
            and pending.data.get("old") == state
            and self.opens(self.new, job.passphrases[job.name])
            and (keys.own is None or self.opens(self.new, keys.own))
        )

    @property
    def extents(self) -> int:
        """Of the new volume: as asked for, else as now; of one that is added, as in the seat file."""
        job = self.job
        if job.extents is not None:
            return job.extents
        return self.disk.volume(job.name).extents if job.old else job.plan.volume(job.name).extents

    def opens(self, name: str, secret: bytearray) -> bool:
        try:
            with opened(self.disk, name, secret, self.tools, self.scratch):
                return True
        except (InputError, TrustError):
            return False

    def prepare(self, keys: Keys) -> None:
        """Allocate the new volume by one commit, which also frees what an interrupted run left.

        Hosts that lack the key of the new volume have it from then on.
        """
        disk, job = self.disk, self.job
        place, dropped = place_for(disk, job.name, self.extents)
        self.hosts.refuse_without_room(free_count(disk, without=dropped) - place.count)
        if job.is_host:
            boot = self.boot_files
            bootfiles.check_room(disk, boot, job.plan, job.name, job.uki, dropped, new=not job.old)
        taken = set(range(place.first, place.first + place.count))
        given = hand_out(disk, job, keys, taken=taken, tools=self.tools, scratch=self.scratch)
        self.hosts.said += given
        self.report.dropped = dropped
        self.note(
            "begin",
            environment=job.name,
            image=job.image.version,
            id=image_id(job.image),
            asked=job.made_of(self.extents),
            given=job.given,
            added=not job.old,
            extents=[place.first, place.count],
            dropped=dropped,
        )
        heads = [segment for name in dropped if name in disk.names for segment in head_of(disk, name)]
        for name in dropped:
            lvmcommit.remove_volume(disk.metadata, name)
        tags = as_tags(
            image_tags(job.image, self.report.run) | self.kernel_tag() | tags_for(self.hosts.files)
        )
        lvmcommit.add_volume(disk.metadata, self.new, new_lvm_id(), [place], tags)
        disk.commit()
        wipe_free(disk, heads, also=place)
        self.note("allocated")

    def write(self, contents: Contents, keys: Keys, state: str) -> None:
        """Write header and filesystem to the new volume, and compare all of it with what the disk holds."""
        disk, job = self.disk, self.job
        size = disk.size_of(self.new) - luks.HEADER_SIZE
        disk.medium.expect(job.image.tar.stat().st_size)
        if job.is_host:
            self.stage_kernel()
        recovery = recovery_key() if job.recovery else None
        identity = str(uuid4())
        with volume_key() as key, ThreadPoolExecutor(1) as pool:
            header = pool.submit(  # meanwhile: it takes seconds where a passphrase is hard to guess
                luks.make_header,
                self.tools,
                self.scratch / "header",
                uuid=identity,
                label=f"luks-{job.name}",
                key=key,
                passphrase=job.passphrases[job.name],
                pbkdf=job.plan.pbkdf,
                recovery=recovery,
                keyfile=keys.own,
            )
            with self.timed("filesystem"), ui.current().step(f"Making the filesystem of {job.name}"):
                image = self.make_filesystem(size, contents)
            with self.timed("write"):
                self.encrypt(image, header.result(), key, keys)
        image.unlink()
        with self.timed("verify"):
            self.read_back()
        self.report.recovery = recovery
        self.note("verified", luks=identity, old=state)

    def encrypt(self, image: Path, header: bytes, key: bytearray, keys: Keys) -> None:
        """Write the header, and the filesystem in ``image`` behind it."""
        medium, base = self.disk.medium, self.disk.offset(self.new)
        self.written.append(medium.write(base, header))
        ranges = ext4.used_ranges(self.tools, image)
        total = self.report.encrypted = sum(end - start for start, end in ranges)
        overlay, payload = keys.blocks(self.tools, image), base + luks.HEADER_SIZE
        with ui.current().step(f"Encrypting {self.job.name}", total=total) as meter:
            self.written += medium.encrypt(
                image, payload, ranges, key, meter=meter, overlay=overlay, consume=True
            )
        medium.sync()

    def read_back(self) -> None:
        total = sum(piece.size for piece in self.written)
        with ui.current().step("Reading back what was written", total=total) as meter:
            self.disk.medium.read_back(self.written, meter=meter)

    def make_filesystem(self, size: int, contents: Contents) -> Path:
        path, identity, seed = self.scratch / "filesystem", str(uuid4()), str(uuid4())
        label, epoch = self.job.name[: ext4.LABEL_LENGTH], contents.image.epoch
        ext4.make(
            self.tools,
            path,
            size,
            contents.write_to,
            uuid=identity,
            hash_seed=seed,
            label=label,
            epoch=epoch,
        )
        return path

    def switch(self) -> None:
        """Go over to the new volume."""
        self.hosts.stage(self.job.name)
        if self.job.is_host:
            self.switch_boot_entry()
        self.rename()

    def rename(self) -> None:
        """The commit after which the new volume has the environment's name."""
        disk, job = self.disk, self.job
        names = {self.new: job.name}
        older = []
        if job.name in disk.names:
            names[job.name] = self.previous
            if missing := self.hosts.missing_tags(job.name):
                tags = [*lvmcommit.tags_of(disk.metadata, job.name), *as_tags(missing)]
                lvmcommit.set_tags(disk.metadata, job.name, tags)
            if self.previous in disk.names:
                older = head_of(disk, self.previous)
                self.report.dropped.append(self.previous)
                lvmcommit.remove_volume(disk.metadata, self.previous)
        self.note("switching", wipe=[[s.first, s.count] for s in older], **{FOLLOWS: self.hosts.follows})
        if job.is_host:
            self.hosts.said += note_new_root(disk, job.name, self.containers())
        lvmcommit.rename_volumes(disk.metadata, names)
        disk.commit()
        wipe_free(disk, older)

    def containers(self) -> dict[str, str]:
        """Digests of what the new root of a host has for the others; none where other profiles made it."""
        job = self.job
        if self.report.resumed == "switched":
            return {}
        others = [e.name for e in job.plan.environments if e.name != job.name]
        place = self.scratch / "for-container"
        return {n: digest_of(files_for(job.plan, job.profiles, job.name, n, place)) for n in others}

    def stage_kernel(self) -> None:
        """Put the new kernel beside the old one; nothing names it yet."""
        boot = self.boot_files
        with ui.current().step(f"Writing the kernel of {self.job.name}"):
            remove_stale_kernels(self.disk, boot)
            kernel = self.job.image.kernel_in(self.scratch)
            self.written += boot.stage({kernel_of(self.disk, self.new): kernel})

    def switch_boot_entry(self) -> None:
        """Have the boot menu name the new kernel and the new volume.

        Of a host that is added, only the kernel gets its name here.
        """
        uuid = self.disk.whole_header(self.new).uuid
        if not self.written:  # by the run that was interrupted
            self.stage_kernel()
            self.disk.medium.sync()
            self.read_back()
        self.boot_files.publish()
        if self.job.old:
            kernel = kernel_of(self.disk, self.new)
            point_entry(self.boot_files, self.job.plan, self.job.name, kernel, uuid)

    def kernel_tag(self) -> dict[str, str]:
        """The name that a host's kernel has on the ESP."""
        return {"uki": f"{self.job.name}-{self.report.run}.efi"} if self.job.is_host else {}

    def finish(self) -> None:
        """Tidy up what the switch left behind: keys of an older volume, kernels that no volume names."""
        pending = self.disk.journal.unfinished
        regions = pending.data.get("wipe", []) if pending else []
        if self.report.resumed == "switched":
            wipe_free(self.disk, [Segment(first, count) for first, count in regions])
        if self.job.is_host:
            offer(self.disk, self.boot_files, self.job.plan, self.job.name)
            remove_stale_kernels(self.disk, self.boot_files)
        self.hosts.settle()
        self.report.hosts = self.hosts.said
        self.note("done")

    @contextlib.contextmanager
    def timed(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.report.seconds[what] = time.monotonic() - started
