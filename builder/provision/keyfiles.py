"""Which keys do hosts hold for their containers, and how do they get one that is new?

A key opens a container's volume from the encrypted root of its host. A replacement gives the new volume the
key that hosts hold. Where they hold none it is made, and handed out by the commit that allocates the volume,
long before anything is opened by it: a key that opens nothing does no harm, and whoever goes on after an
interruption finds it there.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import InputError
from builder.provision.hostroots import MountedRoot, Root, VolumeRoot
from builder.provision.job import Job
from builder.provision.rootedit import edit_root
from builder.provision.seatdisk import SeatDisk, opened, unlocked
from builder.seat.overlay import KEYFILE_SIZE, hosts, keyfile_of, new_keyfile
from builder.seat.plan import Plan
from builder.tools import Tools
from builder.volume import ext4, lvmcommit
from builder.volume.ext4edit import File
from builder.volume.ext4read import Filesystem
from builder.volume.keys import wipe

MODE = 0o600


@dataclass(frozen=True)
class Keys:
    """What was read from the hosts, or made."""

    own: bytearray | None = None
    """Opens the new volume, too."""
    held: Mapping[str, bytearray] = field(default_factory=dict)
    """By environment: what the new root of a host is to hold."""
    lacking: tuple[str, ...] = ()
    """The hosts that are to be given the own key."""

    def blocks(self, tools: Tools, image: Path) -> dict[int, bytes]:
        """Where the placeholders of held keys lie in a filesystem, and what belongs there."""
        paths = {f"/{keyfile_of(name)}": key for name, key in self.held.items()}
        return {ext4.block_of(tools, image, path): bytes(key) for path, key in paths.items()}


def to_be_opened(
    disk: SeatDisk, plan: Plan, name: str, running: str | None, place: Path = Path("/")
) -> list[str]:
    """The hosts at rest that are opened for the key of an environment: to find it, or to hand it out.

    None where the running host, whose root is at ``place``, holds it: all of them are given it at once.
    """
    others = [host for host in hosts(plan) if host != name and host in disk.names]
    if not any(e.keyfile for e in plan.environments if e.name == name):
        return []
    if running in others and key_in(MountedRoot(place), name, str(running)) is not None:
        return []
    return [host for host in others if host != running]


def to_hold(disk: SeatDisk, plan: Plan, name: str) -> str | None:
    """Who holds the keys that the new root of a host ``name`` is to hold: its old one, or another host."""
    if name not in hosts(plan) or not any(e.keyfile for e in plan.environments if e.name != name):
        return None
    there = [host for host in hosts(plan) if host in disk.names]
    return name if name in there else next(iter(there), None)


@contextlib.contextmanager
def taken_over(disk: SeatDisk, job: Job, tools: Tools, scratch: Path) -> Iterator[Keys]:
    """The keys for a job; wiped on leaving. Nothing is written.

    Raises InputError where the passphrase of a host is missing, or its root was not unmounted cleanly and it
    is to be given a key.
    """
    search = Search(disk, job, tools, scratch)
    try:
        yield Keys(search.own_key(), search.held_keys(), tuple(search.lacking))
    finally:
        for key in search.found:
            wipe(key)


class Search:
    """For the keys of one job, over the roots of hosts."""

    def __init__(self, disk: SeatDisk, job: Job, tools: Tools, scratch: Path) -> None:
        self.disk, self.job, self.tools, self.scratch = disk, job, tools, scratch
        self.found: list[bytearray] = []
        """All keys that are in memory."""
        self.lacking: list[str] = []

    def own_key(self) -> bytearray | None:
        """The key of the job's environment, which the first host that has one says, or a new one."""
        job = self.job
        if not job.environment.keyfile:
            return None
        others = [host for host in hosts(job.plan) if host != job.name and host in self.disk.names]
        first = [host for host in others if host == job.running]
        at_rest = to_be_opened(self.disk, job.plan, job.name, job.running, job.root)
        keys = {host: self.key_held(host, job.name, to_get=True) for host in [*first, *at_rest]}
        own = next((key for key in keys.values() if key is not None), None)
        if own is None and others:
            own = new_keyfile()
            self.found.append(own)
        self.lacking = [host for host, key in keys.items() if key != own]
        return own

    def held_keys(self) -> dict[str, bytearray]:
        """The keys that a host's new root is to hold, as far as there are any: of its containers."""
        holder = to_hold(self.disk, self.job.plan, self.job.name)
        if holder is None:
            return {}
        wanted = [e.name for e in self.job.plan.environments if e.keyfile and e.name != self.job.name]
        keys = {name: self.key_held(holder, name) for name in wanted}
        return {name: key for name, key in keys.items() if key is not None}

    def key_held(self, host: str, name: str, *, to_get: bool = False) -> bytearray | None:
        """The key that a host holds for a container. ``to_get``: it is to be given one where it has none."""
        if host == self.job.running:
            return self.read(MountedRoot(self.job.root), host, name)
        passphrase = self.job.passphrases.get(host)
        if passphrase is None:
            raise InputError(f"the passphrase of {host} is needed, too: it holds a key, or is to hold one")
        with opened(self.disk, host, passphrase, self.tools, self.scratch) as filesystem:
            key = self.read(VolumeRoot(filesystem), host, name)
            if to_get and key is None:
                refuse_unclean(filesystem, host, name)
            return key

    def read(self, root: Root, host: str, name: str) -> bytearray | None:
        key = key_in(root, name, host)
        if key is not None:
            self.found.append(key)
        return key


def key_in(root: Root, name: str, host: str) -> bytearray | None:
    """The key of a container's volume in the root of a host; None where there is none.

    Raises InputError for what is not a key of ours.
    """
    file = root.file(keyfile_of(name))
    if file is None:
        return None
    if file.link is not None or len(file.data) != KEYFILE_SIZE:
        raise InputError(
            f"/{keyfile_of(name)} of {host} has another size than {KEYFILE_SIZE} bytes: it is not ours",
            hint="keep a key of your own under another name, and name it in crypttab",
        )
    return bytearray(file.data)


def refuse_unclean(filesystem: Filesystem, host: str, name: str) -> None:
    if not filesystem.clean:
        raise InputError(
            f"the root of {host}, which is given a key for {name}, was not unmounted cleanly",
            hint=f"start {host} once and shut it down properly",
        )


def hand_out(
    disk: SeatDisk, job: Job, keys: Keys, *, taken: set[int], tools: Tools, scratch: Path
) -> list[str]:
    """Have the hosts that lack the key get it: those at rest by the next commit, the running one at once.

    ``taken`` are free extents that are spoken for. Returns what it did in words. Raises InputError where
    there is no room.
    """
    if keys.own is None:
        return []
    path = keyfile_of(job.name)
    changes = {path: File(MODE, bytes(keys.own))}
    for host in (host for host in keys.lacking if host != job.running):
        with unlocked(disk, host, job.passphrases[host], tools, scratch) as payload:
            segments = edit_root(
                disk, host, payload, changes, taken=taken, secrets={path}, tools=tools, scratch=scratch
            )
        lvmcommit.set_segments(disk.metadata, host, segments)
    if job.running in keys.lacking:
        MountedRoot(job.root).change(changes, secrets={path})
    return [f"{host} was given a key for {job.name}" for host in keys.lacking]
