"""Is an environment ever lost? Power cuts at every write of a replacement, and what follows them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.provision.journal import AREA_AT, BLOCK, BLOCKS, read_records
from builder.provision.seatdisk import SeatDisk
from builder.volume import gpt, luks, lvm
from builder.volume.medium import Medium
from tests.integration.provision.conftest import FreshBench
from tests.support import lvm2
from tests.support.fat import Fat32
from tests.support.faults import Log, Recorder, State, copy_sparse, states
from tests.support.provisioned import Bench, MakeMedium
from tests.support.tinyseat import DISK_SIZE

PER_POINT = 60
CHUNK = 1 << 20
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

    def written_to(self, volume: str, number: int) -> list[Region]:
        """What was written into a volume before the event of that number."""
        start, size = self.regions[volume]
        writes = [event for event in self.log.events[:number] if event is not None]
        return [(at, len(data)) for at, data in writes if at < start + size and at + len(data) > start]


def regions_of(disk: SeatDisk) -> dict[str, Region]:
    return {disk.volume(n).id: (disk.offset(n), disk.size_of(n)) for n in disk.names}


def free_extents(disk: SeatDisk) -> int:
    group = disk.metadata.group
    return group.extents - sum(v.extents for v in group.volumes)


def recording(log: Log) -> MakeMedium:
    return lambda fd, path: Recorder(fd, path, log)


def record(bench: Bench, name: str) -> Recorded:
    """Replace version 1 by version 2, and record it."""
    before = bench.disk.with_name("before")
    copy_sparse(bench.disk, before)
    old = bench.contents(name)
    with bench.opened() as disk:
        regions, old_id = regions_of(disk), disk.volume(name).id
    log = Log()
    bench.replace(name, bench.new_image(name, "2"), recording(log))
    with bench.opened() as disk:
        new_id, free = disk.volume(name).id, free_extents(disk)
        regions |= regions_of(disk)
    return Recorded(bench, name, log, before, old, bench.contents(name), regions, old_id, new_id, free)


@pytest.fixture(scope="module")
def container(fresh: FreshBench) -> Recorded:
    return record(fresh(), "work")


@pytest.fixture(scope="module")
def host(fresh: FreshBench) -> Recorded:
    return record(fresh(), "private")


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Recorded:
    found: Recorded = request.getfixturevalue(request.param)
    return found


both = pytest.mark.parametrize("recorded", ["container", "host"], indirect=True)


def check(recorded: Recorded, state: State, final: Medium) -> str:
    """Assert that the seat is whole on a disk after a power cut; return whether it is ``old`` or ``new``."""
    table = gpt.decode(state.read, DISK_SIZE)
    pv = next(p for p in table.partitions if p.name == "seat-tiny")
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
    check_boot(recorded, state, final, esp.start, set(ids.values()))
    return "old" if ids[recorded.name] == recorded.old_id else "new"


def check_volume(recorded: Recorded, state: State, final: Medium, volume: str) -> None:
    """A volume in use is the old one, never written to; or it is complete, as it is after the whole run."""
    complete = recorded.written_to(volume, len(recorded.log.events))
    for start, size in complete:
        for at in range(start, start + size, CHUNK):
            length = min(CHUNK, start + size - at)
            assert state.read(at, length) == final.read(at, length), f"volume {volume} differs at {at}"


def check_boot(recorded: Recorded, state: State, final: Medium, esp: int, there: set[str]) -> None:
    """The boot menu names a kernel that is whole, and a volume that is."""
    fat = Fat32(lambda offset, size: state.read(esp + offset, size))
    entry = fat.file("loader/entries/seat-private.conf").decode()
    kernel = re.search(r"^efi +/(.+)$", entry, re.MULTILINE)
    named = re.search(r"rd\.luks\.name=([0-9a-f-]+)=root", entry)
    assert kernel and named
    assert fat.file("EFI/BOOT/BOOTX64.EFI")
    fat.check("EFI/seatsmith")
    lines = fat.file(kernel[1]).splitlines()
    assert len(lines) == 4000
    assert len(set(lines)) == 1, "the kernel is damaged"
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
    except luks.InputError:
        return None


def sweep(recorded: Recorded, **options: object) -> Iterator[State]:
    durable = recorded.before.with_name("durable")
    copy_sparse(recorded.before, durable)
    yield from states(recorded.log, durable, seed=1, **options)  # type: ignore[arg-type]


@both
def test_a_power_cut_at_any_write_leaves_the_old_or_the_new_environment_whole(recorded: Recorded) -> None:
    with recorded.bench.medium() as final:
        found = [check(recorded, state, final) for state in sweep(recorded, per_point=PER_POINT)]
    old, new = found.count("old"), found.count("new")
    print(f"{recorded.name}: {len(recorded.log.writes)} writes, {len(found)} disks: {old} old, {new} new")
    assert old > 1000
    assert new > 50
    assert (found[0], found[-1]) == ("old", "new")


@both
def test_nothing_is_written_into_volumes_that_stay(recorded: Recorded) -> None:
    end = len(recorded.log.events)
    assert [v for v in recorded.regions if recorded.written_to(v, end)] == [recorded.new_id]


@both
def test_running_it_again_after_a_power_cut_finishes_it_and_loses_no_space(recorded: Recorded) -> None:
    flushes = [n for n, event in enumerate(recorded.log.events) if event is None]
    chosen = {flushes[2], flushes[len(flushes) // 2], *flushes[-7:-1:2]}  # the last one ends the run
    resumed = []
    for state in sweep(recorded, per_point=1, only=lambda n: n in chosen):
        bench = recorded.bench.on(recorded.bench.disk.with_name("again"))
        state.save(recorded.before.with_name("durable"), bench.disk)
        report = bench.replace(recorded.name, bench.image(recorded.name))
        resumed.append(report.resumed)
        assert bench.contents(recorded.name) == recorded.new
        assert bench.contents(f"{recorded.name}.previous") == recorded.old
        with bench.opened() as disk:
            assert disk.journal.unfinished is None
            assert free_extents(disk) == recorded.free
            lvm2.logical_volumes(bench.tools, bench.disk, disk.pv.start, disk.pv.size)
    assert {None, "verified", "switched"} <= set(resumed)
