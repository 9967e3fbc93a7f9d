"""Does a seat start whenever the removal of one of its hosts is interrupted, and is all of it gone then?"""

from pathlib import Path

import pytest

from builder.provision.bootfiles import BootFiles, entry_of_host, kernel_of
from builder.provision.change import Change
from builder.provision.seatdisk import open_seat
from builder.seat.overlay import UKIS
from builder.seat.plan import load_plan
from builder.volume.medium import Medium
from tests.integration.provision.test_add_host import add, at_the_command_line, check_menu, fat_of, lacking
from tests.integration.provision.test_asked import BeforeTheEnd
from tests.integration.provision.test_commands import UNASKED, provision, trusted
from tests.integration.provision.test_hostroots import are_in, check_root, isolate, root_of, wanted
from tests.integration.provision.test_refusals import refused, seat_file
from tests.support.faults import CutAfter, Log, PowerCut, Recorder, copy_sparse, states
from tests.support.provisioned import Bench, MakeMedium
from tests.support.tinyseat import DISK_SIZE

assert lacking  # a fixture
HOSTS = "host: private\nhosts: [private, work]\n"


@pytest.fixture
def two(lacking: Bench) -> Bench:
    """A seat with two hosts, ``private`` and ``work``."""
    add(lacking)
    return lacking


def remove(bench: Bench, name: str = "work", make: MakeMedium = Medium) -> list[str]:
    with bench.opened(make) as disk, bench.empty_scratch() as scratch:
        change = Change(disk, bench.plan(), bench.tools, scratch, passphrases=bench.passphrases())
        change.remove(name)
        return change.done


def check_gone(bench: Bench, name: str = "work", other: str = "private") -> None:
    """Nothing of the host is left: no volume, entry, kernel, nor what the other one had for it."""
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        files = BootFiles(disk.medium, disk.esp, bench.tools, scratch).names()
        assert disk.names == ["swap", other]
        assert not [tag for tag in disk.tags(other) if tag == f"host.{name}"]
        assert entry_of_host(name) not in files
        assert entry_of_host(other) in files
        assert [f for f in files if f.startswith(f"{UKIS}/")] == [kernel_of(disk, other)]
        assert disk.journal.unfinished is None
    assert not [path for path in root_of(bench, other) if f"systemd-nspawn@{name}" in path]


@pytest.mark.parametrize(("name", "other"), [("work", "private"), ("private", "work")])
def test_a_host_goes_with_its_entry_and_kernel_and_what_the_other_had_for_it(
    name: str, other: str, two: Bench
) -> None:
    assert remove(two, name) == [
        f"{name} and all of its data are gone",
        f"the files that {other} has for {name} were removed",
    ]
    check_gone(two, name, other)
    refused(two, "nothing else would start", lambda: remove(two, other))


def test_a_host_that_was_removed_can_be_added_again(two: Bench) -> None:
    remove(two)
    add(two)
    check_menu(two)
    assert are_in(wanted(two), root_of(two))
    assert are_in(wanted(two, "work", "private"), root_of(two, "work"))
    check_root(two)


def test_the_command_removes_a_host_that_the_seat_file_has_no_more(
    two: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_command_line(two, monkeypatch)
    seat_file(two, HOSTS, "host: private\n")
    seat_file(two, "  work:\n    size: 128MiB\n    keep: [/home, /etc/machine-id]\n", "")
    assert provision(two, "remove", "work", *UNASKED, *trusted(two)[2:]) == 0
    check_gone(two)


@pytest.mark.parametrize("again", [True, False], ids=["given again", "rolled back"])
@pytest.mark.parametrize("step", ["begin", "entry", "all but done"])
def test_an_interrupted_removal_of_a_host_is_finished_or_undone(
    step: str, again: bool, two: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise PowerCut

    begin = lambda fd, path: CutAfter(fd, path, step="begin")  # noqa: E731
    make = {"begin": begin, "entry": Medium, "all but done": BeforeTheEnd}[step]
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        if step == "entry":
            patch.setattr("builder.provision.hostroots.HostRoots.stage", cut)
        remove(two, make=make)
    if again:
        remove(two)
        check_gone(two)
        return
    with two.opened() as disk, two.empty_scratch() as scratch:
        change = Change(disk, two.plan(), two.tools, scratch, passphrases=two.passphrases())
        change.roll_back("work")
    if step == "all but done":
        assert change.done[0].endswith("`provision remove work` had gone through, and cannot be undone")
        check_gone(two)
    else:
        assert change.done == ["the interrupted `provision remove work` is given up"]
        check_menu(two)
        check_root(two)


def test_a_power_cut_leaves_a_boot_menu_whose_entries_all_start(two: Bench) -> None:
    before, log = two.disk.with_name("before"), Log()
    copy_sparse(two.disk, before)
    names = ("private", "work")
    with two.opened() as disk:
        esp, fat = disk.esp, fat_of(disk.medium, disk.esp.start)
        entries = {n: fat.file(entry_of_host(n)) for n in names}
        kernels = {n: fat.file(kernel_of(disk, n)) for n in names}
        named, places = {n: kernel_of(disk, n) for n in names}, {n: disk.offset(n) for n in names}
    remove(two, make=lambda fd, path: Recorder(fd, path, log))
    tally = {"both": 0, "private alone": 0}
    for state in states(log, before, per_point=6, seed=4):
        fat, seat = fat_of(state, esp.start), open_seat(state, DISK_SIZE)  # type: ignore[arg-type]
        there = [n for n in names if Path(entry_of_host(n)).name in fat.names("loader/entries")]
        assert "private" in there
        tally["both" if len(there) > 1 else "private alone"] += 1
        for name in there:
            assert (fat.file(entry_of_host(name)), fat.file(named[name])) == (entries[name], kernels[name])
            assert seat.offset(name) == places[name]
            assert seat.header(name)
    assert min(tally.values()) > 3, tally


def test_a_host_that_never_had_the_files_of_a_previous_container_gets_those_of_the_next(two: Bench) -> None:
    two.replace("private", isolate(two, "shared", "private").image("private"))
    remove(two)
    add(two)  # knows only what belongs to the present private
    with two.opened() as disk, two.empty_scratch() as scratch:
        profiles = load_plan(two.project, two.seat)[2]
        secrets = two.passphrases()
        change = Change(disk, two.plan(), two.tools, scratch, profiles=profiles, passphrases=secrets)
        change.roll_back("private")
    assert any(said.startswith("work has no record of the files that it had for") for said in change.done)
    two.replace("private", isolate(two, "strict", "private").image("private"))
    assert are_in(wanted(two, "work", "private"), root_of(two, "work"))


def test_the_kernel_of_a_previous_host_goes_with_it_also_where_that_was_interrupted(
    two: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise PowerCut

    two.replace("work", two.image("work"))
    with two.opened() as disk, two.empty_scratch() as scratch:
        change = Change(disk, two.plan(), two.tools, scratch)
        with monkeypatch.context() as patch, pytest.raises(PowerCut):
            patch.setattr("builder.provision.change.remove_stale_kernels", cut)
            change.drop("work")
    with two.opened() as disk, two.empty_scratch() as scratch:
        Change(disk, two.plan(), two.tools, scratch).roll_back("work")
    check_menu(two)
