"""How do the hosts of a seat follow when one of their containers is replaced, or taken back?

What a host has for a container (nspawn's settings, drop-ins, units, rules for devices) follows from the
container's profile. The tags of a container's volume say which files belong to it. Where a switch to another
volume changes them, the roots of hosts that are not in use change by the same commit of LVM's metadata; the
root of the running host, which only its own kernel may write, right after it.
"""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from builder.errors import InputError
from builder.files import sync_directory, write_atomic
from builder.provision.rootedit import edit_root, extents_with, places_of, refuse_without_room
from builder.provision.seatdisk import Payload, SeatDisk, as_tags, unlocked
from builder.run import run
from builder.seat.hostfiles import RECORD_MODE, RECORDS, Files, decode, digest_of, encode, record_of
from builder.seat.overlay import keyfile_of
from builder.tools import Tools
from builder.volume import lvmcommit
from builder.volume.ext4edit import Changes, File, changed_blocks, read_file
from builder.volume.ext4read import Filesystem, Missing
from builder.volume.lvm import Segment

TAG = "host."  # and a host's name: the digest of the files that it has for the volume's container
FOLLOWS = "follows"  # in the journal, when the switch begins: the running host, if it is to change after it
AFTER = (
    ["systemctl", "daemon-reload"],
    ["udevadm", "control", "--reload"],
    ["systemd-tmpfiles", "--create"],
    ["networkctl", "reload"],
    ["systemctl", "try-reload-or-restart", "systemd-resolved.service"],
)


def tags_for(files: Mapping[str, Files]) -> dict[str, str]:
    """Tags of a volume, as SeatDisk.tags() gives them, from what each host has for it."""
    return {f"{TAG}{host}": digest_of(wanted) for host, wanted in files.items()}


class Root(Protocol):
    """The root of a host, for reading."""

    def file(self, path: str) -> File | None:
        """What is at a path (without a leading slash); None for nothing, and for a directory."""

    def names(self, folder: str) -> Iterable[str]:
        """What is in a directory; nothing where there is none."""


class MountedRoot:
    """A root that is mounted: the running host's."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def file(self, path: str) -> File | None:
        where = self.place / path
        with contextlib.suppress(OSError):
            if where.is_symlink():
                return File(0o777, link=os.fspath(where.readlink()))
            if where.is_file():
                return File(where.stat().st_mode & 0o7777, where.read_bytes())
        return None

    def names(self, folder: str) -> Iterable[str]:
        where = self.place / folder
        return sorted(p.name for p in where.iterdir()) if where.is_dir() else []

    def change(self, changes: Changes, *, secrets: Collection[str] = ()) -> None:
        """Write or remove files, one after the other; an interrupted change is done again.

        ``secrets`` are paths whose old contents are overwritten, and whose new ones are on the disk then.
        """
        for path, wanted in changes.items():
            where, secret = self.place / path, path in secrets
            if wanted is None:
                if secret:
                    overwrite(where)
                where.unlink(missing_ok=True)
                continue
            if secret and not where.parent.exists():
                where.parent.mkdir(mode=0o700)
                sync_directory(where.parent.parent)
            where.parent.mkdir(parents=True, exist_ok=True)
            if wanted.link is not None or where.is_symlink():
                where.unlink(missing_ok=True)
            if wanted.link is not None:
                where.symlink_to(wanted.link)
            else:
                write_atomic(where, wanted.data, mode=wanted.mode)
            if secret:
                sync_directory(where.parent)


def overwrite(path: Path) -> None:
    """Put zeros in place of what a file holds."""
    if path.is_file() and not path.is_symlink():
        with path.open("r+b") as f:
            f.write(bytes(path.stat().st_size))
            f.flush()
            os.fsync(f.fileno())


class VolumeRoot:
    """A root in a volume that is not in use."""

    def __init__(self, filesystem: Filesystem) -> None:
        self._filesystem = filesystem

    def file(self, path: str) -> File | None:
        return read_file(self._filesystem, path)

    def names(self, folder: str) -> Iterable[str]:
        try:
            entry = self._filesystem.find(f"/{folder}")
        except Missing:
            return []
        return sorted(name for name, _ in self._filesystem.names(entry.inode))


def changes_to(root: Root, name: str, wanted: Files) -> Changes:
    """What must change for a host to have just these files for the container, records included.

    The key of its volume stays, unless the host is to have nothing for the container: a volume to which one
    may go back is opened by it.
    """
    record = decode(root.file(record_of(name)))
    others: set[str] = set()
    for other in root.names(RECORDS):
        if other.endswith(".json") and not other.endswith(".previous.json") and other != f"{name}.json":
            others |= set(decode(root.file(f"{RECORDS}/{other}")) or {})
    found: dict[str, File | None] = {p: f for p, f in wanted.items() if root.file(p) != f}
    gone = set(record or {}) - set(wanted) - others | (set() if wanted else {keyfile_of(name)})
    found |= {path: None for path in sorted(gone) if root.file(path) is not None}
    if record != wanted:
        found[record_of(name)] = encode(wanted)
        if record is not None:
            found[record_of(name, previous=True)] = encode(record)
    return found


def recorded(root: Root, name: str, digest: str) -> Files | None:
    """The files of that digest, where a host has them on record."""
    for previous in (False, True):
        files = decode(root.file(record_of(name, previous=previous)))
        if files is not None and digest_of(files) == digest:
            return files
    return None


def carry_records(old: Root, overlay: Path) -> None:
    """Have a host's new root know what its old one had for its containers, for a rollback of theirs."""
    for path in sorted((overlay / RECORDS).glob("*.json")):
        name = path.name.removesuffix(".json")
        was = old.file(record_of(name))
        if decode(was) in (None, decode(File(data=path.read_bytes()))):
            was = old.file(record_of(name, previous=True))
        if was is not None:
            copy = overlay / record_of(name, previous=True)
            copy.write_bytes(was.data)
            copy.chmod(RECORD_MODE)


