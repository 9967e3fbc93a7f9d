"""How does a seat's disk change without a new image? Back to the previous one, dropped, grown, removed."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from builder.errors import InputError
from builder.profile import Profile
from builder.provision.bootfiles import (
    BootFiles,
    check_kernel,
    entry_of_host,
    hosts_offered,
    kernel_of,
    offer,
    point_entry,
    remove_stale_kernels,
)
from builder.provision.hostroots import FOLLOWS, TAG, HostRoots, digests_of
from builder.provision.journal import Run
from builder.provision.rootedit import extents_of, put_back
from builder.provision.seatdisk import NEW, PREVIOUS, SeatDisk
from builder.provision.space import free_count, head_of, wipe_free
from builder.seat.hostfiles import Files, digest_of, files_for_all
from builder.seat.overlay import filled, hosts
from builder.seat.plan import Plan
from builder.tools import Tools
from builder.ui import size_text
from builder.volume import lvmcommit
from builder.volume.lvm import Segment


def goal_of_rollback(disk: SeatDisk, name: str) -> str:
    """The volume, by its present name, whose files hosts are to have after ``Change.roll_back``."""
    pending, previous = disk.journal.unfinished, name + PREVIOUS
    undoing = pending is not None and pending.verb != "rollback"
    if undoing or previous not in disk.names:
        return name
    return name if pending and pending.data.get("to") == disk.volume(name).id else previous


def without(plan: Plan, disk: SeatDisk, name: str) -> dict[str, str]:
    """Digests, by host, of what it is to have for the environment ``name`` that is removed."""
    return {host: digest_of({}) for host in hosts(plan) if host in disk.names and host != name}


@dataclass
class Change:
    """One change of an open disk. ``done`` says in a few words what it did."""

    disk: SeatDisk
    plan: Plan
    tools: Tools
    scratch: Path
    run: str = field(default_factory=lambda: uuid4().hex[:12])
    done: list[str] = field(default_factory=list)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    passphrases: Mapping[str, bytearray] = field(default_factory=dict)
    """Of hosts whose files for a container go back with it."""
    running: str | None = None
    """The host that we run on, if it is one of this seat's."""

    @cached_property
    def boot_files(self) -> BootFiles:
        return BootFiles(self.disk.medium, self.disk.esp, self.tools, self.scratch)

    @contextlib.contextmanager
    def recorded(self, verb: str, name: str, **data: object) -> Iterator[None]:
        """Keep a change in the journal; one of another kind that was interrupted must be finished first."""
        pending = self.disk.interrupted(verb, name)
        if pending:
            self.run = pending.id
        else:
            self.disk.journal.append(self.run, verb, "begin", environment=name, **data)
        yield
        if pending:
            self.wipe_places(pending)
        self.disk.journal.append(self.run, verb, "done")

    def roll_back(self, name: str) -> None:
        """Undo an interrupted replacement; else go back to the previous environment, which changes places.

        Raises InputError where there is neither.
        """
        pending = self.disk.journal.unfinished
        if pending and pending.data.get("environment") == name and pending.verb != "rollback":
            self.undo(name, pending)
            return
        target = self.target_of_rollback(name)
        if self.disk.volume(name).id != target:  # what cannot be finished is not begun
            roots = self.host_roots(name, name + PREVIOUS)
            roots.check(name)
            roots.refuse_without_room(free_count(self.disk))
            if name in hosts(self.plan):
                check_kernel(self.boot_files, self.plan, name, kernel_of(self.disk, name + PREVIOUS))
        with self.recorded("rollback", name, to=target):
            if self.disk.volume(name).id != target:
                self.exchange(name, name + PREVIOUS)
            self.settle(name)
        self.done.append(f"{name} is again {self.disk.tags(name).get('image', 'the one before')}")

    def target_of_rollback(self, name: str) -> str:
        """Id of the volume that is to be the environment, also when a rollback was interrupted."""
        pending = self.disk.journal.unfinished
        if pending and pending.verb == "rollback" and pending.data.get("environment") == name:
            return str(pending.data["to"])
        if name + PREVIOUS not in self.disk.names:
            raise InputError(f"there is no previous environment of {name} on the disk")
        if self.disk.header(name + PREVIOUS) is None:
            raise InputError(f"the previous environment of {name} is damaged: its LUKS2 header is not whole")
        return self.disk.volume(name + PREVIOUS).id

    def exchange(self, name: str, other: str) -> None:
        """Let two volumes change places: the boot entry first, then their names at once.

        A host's older root has what its containers had then: nothing says any more that it belongs to their
        present volumes, so the next replacement of each looks there.
        """
        roots = self.host_roots(name, other)
        roots.stage(name)
        self.disk.journal.append(self.run, "rollback", "switching", **{FOLLOWS: roots.follows})
        if name in hosts(self.plan):
            self.point_to(name, other)
            self.disk.forget(f"{TAG}{name}")
        for host in roots.unknown:  # has others than belong to it, so the next replacement looks there
            self.disk.forget(f"{TAG}{host}", [other])
        lvmcommit.rename_volumes(self.disk.metadata, {name: other, other: name})
        self.disk.commit()
        self.done += roots.said

    def host_roots(self, name: str, volume: str) -> HostRoots:
        """The hosts, which are to have the files that belong to that volume of an environment."""
        digests = digests_of(self.disk, volume)
        known = name in self.profiles and set(hosts(self.plan)) <= set(self.profiles)
        files = files_for_all(self.plan, self.profiles, name, self.scratch) if known else {}
        return HostRoots(
            self.disk, name, digests, self.passphrases, self.tools, self.scratch, files, self.running
        )

    def settle(self, name: str) -> None:
        """Have hosts' files follow the volume that the environment has now, as far as the switch did not."""
        roots = self.host_roots(name, name)
        roots.catch_up()
        roots.settle()
        self.done += roots.said

    def point_to(self, host: str, volume: str) -> None:
        uuid = self.disk.whole_header(volume).uuid
        point_entry(self.boot_files, self.plan, host, kernel_of(self.disk, volume), uuid)

    def undo(self, name: str, pending: Run) -> None:
        """Give up what was interrupted, or finish it where its only commit was done."""
        disk = self.disk
        self.wipe_places(pending)
        if pending.verb != "env":
            if pending.verb == "remove":
                self.undo_removal(name, pending)
            elif name in hosts(self.plan):
                remove_stale_kernels(disk, self.boot_files)
            self.done.append(self.end_of(name, pending))
            disk.journal.append(pending.id, pending.verb, "undone")
            return
        if name + NEW in disk.names:
            if name in hosts(self.plan) and name in disk.names:
                self.point_to(name, name)
            self.free([name + NEW])
            self.done.append(f"the interrupted replacement of {name} is undone")
        elif name in disk.names and disk.tags(name).get("run") == pending.id:
            self.settle(name)
            if name in hosts(self.plan):
                offer(disk, self.boot_files, self.plan, name)
            self.done.append(
                f"the replacement of {name} had gone through but for its end, which is done now; "
                "to go back to the previous one, run it again"
            )
        else:
            self.done.append(f"the interrupted replacement of {name} had left nothing behind")
        if name in hosts(self.plan):
            remove_stale_kernels(disk, self.boot_files)
        disk.journal.append(pending.id, "env", "undone")

    def undo_removal(self, name: str, pending: Run) -> None:
        """Offer a host again that is still there; finish what had gone through."""
        entry, text = entry_of_host(name), pending.data.get("entry")
        if name not in self.disk.names:
            if text:
                remove_stale_kernels(self.disk, self.boot_files)
            self.roots_without(name).settle()
        elif text and entry not in self.boot_files.names():
            self.boot_files.add({entry: filled(text)})

    def end_of(self, name: str, pending: Run) -> str:
        """What became of an interrupted change that is no replacement: its commit was done, or not."""
        names, what = self.disk.names, f"the interrupted `provision {pending.verb} {name}`"
        match pending.verb:
            case "remove":
                through = name not in names
            case "drop":
                through = name + PREVIOUS not in names
            case _:
                through = name in names and self.disk.volume(name).extents >= pending.data.get("extents", 0)
        return f"{what} had gone through, and cannot be undone" if through else f"{what} is given up"

    def drop(self, name: str) -> None:
        """Give up the previous environment: its room becomes free, its keys are overwritten."""
        previous = name + PREVIOUS
        if previous not in self.disk.names and self.disk.journal.unfinished is None:
            raise InputError(f"there is no previous environment of {name} on the disk")
        with self.recorded("drop", name, wipe=self.places([previous])):
            self.free([previous])
            if name in hosts(self.plan):
                remove_stale_kernels(self.disk, self.boot_files)
        self.done.append(f"the previous environment of {name} is gone")

    def remove(self, name: str) -> None:
        """Remove an environment with all of its data, its previous one too, and what hosts have for it.

        A host leaves the boot menu first: until its volume is given up, all that the menu offers starts.
        Raises InputError for the last host, also for one that the boot menu alone still knows, and where
        a host's passphrase is missing or its root was not unmounted cleanly.
        """
        entry, files = entry_of_host(name), self.boot_files.names()
        pending = self.disk.journal.unfinished
        begun = pending is not None and "entry" in pending.data
        is_host = entry in files or name in hosts(self.plan) or begun
        self.refuse_removal(name, is_host=is_host)
        names, roots = [name, name + PREVIOUS, name + NEW], self.roots_without(name)
        roots.check(name)
        wipe = [*self.places(names), *([s.first, s.count] for s in roots.given_up)]
        was = {"entry": self.boot_files.text(entry).decode().rstrip("\n")} if entry in files else {}
        with self.recorded("remove", name, wipe=wipe, **was):
            if entry in files:
                self.boot_files.remove([entry])
            lay = {host: extents_of(self.disk, host) for host in roots.needed}
            first = sum(roots.needed.values()) > free_count(self.disk)
            if first:
                self.free(names)  # for want of room the roots of hosts change by a second commit
            roots.stage(name, roots.needed)
            self.disk.forget(f"{TAG}{name}")
            if roots.said and not set(names) & set(self.disk.names):
                self.disk.commit()  # of volumes that went with the interrupted run
            self.free(names, also=roots.given_up)
            if first:
                self.put_back(lay)  # so that what is free is one piece again, as large as what was removed
            if is_host:
                remove_stale_kernels(self.disk, self.boot_files)
            roots.settle()
        self.done += [f"{name} and all of its data are gone", *roots.said]

    def refuse_removal(self, name: str, *, is_host: bool) -> None:
        """Raise InputError for what is no environment, and for the only host."""
        if is_host and not set(hosts_offered(self.disk, self.boot_files)) - {name}:
            raise InputError(
                f"{name} is the only host of the seat: nothing else would start",
                hint="add another one first: seatsmith provision add; "
                "or write the seat anew: seatsmith provision apply",
            )
        pending = self.disk.journal.unfinished
        known = {*self.disk.environments, *(e.name for e in self.plan.environments)}
        if name not in known and not (pending and pending.data.get("environment") == name):
            raise InputError(
                f"{name} is no environment of the seat", hint=f"there are: {', '.join(sorted(known))}"
            )
        if name not in self.disk.names and pending is None:
            self.disk.volume(name)

    def roots_without(self, name: str) -> HostRoots:
        """The hosts, which are to have nothing for an environment any more."""
        digests = without(self.plan, self.disk, name)
        files: dict[str, Files] = {host: {} for host in digests}
        return HostRoots(
            self.disk, name, digests, self.passphrases, self.tools, self.scratch, files, self.running
        )

    def put_back(self, lay: Mapping[str, list[int]]) -> None:
        """Have volumes lie where they lay, each by a commit."""
        for name, extents in lay.items():
            put_back(self.disk, name, extents)
            self.disk.commit()

    def places(self, names: Sequence[str]) -> list[list[int]]:
        """Where the LUKS headers of volumes are, in extents."""
        there = [name for name in names if name in self.disk.names]
        return [[s.first, s.count] for name in there for s in head_of(self.disk, name)]

    def wipe_places(self, pending: Run) -> None:
        """Overwrite what an interrupted run had given up, as far as it is free."""
        places = pending.data.get("wipe", [])
        wipe_free(self.disk, [Segment(first, count) for first, count in places])

    def free(self, names: Sequence[str], *, also: Sequence[Segment] = ()) -> None:
        """Remove volumes by one commit, then overwrite their LUKS headers and what is free of ``also``."""
        there = [name for name in names if name in self.disk.names]
        segments = [segment for name in there for segment in head_of(self.disk, name)]
        if there:
            for name in there:
                lvmcommit.remove_volume(self.disk.metadata, name)
            self.disk.commit()
        wipe_free(self.disk, [*segments, *also])

    def grow(self, name: str, extents: int) -> None:
        """Make a volume larger; its filesystem follows by systemd-growfs(8) while it is mounted.

        Raises InputError where it is not larger, or there is no room.
        """
        disk = self.disk
        volume, unit = disk.volume(name), disk.metadata.group.extent_size
        pending = disk.journal.unfinished
        if extents <= volume.extents and not pending:
            raise InputError(
                f"{name} has {size_text(volume.extents * unit)} already; a volume only grows",
                hint="a smaller one: seatsmith provision env NAME --size SIZE",
            )
        segments = self.longer(volume.segments, max(extents, volume.extents))
        with self.recorded("grow", name, extents=extents):
            if volume.extents < extents:
                lvmcommit.set_segments(disk.metadata, name, segments)
                disk.commit()
        place = "/" if name == self.plan.host else f"/var/lib/machines/{name}"
        self.done.append(
            f"{name} has {size_text(extents * unit)}; when it is mounted, let its filesystem grow: "
            f"/usr/lib/systemd/systemd-growfs {place}"
        )

    def longer(self, segments: Sequence[Segment], extents: int) -> list[Segment]:
        """The volume's extents and more: those right behind it, else the first free ones."""
        found = list(segments)
        missing = extents - sum(s.count for s in segments)
        end = found[-1].first + found[-1].count
        free = lvmcommit.free_runs(self.disk.metadata.group)
        for run in sorted(free, key=lambda run: (run.first != end, run.first)):
            take = min(missing, run.count)
            if take and run.first == found[-1].first + found[-1].count:
                found[-1] = Segment(found[-1].first, found[-1].count + take)
            elif take:
                found.append(Segment(run.first, take))
            missing -= take
        if missing:
            unit = self.disk.metadata.group.extent_size
            raise InputError(
                f"there is no room: {size_text(missing * unit)} are missing",
                hint="give up a previous environment: seatsmith provision drop NAME",
            )
        return found
