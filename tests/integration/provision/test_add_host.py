"""Does the boot menu offer a host that is added, and all others as before, whenever that was interrupted?"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.provision.bootfiles import BootFiles, entry_name, entry_of, kernel_of
from builder.provision.change import Change
from builder.provision.job import Report
from builder.provision.replace import replace_environment
from builder.provision.seatdisk import open_seat
from builder.seat.overlay import UKIS, loader_conf
from builder.volume.medium import Medium
from tests.integration.provision.test_commands import UNASKED, provision, trusted
from tests.integration.provision.test_hostroots import are_in, check_root, root_of, wanted
from tests.integration.provision.test_keyfiles import key_held, remove
from tests.integration.provision.test_refusals import refused, seat_file
from tests.integration.provision.test_replace import opens_with
from tests.support.fat import Fat32
from tests.support.faults import CutAfter, Log, PowerCut, Recorder, copy_sparse, states
from tests.support.provisioned import Bench, MakeMedium
from tests.support.tinyseat import DISK_SIZE, PASSPHRASE, put_image

LOADER = "loader/loader.conf"


@pytest.fixture
def lacking(bench: Bench) -> Bench:
    """A seat whose file has ``work`` as a second host, which the disk has not at all."""
    remove(bench)
    seat_file(bench, "host: private\n", "host: private\nhosts: [private, work]\n")
    profile = bench.project.profiles / "work.yaml"
    profile.write_text(profile.read_text().replace("role: container", "bootable: true"))
    put_image(bench.project, "work", "2", bench.key, bootable=True)
    return bench


def add(bench: Bench, make: MakeMedium = Medium) -> Report:
    job = replace(bench.job("work", bench.image("work")), old=False, extents=32)
    with bench.opened(make) as disk, bench.empty_scratch() as scratch:
        return replace_environment(disk, job, tools=bench.tools, scratch=scratch)


def at_the_command_line(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands find the project, and its passphrase in a file."""
    monkeypatch.setenv("SEATSMITH_ROOT", os.fspath(bench.project.root))
    monkeypatch.delenv("SEATSMITH_DIST", raising=False)
    secret = bench.disk.with_name("passphrase")
    secret.write_bytes(PASSPHRASE)
    secret.chmod(0o600)


def check_menu(bench: Bench) -> None:
    """It offers ``work``, with the volume and the kernel that the disk has for it."""
    plan = bench.plan()
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        boot, header = BootFiles(disk.medium, disk.esp, bench.tools, scratch), disk.header("work")
        entry = entry_of(boot, plan, "work")
        assert header
        assert f"rd.luks.name={header.uuid}=root" in entry
        assert f"efi      /{kernel_of(disk, 'work')}\n" in entry
        assert boot.text(kernel_of(disk, "work")).startswith(b"UKI of work 2\n")
        assert len([name for name in boot.names() if name.startswith(f"{UKIS}/")]) == 2
        assert boot.text(LOADER).decode() == loader_conf(plan)
        assert disk.journal.unfinished is None


def test_a_host_that_is_added_starts_from_the_boot_menu(lacking: Bench) -> None:
    add(lacking)
    check_menu(lacking)
    assert are_in(wanted(lacking), root_of(lacking))
    assert are_in(wanted(lacking, "work", "private"), root_of(lacking, "work"))
    check_root(lacking)
    lacking.replace("work", lacking.image("work"))
    with lacking.opened() as disk, lacking.empty_scratch() as scratch:
        Change(disk, lacking.plan(), lacking.tools, scratch).drop("work")
    check_menu(lacking)


