"""What must be true of a seat after a power cut? Checked on any disk that it may leave."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError
from builder.provision.journal import AREA_AT, BLOCK, BLOCKS, read_records
from builder.provision.seatdisk import SeatDisk
from builder.volume import gpt, luks, lvm
from builder.volume.medium import Medium
from builder.volume.target import marked_as
from tests.support import lvm2
from tests.support.fat import Fat32
from tests.support.faults import Log, State, copy_sparse, states
from tests.support.provisioned import Bench

CHUNK = 1 << 20
KERNELS = "EFI/seatsmith"
Region = tuple[int, int]  # offset on the disk, size


@dataclass
class Recorded:
    """A replacement that was recorded, with what the disk held before and after it."""

    bench: Bench
    name: str
    log: Log
    before: Path
    old: dict[str, str]
    new: dict[str, str]
    regions: dict[str, Region]
    """By volume id: where its bytes are."""
    old_id: str
    new_id: str
    free: int
    """Extents that were free after the run."""
    kernels: dict[str, str]
    """Digests of the kernels on the ESP before and after the run, by name."""
    busy: frozenset[str]
    """Ids of volumes that a running host wrote to meanwhile."""

    @property
    def steady(self) -> dict[str, Region]:
        """By volume id: what nobody but the replacement has any business with."""
        headers = {v: (start, luks.HEADER_SIZE) for v, (start, _) in self.regions.items() if v in self.busy}
        return self.regions | headers

    def written_to(self, volume: str, number: int) -> list[Region]:
        """What was written into a volume before the event of that number."""
        return self.writes_in(self.steady[volume], number)

    def writes_in(self, region: Region, number: int) -> list[Region]:
        """What was written into a part of the disk before the event of that number."""
        start, size = region
        writes = [event for event in self.log.events[:number] if event is not None]
        return [(at, len(data)) for at, data in writes if at < start + size and at + len(data) > start]

    @property
    def written(self) -> list[str]:
        """Ids of the volumes that were written into."""
        return [v for v in self.steady if self.written_to(v, len(self.log.events))]


def describe(bench: Bench, name: str, log: Log, before: Path, *, busy: Iterable[str] = ()) -> Recorded:
    """A run that was recorded; the disk of ``bench`` is as the run left it, ``before`` as it found it.

    ``busy`` are the names of volumes that the running host used meanwhile: only their LUKS headers stay.
    """
    earlier = bench.on(before)
    with earlier.opened() as disk:
        regions, old_id, kernels = regions_of(disk), disk.volume(name).id, kernels_of(disk)
        used = frozenset(disk.volume(volume).id for volume in busy)
    with bench.opened() as disk:
        regions |= regions_of(disk)
        kernels |= kernels_of(disk)
        new_id, free = disk.volume(name).id, free_extents(disk)
    old, new = earlier.contents(name), bench.contents(name)
    return Recorded(bench, name, log, before, old, new, regions, old_id, new_id, free, kernels, used)


def regions_of(disk: SeatDisk) -> dict[str, Region]:
    return {disk.volume(n).id: (disk.offset(n), disk.size_of(n)) for n in disk.names}


def free_extents(disk: SeatDisk) -> int:
    group = disk.metadata.group
    return group.extents - sum(v.extents for v in group.volumes)


def kernels_of(disk: SeatDisk) -> dict[str, str]:
    fat = Fat32(lambda offset, size: disk.medium.read(disk.esp.start + offset, size))
    return {name: digest_of(fat.file(f"{KERNELS}/{name}")) for name in fat.names(KERNELS)}


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check(recorded: Recorded, state: State, final: Medium) -> str:
    """Assert that the seat is whole on a disk after a power cut; return whether it is ``old`` or ``new``."""
    bench = recorded.bench
    table = gpt.decode(state.read, bench.size)
    pv = next(p for p in table.partitions if p.name == f"seat-{bench.seat}")
    esp = next(p for p in table.partitions if p.type == gpt.ESP)
    group = lvm.decode(lambda offset, size: state.read(pv.start + offset, size))
    ids = {volume.name: volume.id for volume in group.volumes}
    assert {"swap", "work", "private"} <= ids.keys()
    assert ids[recorded.name] in (recorded.old_id, recorded.new_id)
    for volume in group.volumes:
        if not volume.name.endswith(".new"):
            start = pv.start + group.offset(volume.segments[0].first)
            assert start == recorded.regions[volume.id][0]
            check_volume(recorded, state, final, volume.id)
    read_records(state.read(AREA_AT, BLOCK * BLOCKS))
    check_boot(recorded, state, final, esp, set(ids.values()))
    return "old" if ids[recorded.name] == recorded.old_id else "new"


def check_volume(recorded: Recorded, state: State, final: Medium, volume: str) -> None:
    """A volume in use is the old one, never written to; or it is complete, as it is after the whole run."""
    complete = recorded.written_to(volume, len(recorded.log.events))
    for at, length in chunks(complete):
        assert state.read(at, length) == final.read(at, length), f"volume {volume} differs at {at}"


def chunks(regions: Iterable[Region]) -> Iterator[Region]:
    for start, size in regions:
        for at in range(start, start + size, CHUNK):
            yield at, min(CHUNK, start + size - at)


def check_boot(recorded: Recorded, state: State, final: Medium, esp: gpt.Partition, there: set[str]) -> None:
    """The boot menu names a kernel that is whole, and a volume that is."""
    fat = Fat32(lambda offset, size: state.read(esp.start + offset, size))
    entry = fat.file("loader/entries/seat-private.conf").decode()
    kernel = re.search(rf"^efi +/{KERNELS}/(.+)$", entry, re.MULTILINE)
    named = re.search(r"rd\.luks\.name=([0-9a-f-]+)=root", entry)
    assert kernel and named
    if state.number == 0 or recorded.writes_in((esp.start, esp.size), state.number):
        assert fat.file("EFI/BOOT/BOOTX64.EFI")
        fat.check(KERNELS)
        digest = digest_of(fat.file(f"{KERNELS}/{kernel[1]}"))
        assert digest == recorded.kernels[kernel[1]], "the kernel is damaged"
    for volume in there:
        if luks_id(state, recorded.regions[volume][0]) == named[1]:
            check_volume(recorded, state, final, volume)
            return
    raise AssertionError(f"the boot menu names volume {named[1]}, which is not there")


def luks_id(state: State, start: int) -> str | None:
    if state.read(start, 6) != b"LUKS\xba\xbe":
        return None
    try:
        return luks.read_header(lambda offset, size: state.read(start + offset, size)).uuid
    except InputError:
        return None


def number_of(log: Log, step: str) -> int:
    """The number of the first event by which the journal says a step."""
    said = f'"step": "{step}"'.encode()
    for number, event in enumerate(log.events):
        if event and event[0] < AREA_AT + BLOCK * BLOCKS and said in event[1]:
            return number
    raise AssertionError(f"the journal has no step {step}")


def sweep(recorded: Recorded, **options: object) -> Iterator[State]:
    durable = recorded.before.with_name("durable")
    copy_sparse(recorded.before, durable)
    yield from states(recorded.log, durable, seed=1, **options)  # type: ignore[arg-type]


def disk_after(recorded: Recorded, state: State) -> Bench:
    """The disk of a power cut, as a file of its own: only while ``sweep`` is at that state."""
    bench = recorded.bench.on(recorded.before.with_name("again"))
    state.save(recorded.before.with_name("durable"), bench.disk)
    return bench


def run_again(recorded: Recorded, bench: Bench) -> str | None:
    """Give the command once more on a disk after a power cut, and assert that it finishes, losing nothing.

    Returns the step at which the interrupted run was taken up.
    """
    environment = next(e for e in bench.plan().environments if e.name == recorded.name)
    report = bench.replace(recorded.name, bench.image(environment.profile))
    assert bench.contents(recorded.name) == recorded.new
    assert bench.contents(f"{recorded.name}.previous") == recorded.old
    with bench.opened() as disk:
        assert disk.journal.unfinished is None
        assert free_extents(disk) == recorded.free
        lvm2.logical_volumes(bench.tools, bench.disk, disk.pv.start, disk.pv.size)
    return report.resumed


def begun(bench: Bench, log: Log, state: State, final: Medium) -> str:
    """Assert that an ``apply`` that was cut off left no seat that looks whole but is not.

    Returns whether the disk is ``untouched``, ``marked`` as incomplete, or ``whole``.
    """
    if marked_as(state.read(0, 512)) == bench.seat:
        return "marked"
    if not any(state.read(0, 1024)):
        return "untouched"
    table = gpt.decode(state.read, bench.size)
    pv = next(p for p in table.partitions if p.name == f"seat-{bench.seat}")
    lvm.decode(lambda offset, size: state.read(pv.start + offset, size))
    for at, data in log.writes:
        assert state.read(at, len(data)) == final.read(at, len(data)) or at < 1 << 20
    return "whole"


def kept_regions(recorded: Recorded) -> list[Region]:
    """Where the old environment has data: the holes of its volume were never written."""
    start, size = recorded.regions[recorded.old_id]
    found = []
    with recorded.before.open("rb") as f:
        at = start
        while at < start + size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:  # no more data
                break
            end = min(os.lseek(f.fileno(), at, os.SEEK_HOLE), start + size)
            if at < end:
                found.append((at, end - at))
            at = end
    return found


def lost(state: State, reference: Medium, regions: Iterable[Region]) -> int:
    """How many bytes of regions are not as on the reference."""
    total = 0
    for at, length in chunks(regions):
        here, there = state.read(at, length), reference.read(at, length)
        if here != there:
            total += sum(a != b for a, b in zip(here, there, strict=True))
    return total