@dataclass
class HostRoots:
    """The hosts of a seat whose files for the container ``name`` change, in one run.

    ``digests`` are, by host, those of the files that it is to have, and ``files`` these files; where they
    are not known here they must be on record in the host. ``running`` is the host that we run on, if any.
    """

    disk: SeatDisk
    name: str
    digests: Mapping[str, str]
    passphrases: Mapping[str, bytearray]
    tools: Tools
    scratch: Path
    files: Mapping[str, Files] = field(default_factory=dict)
    running: str | None = None
    place: Path = Path("/")
    """Where the root of the running host is mounted."""
    said: list[str] = field(default_factory=list)
    """What was done, in a few words each."""
    given_up: list[Segment] = field(default_factory=list)
    """After ``check``: where the key lies that hosts at rest lose; it is free after the commit."""
    needed: dict[str, int] = field(default_factory=dict)
    """After ``check``: how many free extents the change of each host at rest takes."""
    unknown: set[str] = field(default_factory=set)
    """After ``stage``: the hosts at rest whose files stay: nobody knows those that belong there."""
    before: dict[str, str] = field(default_factory=dict)
    """Digests, by host, of what is on record there for the volume that was in use, as far as it was seen."""

    def at_rest(self, volume: str) -> list[str]:
        """The hosts not in use whose files are others than what belongs to that volume of the container."""
        return [h for h in at_rest(self.disk, volume, self.digests) if h != self.running]

    def check(self, volume: str) -> None:
        """Find out early what ``stage`` would refuse; missing room is for ``refuse_without_room`` to say."""
        key = keyfile_of(self.name)
        for host in self.at_rest(volume):
            with self.changing(host) as (payload, changes):
                if key in changes:
                    self.given_up += places_of(self.disk, host, payload, key)
                if changes:
                    blocks = changed_blocks(
                        payload.read, changes, secrets={key}, tools=self.tools, scratch=self.scratch
                    )
                    self.needed[host] = len(extents_with(self.disk, payload, blocks))
        self.said.clear()

    def refuse_without_room(self, free: int) -> None:
        """Raise InputError where so many free extents are too few for ``stage``, by what ``check`` found."""
        refuse_without_room(self.disk, " and ".join(self.needed), sum(self.needed.values()), free)

    def stage(self, volume: str, concerned: Iterable[str] | None = None) -> None:
        """Have the next commit change the roots of hosts at rest. ``volume`` is the one in use until then.

        ``concerned`` are the hosts whose files change, where that is known, as it is after ``check``.
        Raises InputError where a passphrase or room is missing, or a root was not unmounted cleanly.
        """
        taken: set[int] = set()
        if self.running is not None and self.running in self.digests:
            self.note_before(self.running, MountedRoot(self.place))
        for host in self.at_rest(volume) if concerned is None else concerned:
            with self.changing(host) as (payload, changes):
                self.note_before(host, VolumeRoot(Filesystem(payload.read)))
                if changes:
                    segments = edit_root(
                        self.disk,
                        host,
                        payload,
                        changes,
                        taken=taken,
                        secrets={keyfile_of(self.name)},
                        tools=self.tools,
                        scratch=self.scratch,
                    )
                    lvmcommit.set_segments(self.disk.metadata, host, segments)
                    self.say(host)

    def note_before(self, host: str, root: Root) -> None:
        if host != self.running and self.known(root, host) is None:
            self.unknown.add(host)
        record = decode(root.file(record_of(self.name)))
        if record is not None:
            self.before[host] = digest_of(record)

    @property
    def follows(self) -> str | None:
        """After ``stage``: the running host, where its files are to change once the switch is done."""
        host = self.running
        if host is None or self.before.get(host) == self.digests.get(host):
            return None
        return host

    def missing_tags(self, volume: str) -> dict[str, str]:
        """Tags that a volume lacks, which `seatsmith seat write` wrote, for a way back to it."""
        known = digests_of(self.disk, volume)
        return {f"{TAG}{host}": digest for host, digest in self.before.items() if host not in known}

    @contextlib.contextmanager
    def changing(self, host: str) -> Iterator[tuple[Payload, Changes]]:
        """The volume of a host at rest, open, and what must change in it."""
        passphrase = self.passphrases.get(host)
        if passphrase is None:
            raise InputError(
                f"the passphrase of {host} is needed, too: the files that it has for {self.name} change"
            )
        with unlocked(self.disk, host, passphrase, self.tools, self.scratch) as payload:
            filesystem = Filesystem(payload.read)
            root = VolumeRoot(filesystem)
            wanted = self.wanted(root, host)
            changes = changes_to(root, self.name, wanted) if wanted is not None else {}
            if changes and not filesystem.clean:
                raise InputError(
                    f"the root of {host}, whose files for {self.name} change, was not unmounted cleanly",
                    hint=f"start {host} once and shut it down properly",
                )
            yield payload, changes

    def wanted(self, root: Root, host: str) -> Files | None:
        """The files that a host is to have for the container; None, and said so, where nobody knows them."""
        files = self.known(root, host)
        if files is None:
            self.said.append(
                f"{host} has no record of the files that it had for {self.name} then; they stay as they are"
            )
        return files

    def known(self, root: Root, host: str) -> Files | None:
        given = self.files.get(host)
        if given is not None and digest_of(given) == self.digests[host]:
            return given
        return recorded(root, self.name, self.digests[host])

    def catch_up(self) -> None:
        """After a switch that was interrupted: the host that it was made on, where it is at rest now."""
        if behind(self.disk) not in (None, self.running):
            self.stage(self.name)
            self.disk.commit()

    def settle(self) -> None:
        """Change the running host's root, where it must; to be called again after an interruption."""
        if self.running is None or self.running not in self.digests:
            return
        root = MountedRoot(self.place)
        wanted = self.wanted(root, self.running)
        if wanted is None:
            self.disk.forget(f"{TAG}{self.running}", [self.name])
            self.disk.commit()
            return
        changes = changes_to(root, self.name, wanted)
        if not changes:
            return
        root.change(changes, secrets={keyfile_of(self.name)})
        if self.place == Path("/"):
            for argv in AFTER:
                run(argv, check=False, timeout=120)
        self.say(self.running)

    def say(self, host: str) -> None:
        gone = self.files.get(host) == {}
        self.said.append(
            f"the files that {host} has for {self.name} were {'removed' if gone else 'renewed'}"
        )