def test_the_command_adds_a_host_by_the_passphrases_of_both(
    lacking: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_the_command_line(lacking, monkeypatch)
    words = ["add", "work", "--size", "128MiB", "--for-tests", *UNASKED, *trusted(lacking)]
    assert provision(lacking, *words) == 0
    check_menu(lacking)


@pytest.mark.parametrize("step", ["begin", "allocated", "verified", "switching"])
def test_an_interrupted_addition_of_a_host_is_finished_or_undone(step: str, lacking: Bench) -> None:
    for _ in range(1 if step == "verified" else 2):
        with pytest.raises(PowerCut):
            add(lacking, lambda fd, path: CutAfter(fd, path, step=step))
    if step == "verified":
        with lacking.opened() as disk, lacking.empty_scratch() as scratch:
            Change(disk, lacking.plan(), lacking.tools, scratch).roll_back("work")
            names = BootFiles(disk.medium, disk.esp, lacking.tools, scratch).names()
        assert len([name for name in names if name.startswith(f"{UKIS}/")]) == 1
    add(lacking)
    check_menu(lacking)


def test_a_power_cut_leaves_a_boot_menu_whose_entries_all_start(lacking: Bench) -> None:
    before, log = lacking.disk.with_name("before"), Log()
    copy_sparse(lacking.disk, before)
    add(lacking, lambda fd, path: Recorder(fd, path, log))
    plan = lacking.plan()
    ours, theirs = (entry_name(plan, host) for host in ("work", "private"))
    with lacking.opened() as disk:
        final = fat_of(disk.medium, disk.esp.start)
        entries, kernel = {n: final.file(n) for n in (ours, theirs)}, final.file(kernel_of(disk, "work"))
        esp, named, start = disk.esp, kernel_of(disk, "work"), disk.offset("work")
    first = next(n for n, e in enumerate(log.events) if e and b'"step": "verified"' in e[1])
    tally = {"private alone": 0, "work, too": 0}
    for state in states(log, before, per_point=6, seed=4, only=lambda n: n > first):
        fat = fat_of(state, esp.start)  # type: ignore[arg-type]
        assert fat.file(theirs) == entries[theirs]
        assert fat.file(LOADER).replace(b"timeout 0", b"timeout 3").decode() == loader_conf(plan)
        offered = Path(ours).name in fat.names("loader/entries")
        tally["work, too" if offered else "private alone"] += 1
        if offered:
            assert (fat.file(ours), fat.file(named)) == (entries[ours], kernel)
            assert fat.file(LOADER).decode() == loader_conf(plan)
            seat = open_seat(state, DISK_SIZE)  # type: ignore[arg-type]
            assert seat.offset("work") == start
            assert seat.header("work")
    assert min(tally.values()) > 3, tally


def fat_of(medium: Medium, start: int) -> Fat32:
    return Fat32(lambda offset, size: medium.read(start + offset, size))


@pytest.mark.parametrize("again", [True, False], ids=["given again", "rolled back"])
def test_a_host_that_only_its_entry_is_missing_of_gets_it(
    again: bool, lacking: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr("builder.provision.replace.offer", cut)
        add(lacking)
    if again:
        assert add(lacking).resumed == "switched"
    else:
        with lacking.opened() as disk, lacking.empty_scratch() as scratch:
            Change(disk, lacking.plan(), lacking.tools, scratch).roll_back("work")
    check_menu(lacking)


def test_a_host_that_is_added_holds_the_keys_of_its_containers(lacking: Bench) -> None:
    seat_file(lacking, "    keyfile: false\n", "    keyfile: true\n")
    add(lacking)
    assert key_held(lacking, "work", "private") is None
    lacking.replace("private", lacking.image("private"))
    key = key_held(lacking, "work", "private")
    assert key
    assert opens_with(lacking, "private", key)


def test_a_host_that_cannot_be_added_is_told_before_anything_changes(lacking: Bench) -> None:
    put_image(lacking.project, "work", "3", lacking.key)
    refused(lacking, "brings no kernel, so it cannot be a host", lambda: add(lacking))
    put_image(lacking.project, "work", "2", lacking.key, bootable=True)
    with lacking.opened() as disk, lacking.empty_scratch() as scratch:
        boot, filling = BootFiles(disk.medium, disk.esp, lacking.tools, scratch), scratch / "filling"
        filling.write_bytes(b"x" * (boot.room() - (40 << 10)))
        boot.add({"filling.bin": filling})
    with pytest.raises(InputError, match="does not fit the EFI system partition"):
        add(lacking)
    assert opens_with(lacking, "private", PASSPHRASE)
