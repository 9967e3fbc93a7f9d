"""Is an environment ever lost? Power cuts at every write of a replacement, and what follows them."""

import shutil
from collections.abc import Iterator

import pytest

from tests.integration.provision.conftest import FreshBench
from tests.support.faults import Log, Recorder, copy_sparse
from tests.support.powercut import Recorded, check, describe, disk_after, run_again, sweep
from tests.support.provisioned import Bench, MakeMedium

PER_POINT = 60


def recording(log: Log) -> MakeMedium:
    return lambda fd, path: Recorder(fd, path, log)


def record(bench: Bench, name: str) -> Recorded:
    """Replace version 1 by version 2, and record it."""
    before = bench.disk.with_name("before")
    copy_sparse(bench.disk, before)
    log = Log()
    bench.replace(name, bench.new_image(name, "2"), recording(log))
    return describe(bench, name, log, before)


@pytest.fixture(scope="module", params=["work", "private"], ids=["container", "host"])
def recorded(
    request: pytest.FixtureRequest, fresh: FreshBench, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    place = tmp_path_factory.mktemp("recorded")
    yield record(fresh(place / "bench"), request.param)
    shutil.rmtree(place)  # disks by the dozen


def test_a_power_cut_at_any_write_leaves_the_old_or_the_new_environment_whole(recorded: Recorded) -> None:
    with recorded.bench.medium() as final:
        found = [check(recorded, state, final) for state in sweep(recorded, per_point=PER_POINT)]
    old, new = found.count("old"), found.count("new")
    print(f"{recorded.name}: {len(recorded.log.writes)} writes, {len(found)} disks: {old} old, {new} new")
    assert old > 1000
    assert new > 50
    assert (found[0], found[-1]) == ("old", "new")


def test_nothing_is_written_into_volumes_that_stay(recorded: Recorded) -> None:
    assert recorded.written == [recorded.new_id]


def test_running_it_again_after_a_power_cut_finishes_it_and_loses_no_space(recorded: Recorded) -> None:
    flushes = [n for n, event in enumerate(recorded.log.events) if event is None]
    chosen = {flushes[2], flushes[len(flushes) // 2], *flushes[-7:-1:2]}  # the last one ends the run
    resumed = [
        run_again(recorded, disk_after(recorded, state))
        for state in sweep(recorded, per_point=1, only=lambda n: n in chosen)
    ]
    assert {None, "verified", "switched"} <= set(resumed)