def digests_of(disk: SeatDisk, volume: str) -> dict[str, str]:
    """What a volume's tags say of the files that belong to it, by host."""
    return {k.removeprefix(TAG): v for k, v in disk.tags(volume).items() if k.startswith(TAG)}


def note_new_root(disk: SeatDisk, host: str, digests: Mapping[str, str]) -> list[str]:
    """Have the next commit say on containers' volumes what the new root of a host has for each of them.

    ``digests`` are of its files by container; of others nothing is said, so their next replacement looks
    there. Returns in words which have other files than belong to their volumes.
    """
    said, key = [], f"{TAG}{host}"
    for name in (name for name in disk.environments if name != host):
        was, now = disk.tags(name).get(key), digests.get(name)
        disk.forget(key, [name])
        if now is None:
            continue
        tags = lvmcommit.tags_of(disk.metadata, name)
        lvmcommit.set_tags(disk.metadata, name, [*tags, *as_tags({key: now})])
        if was not in (None, now):
            said.append(
                f"the files that {host} has for {name} follow its profile as it is now; "
                f"its volume is older: seatsmith provision env {name}"
            )
    return said


def at_rest(disk: SeatDisk, volume: str, digests: Mapping[str, str]) -> list[str]:
    """The hosts on a disk whose files for a container are others than what belongs to a volume of it."""
    there, late = digests_of(disk, volume) if volume in disk.names else {}, behind(disk)
    return [h for h, d in digests.items() if h in disk.names and (there.get(h) != d or h == late)]


def behind(disk: SeatDisk) -> str | None:
    """The host that an interrupted run was run on, where it had switched and the host was to follow."""
    run = disk.journal.unfinished
    name = run.data.get("environment") if run else None
    if run is None or name not in disk.names:
        return None
    to = run.data.get("to")  # of a rollback: the id of the volume that the environment is to have
    switched = disk.volume(name).id == to if to else disk.tags(name).get("run") == run.id
    return run.data.get(FOLLOWS) if switched else None
