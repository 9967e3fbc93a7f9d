"""Does the replacement of an environment do what it promises? Kept files, rollback, room, passphrases."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import BusyError, InputError, TrustError, UsageError
from builder.provision.accounts import read_passwords
from builder.provision.bootfiles import BootFiles, entry_of, kernel_of
from builder.provision.change import Change
from builder.provision.replace import replace_environment
from builder.provision.seatdisk import opened
from builder.volume import luks
from builder.volume.cipher import Sectors
from tests.support import lvm2
from tests.support.faults import CutAfter, Faulty, PowerCut
from tests.support.powercut import free_extents
from tests.support.provisioned import Bench
from tests.support.tinyseat import PASSPHRASE, content


def change(bench: Bench, verb: str, name: str, *rest: int) -> list[str]:
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        made = Change(disk, bench.plan(), bench.tools, scratch, passphrases=bench.passphrases())
        getattr(made, verb)(name, *rest)
        return made.done


def names_on(bench: Bench) -> dict[str, str]:
    """The logical volumes as lvm2 sees them, with their extents."""
    with bench.opened() as disk:
        found = lvm2.logical_volumes(bench.tools, bench.disk, disk.pv.start, disk.pv.size)
    return {name: row["seg_size_pe"] for name, row in found.items()}


def test_the_image_is_new_and_what_is_kept_is_old(bench: Bench) -> None:
    before = bench.contents("work")
    bench.replace("work", bench.new_image("work", "2"))
    after = bench.contents("work")
    same = {name for name in before if before[name] == after[name]}
    own = {"etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub"}
    # /etc/shadow is the same in both images
    assert same == {"home/user/from-image", "etc/machine-id", "etc/shadow", *own}
    assert before.keys() == after.keys()
    assert content("1", "./home/user/from-image") != content("2", "./home/user/from-image")


def test_rollback_returns_to_the_old_one_and_again_to_the_new_one(bench: Bench) -> None:
    old = bench.contents("work")
    bench.replace("work", bench.new_image("work", "2"))
    new = bench.contents("work")
    assert change(bench, "roll_back", "work") == ["work is again 1"]
    assert bench.contents("work") == old
    assert bench.contents("work.previous") == new
    assert change(bench, "roll_back", "work") == ["work is again 2"]
    assert bench.contents("work") == new


def test_the_boot_menu_follows_a_rollback_of_the_host(bench: Bench) -> None:
    def boots() -> tuple[str, bool]:
        """The image whose kernel starts, and whether it starts with the volume in use."""
        with bench.opened() as disk, bench.empty_scratch() as scratch:
            boot = BootFiles(disk.medium, disk.esp, bench.tools, scratch)
            entry, header = entry_of(boot, bench.plan(), "private"), disk.header("private")
            kernel = boot.text(kernel_of(disk, "private"))
            assert header is not None
            named = kernel_of(disk, "private") in entry
            return kernel.splitlines()[0].decode().split()[-1], named and header.uuid in entry

    assert boots() == ("1", True)
    bench.replace("private", bench.new_image("private", "2"))
    assert boots() == ("2", True)
    change(bench, "roll_back", "private")
    assert boots() == ("1", True)


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.long)])
def test_many_replacements_keep_home_and_lose_no_space(times: int, bench: Bench) -> None:
    kept = {
        n: d for n, d in bench.contents("work").items() if n.startswith("home/") or n == "etc/machine-id"
    }
    image, free = bench.new_image("work", "2"), []
    for _ in range(times):
        bench.replace("work", image)
        with bench.opened() as disk:
            free.append(free_extents(disk))
    assert len(set(free)) == 1
    after = bench.contents("work")
    assert {name: after[name] for name in kept} == kept
    assert set(names_on(bench)) == {"swap", "work", "work.previous", "private"}


def test_the_keys_of_an_older_volume_are_overwritten(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    bench.replace("work", image)
    with bench.opened() as disk:
        first = disk.offset("work.previous")
        assert disk.medium.read(first, 4) == b"LUKS"
    bench.replace("work", image)
    with bench.opened() as disk:
        assert not any(disk.medium.read(first, 16 << 20))


def test_drop_gives_the_room_back_and_removes_the_kernel(bench: Bench) -> None:
    with bench.opened() as disk:
        free = free_extents(disk)
    bench.replace("private", bench.new_image("private", "2"))
    change(bench, "drop", "private")
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        assert free_extents(disk) == free
        names = BootFiles(disk.medium, disk.esp, bench.tools, scratch).names()
    assert len([name for name in names if name.startswith("EFI/seatsmith/")]) == 1
    with pytest.raises(InputError, match="no previous environment"):
        change(bench, "drop", "private")


def test_a_grown_volume_of_several_pieces_can_be_read_and_replaced(bench: Bench) -> None:
    before = bench.contents("work")
    change(bench, "grow", "work", 40)
    with bench.opened() as disk:
        assert len(disk.volume("work").segments) == 2
    assert bench.contents("work") == before
    bench.replace("work", bench.new_image("work", "2"))
    assert names_on(bench)["work"] == "40"
    with pytest.raises(InputError, match="already; a volume only grows"):
        change(bench, "grow", "work", 8)
    with pytest.raises(InputError, match="there is no room"):
        change(bench, "grow", "work", 4000)
    with bench.opened() as disk:
        assert disk.journal.unfinished is None


def test_a_kernel_that_has_no_room_on_the_esp_is_refused_before_anything_changes(bench: Bench) -> None:
    bench.replace("private", bench.new_image("private", "2"))
    third = bench.new_image("private", "3")
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        boot, seqno = BootFiles(disk.medium, disk.esp, bench.tools, scratch), disk.metadata.group.seqno
        filling = scratch / "filling"
        filling.write_bytes(b"x" * (boot.room() - (40 << 10)))
        boot.add({"filling.bin": filling})
        assert 0 < boot.room() < 60_000
    with pytest.raises(InputError, match="does not fit the EFI system partition") as e:
        bench.replace("private", third)
    assert e.value.hint == "give up a previous environment: seatsmith provision drop private"
    with bench.opened() as disk:
        assert (disk.metadata.group.seqno, disk.journal.unfinished) == (seqno, None)
    change(bench, "drop", "private")
    bench.replace("private", third)
    assert "private.previous" in names_on(bench)


@pytest.mark.parametrize("extents", [1, 4])
def test_a_volume_that_its_header_fills_is_refused_before_anything_changes(
    extents: int, bench: Bench
) -> None:
    job = replace(bench.job("work", bench.new_image("work", "2")), extents=extents)
    refused = pytest.raises(InputError, match="no room for more than its LUKS2 header")
    with bench.opened() as disk, bench.empty_scratch() as scratch, refused:
        replace_environment(disk, job, tools=bench.tools, scratch=scratch)
    with bench.opened() as disk:
        assert disk.journal.unfinished is None


def test_remove_takes_all_volumes_of_a_container_and_never_the_only_host(bench: Bench) -> None:
    bench.replace("work", bench.new_image("work", "2"))
    with pytest.raises(InputError, match="private is the only host"):
        change(bench, "remove", "private")
    change(bench, "remove", "work")
    assert set(names_on(bench)) == {"swap", "private"}


def test_a_wrong_passphrase_changes_nothing(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        seqno = disk.metadata.group.seqno
        job = bench.job("work", image)
        job.passphrases["work"][:] = b"wrong"
        with pytest.raises(TrustError, match="no keyslot opens"):
            replace_environment(disk, job, tools=bench.tools, scratch=scratch)
    with bench.opened() as disk:
        assert (disk.metadata.group.seqno, disk.journal.unfinished) == (seqno, None)


def test_a_volume_without_room_beside_it_is_refused_with_the_numbers(bench: Bench) -> None:
    change(bench, "grow", "work", 100)
    with pytest.raises(InputError, match=r"no room for a second volume of work: it needs 400 MiB"):
        bench.replace("work", bench.new_image("work", "2"))
    with bench.opened() as disk:
        assert disk.journal.unfinished is None


def leave_unclean(bench: Bench, name: str) -> None:
    """Have a filesystem as one that was not unmounted."""
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        start = disk.offset(name)
        copy = scratch / "header"
        copy.write_bytes(disk.medium.read(start, luks.HEADER_SIZE))
        sectors = Sectors(luks.unlock(bench.tools, copy, bytearray(PASSPHRASE)))
        block = bytearray(disk.medium.read(start + luks.HEADER_SIZE, 4096))
        sectors.decrypt(block, 4096, 0)
        block[1024 + 96] |= 0x04  # needs_recovery: the journal holds what the rest lacks
        sectors.encrypt(block, 4096, 0)
        disk.medium.write(start + luks.HEADER_SIZE, block)


def test_a_filesystem_that_was_not_unmounted_is_not_read_for_what_is_kept(bench: Bench) -> None:
    leave_unclean(bench, "work")
    image = bench.new_image("work", "2")
    with pytest.raises(InputError, match="not unmounted cleanly"):
        bench.replace("work", image)
    seat = bench.project.seats / "tiny.yaml"
    seat.write_text(seat.read_text().replace("    keep: [/home, /etc/machine-id]\n", ""))
    with pytest.raises(InputError, match="such as passwords and host keys, cannot be read safely"):
        bench.replace("work", image)
    with bench.opened() as disk:
        assert disk.journal.unfinished is None


def test_an_interrupted_replacement_is_undone_by_rollback(bench: Bench) -> None:
    old = bench.contents("work")
    with bench.opened() as disk:
        free = free_extents(disk)
    image = bench.new_image("work", "2")
    with pytest.raises(PowerCut):
        bench.replace("work", image, lambda fd, path: Faulty(fd, path, at=12, kind="cut", torn=3))
    with bench.opened() as disk:
        assert "work.new" in disk.names
    with pytest.raises(BusyError, match="was interrupted"):
        bench.replace("private", image)
    assert change(bench, "roll_back", "work") == ["the interrupted replacement of work is undone"]
    assert bench.contents("work") == old
    with bench.opened() as disk:
        assert (free_extents(disk), disk.journal.unfinished) == (free, None)


def test_a_recovery_key_that_nobody_has_seen_is_not_taken_over_from_an_interrupted_run(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    with pytest.raises(PowerCut):
        bench.replace("work", image, lambda fd, path: CutAfter(fd, path, step="verified"))
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        job = replace(bench.job("work", image), recovery=True)
        report = replace_environment(disk, job, tools=bench.tools, scratch=scratch)
    assert report.resumed is None
    assert report.recovery
    assert opens_with(bench, "work", bytes(report.recovery))


@pytest.mark.parametrize("other", ["keep", "size", "profile"])
def test_a_volume_is_written_anew_where_something_else_is_asked_for(other: str, bench: Bench) -> None:
    image = bench.new_image("private", "2")
    with pytest.raises(PowerCut):
        bench.replace("private", image, lambda fd, path: CutAfter(fd, path, step="verified"))
    seat, profile = bench.project.seats / "tiny.yaml", bench.project.profiles / "work.yaml"
    if other == "keep":
        seat.write_text(seat.read_text().replace("  private:\n", "  private:\n    keep: [/home]\n"))
    elif other == "profile":
        profile.write_text(profile.read_text() + "isolation: shared\n")
    old = bench.contents("private")
    job = bench.job("private", image)
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        extents = disk.volume("private").extents + 4 if other == "size" else None
        job = replace(job, extents=extents)
        report = replace_environment(disk, job, tools=bench.tools, scratch=scratch)
        assert disk.volume("private").extents == (extents or disk.volume("private.previous").extents)
    assert report.resumed is None
    new = bench.contents("private")
    assert (old["home/user/from-image"] == new["home/user/from-image"]) == (other == "keep")


@pytest.mark.parametrize("step", ["allocated", "switching"])
def test_what_is_there_is_not_added_again_after_an_interruption(step: str, bench: Bench) -> None:
    before, image = bench.contents("work"), bench.new_image("work", "2")
    with pytest.raises(PowerCut):
        bench.replace("work", image, lambda fd, path: CutAfter(fd, path, step=step))
    other = {name: bytearray(b"a mistyped passphrase") for name in bench.passphrases()}
    job = replace(bench.job("work", image), old=False, extents=32, passphrases=other)
    refused = pytest.raises(InputError, match="work is already on the disk")
    with bench.opened() as disk, bench.empty_scratch() as scratch, refused:
        replace_environment(disk, job, tools=bench.tools, scratch=scratch)
    assert bench.contents("work") == before
    bench.replace("work", image)
    assert bench.contents("work.previous") == before


def opens_with(bench: Bench, name: str, passphrase: bytes) -> bool:
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        try:
            with opened(disk, name, bytearray(passphrase), bench.tools, scratch):
                return True
        except TrustError:
            return False


def test_each_replacement_has_a_volume_key_of_its_own(bench: Bench) -> None:
    bench.replace("work", bench.new_image("work", "2"))
    with bench.opened() as disk:
        new, old = (disk.medium.read(disk.offset(n) + (16 << 20), 4096) for n in ("work", "work.previous"))
    assert new != old
    assert opens_with(bench, "work", PASSPHRASE)
    assert opens_with(bench, "work.previous", PASSPHRASE)


def shadow(bench: Bench, name: str) -> dict[str, str]:
    with (
        bench.opened() as disk,
        bench.empty_scratch() as scratch,
        opened(disk, name, bytearray(PASSPHRASE), bench.tools, scratch) as filesystem,
    ):
        entry = filesystem.find("/etc/shadow")
        assert (entry.inode.mode & 0o777, entry.inode.gid) == (0o640, 42)
        lines = filesystem.data(entry).decode().splitlines()
    return {line.split(":")[0]: line.split(":")[1] for line in lines}


def test_passwords_are_set_at_provisioning_and_outlive_a_replacement(bench: Bench, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("a password\n")
    secret.chmod(0o600)
    users = {"work": ["root", "user"], "private": ["root", "user"]}
    hashes = read_passwords([f"work:user:{secret}"], users, bench.tools)["work"]
    assert hashes["user"].startswith("$6$")
    image = bench.new_image("work", "2")
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        job = replace(bench.job("work", image), passwords=hashes)
        replace_environment(disk, job, tools=bench.tools, scratch=scratch)
    assert shadow(bench, "work") == {"root": "*", "user": hashes["user"], "daemon": "*"}
    bench.replace("work", bench.new_image("work", "3"))
    assert shadow(bench, "work")["user"] == hashes["user"]
    assert shadow(bench, "work.previous")["user"] == hashes["user"]
    with pytest.raises(InputError, match="there is no user 'nobody' in 'work'"):
        read_passwords([f"work:nobody:{secret}"], users, bench.tools)
    with pytest.raises(UsageError, match="write ENVIRONMENT:USER:FILE"):
        read_passwords(["work:user"], users, bench.tools)
