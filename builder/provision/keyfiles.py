"""Which keys does a replacement take over from the roots of hosts, which hold them for their containers?"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import InputError
from builder.provision.job import Job
from builder.provision.seatdisk import SeatDisk, opened
from builder.seat.overlay import KEYFILE_SIZE, KEYFILES, hosts
from builder.tools import Tools
from builder.volume import ext4
from builder.volume.ext4read import Filesystem, Missing
from builder.volume.keys import wipe


@dataclass(frozen=True)
class Keys:
    """What was read from the hosts."""

    own: bytearray | None = None
    """Opens the new volume, too."""
    held: Mapping[str, bytearray] = field(default_factory=dict)
    """By environment: what the new root of a host is to hold."""

    def blocks(self, tools: Tools, image: Path) -> dict[int, bytes]:
        """Where the placeholders of held keys lie in a filesystem, and what belongs there."""
        return {
            ext4.block_of(tools, image, f"/{KEYFILES}/{name}.key"): bytes(key)
            for name, key in self.held.items()
        }


@contextlib.contextmanager
def taken_over(disk: SeatDisk, job: Job, tools: Tools, scratch: Path) -> Iterator[Keys]:
    """The keys for a job; wiped on leaving.

    Raises InputError where a host has none, or the passphrase of one is missing.
    """
    wanted = [e.name for e in job.plan.environments if e.keyfile]
    others = [h for h in hosts(job.plan) if h != job.name and h in disk.names]
    found: dict[str, bytearray] = {}
    try:
        if job.name in wanted and others:
            found[job.name] = key_held(disk, job, others[0], job.name, tools, scratch)
        holder = job.name if job.old else job.plan.host
        for name in wanted if job.is_host else ():
            if name != job.name:
                found[name] = key_held(disk, job, holder, name, tools, scratch)
        yield Keys(found.get(job.name), {n: key for n, key in found.items() if n != job.name})
    finally:
        for key in found.values():
            wipe(key)


def key_held(disk: SeatDisk, job: Job, host: str, name: str, tools: Tools, scratch: Path) -> bytearray:
    passphrase = job.passphrases.get(host)
    if passphrase is None:
        raise InputError(f"the passphrase of {host} is needed, too: it holds a key")
    with opened(disk, host, passphrase, tools, scratch) as filesystem:
        key = bytearray(key_in(filesystem, name, host))
    if len(key) != KEYFILE_SIZE:
        wipe(key)
        raise InputError(
            f"/{KEYFILES}/{name}.key of {host} has another size than {KEYFILE_SIZE} bytes: it is not ours",
            hint="keep a key of your own under another name, and name it in crypttab",
        )
    return key


def key_in(filesystem: Filesystem, name: str, host: str) -> bytes:
    """The key of a container's volume, from the root of its host. Raises InputError where it has none."""
    try:
        return filesystem.data(filesystem.find(f"/{KEYFILES}/{name}.key"))
    except Missing:
        raise InputError(
            f"{host} holds no key for {name}, which has `keyfile: true` in the seat file",
            hint="keys are made with the seat: take `keyfile:` out, and its volume is opened by passphrase",
        ) from None
