"""Is nothing left in the hosts of a container that was removed, whenever that was interrupted?"""

import pytest

from builder.errors import InputError
from builder.provision.change import Change
from builder.volume.medium import Medium
from tests.integration.provision.test_asked import BeforeTheEnd
from tests.integration.provision.test_hostroots import are_in, check_root, root_of, wanted, without
from tests.support.faults import CutAfter, PowerCut
from tests.support.provisioned import Bench, MakeMedium

SAID = ["work and all of its data are gone", "the files that private has for work were removed"]


def remove(bench: Bench, make: MakeMedium = Medium, *, known: bool = True) -> list[str]:
    secrets = bench.passphrases() if known else {}
    with bench.opened(make) as disk, bench.empty_scratch() as scratch:
        change = Change(disk, bench.plan(), bench.tools, scratch, passphrases=secrets)
        change.remove("work")
        return change.done


def test_what_hosts_have_for_a_container_goes_with_it_and_comes_back(bench: Bench) -> None:
    files, before = wanted(bench), root_of(bench)
    assert any("machines.target.wants/systemd-nspawn@work" in path for path in files)
    assert are_in(files, before)
    assert remove(bench) == SAID
    after = root_of(bench)
    records = [path for path in after if path.startswith("var/lib/seatsmith/containers/")]
    assert not set(files) & set(after)
    assert without(before, {*files, *records}) == without(after, records)
    check_root(bench)
    with bench.opened() as disk:
        assert disk.journal.unfinished is None


def test_without_a_hosts_passphrase_nothing_is_removed(bench: Bench) -> None:
    with pytest.raises(InputError, match="the passphrase of private is needed, too"):
        remove(bench, known=False)
    with bench.opened() as disk:
        assert "work" in disk.names
        assert disk.journal.unfinished is None


@pytest.mark.parametrize(
    "make", [lambda fd, path: CutAfter(fd, path, step="begin"), BeforeTheEnd], ids=["begun", "all but done"]
)
def test_an_interrupted_removal_is_finished_by_the_same_command(make: MakeMedium, bench: Bench) -> None:
    files = wanted(bench)
    with pytest.raises(PowerCut):
        remove(bench, make)
    assert remove(bench)[0] == SAID[0]
    assert not set(files) & set(root_of(bench))
    with bench.opened() as disk:
        assert disk.names == ["swap", "private"]
        assert disk.journal.unfinished is None
