"""What becomes of changes that hosts follow, where no extent is free for what changes in their roots?"""

import pytest

from builder.provision.change import Change
from builder.provision.space import free_count
from builder.volume.lvmcommit import free_runs
from tests.integration.provision.test_hostroots import are_in, check_root, isolate, root_of, wanted
from tests.integration.provision.test_refusals import refused
from tests.integration.provision.test_remove import SAID, remove
from tests.support.faults import PowerCut
from tests.support.provisioned import Bench

MESSAGE = "no room to change the files that private has for it"


def fill(bench: Bench, *, but: int = 0) -> None:
    """Give all free extents, or all but so many, to the swap volume."""
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        size = disk.volume("swap").extents + free_count(disk) - but
        Change(disk, bench.plan(), bench.tools, scratch).grow("swap", size)


def roll_back(bench: Bench) -> None:
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        change = Change(disk, bench.plan(), bench.tools, scratch, passphrases=bench.passphrases())
        change.roll_back("work")


@pytest.mark.parametrize("interrupted", [False, True], ids=["at once", "interrupted"])
def test_a_container_is_removed_from_a_full_seat_and_hosts_have_nothing_for_it(
    interrupted: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise PowerCut

    fill(bench)
    with bench.opened() as disk:
        extents = disk.volume("work").extents
    files = wanted(bench)
    assert are_in(files, root_of(bench))
    if interrupted:
        with monkeypatch.context() as patch, pytest.raises(PowerCut):
            patch.setattr("builder.provision.hostroots.HostRoots.stage", cut)
            remove(bench)
        assert are_in(files, root_of(bench))
    assert remove(bench) == SAID
    assert not set(files) & set(root_of(bench))
    check_root(bench)
    with bench.opened() as disk:
        assert disk.names == ["swap", "private"]
        assert disk.journal.unfinished is None
        if not interrupted:  # what is free is one piece, so that it can be added again
            assert [run.count for run in free_runs(disk.metadata.group)] == [extents]


def test_a_replacement_whose_hosts_cannot_follow_is_refused_before_anything_is_written(bench: Bench) -> None:
    image = isolate(bench, "shared").new_image("work", "2")
    with bench.opened() as disk:
        fill(bench, but=disk.volume("work").extents)
    refused(bench, MESSAGE, lambda: bench.replace("work", image))


def test_a_rollback_whose_hosts_cannot_follow_is_refused_and_keeps_nobody_waiting(bench: Bench) -> None:
    bench.replace("work", isolate(bench, "shared").new_image("work", "2"))
    fill(bench)
    refused(bench, MESSAGE, lambda: roll_back(bench))
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        Change(disk, bench.plan(), bench.tools, scratch).drop("work")
