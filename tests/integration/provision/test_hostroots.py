"""Do the hosts of a seat follow a container's profile, at once with its switch, and go back with it?"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.provision.change import Change, goal_of_rollback
from builder.provision.forecast import of_replacement
from builder.provision.hostroots import HostRoots, VolumeRoot, at_rest, changes_to
from builder.provision.identity import identify
from builder.provision.replace import replace_environment
from builder.provision.seatdisk import Payload, SeatDisk, open_seat, opened, unlocked
from builder.seat.hostfiles import RECORDS, Files, digest_of, digests_for, files_for, files_in, record_of
from builder.seat.images import Image
from builder.seat.plan import load_plan
from builder.tools import Tools
from builder.volume import lvmcommit
from builder.volume.ext4edit import Changes, File, changed_blocks, over, read_file
from builder.volume.ext4read import Filesystem, decrypting
from tests.integration.provision.test_keep import make, reader, write_home
from tests.support import lvm2
from tests.support.faults import CutAfter, Log, PowerCut, Recorder, copy_sparse, cut_before_following, states
from tests.support.gpgkeys import TestKey
from tests.support.powercut import free_extents
from tests.support.provisioned import Bench
from tests.support.tinyseat import DISK_SIZE, PASSPHRASE, SEAT, put_image, tiny_project


def isolate(bench: Bench, how: str, name: str = "work") -> Bench:
    """Have the profile say so from now on."""
    path = bench.project.profiles / f"{name}.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("isolation:")]
    path.write_text("\n".join([*lines, f"isolation: {how}", ""]))
    return bench


def wanted(bench: Bench, host: str = "private", name: str = "work") -> Files:
    plan, _, profiles = load_plan(bench.project, "tiny")
    return files_for(plan, profiles, host, name, bench.disk.with_name("rendered"))


def root_of(bench: Bench, host: str = "private") -> dict[str, File | None]:
    """All files of a host's root, as its volume has them."""
    with (
        bench.opened() as disk,
        bench.empty_scratch() as scratch,
        opened(disk, host, bytearray(PASSPHRASE), bench.tools, scratch) as filesystem,
    ):
        return {e.path: read_file(filesystem, e.path) for e in filesystem.walk() if e.is_file or e.is_link}


def without(files: Mapping[str, File | None], some: Iterable[str]) -> dict[str, File | None]:
    return {path: file for path, file in files.items() if path not in set(some)}


def are_in(files: Files, root: Mapping[str, File | None]) -> bool:
    return all(root.get(path) == file for path, file in files.items())


def check_root(bench: Bench, host: str = "private") -> None:
    """fsck(8) and lvm2 find nothing wrong."""
    with bench.opened() as disk:
        lvm2.logical_volumes(bench.tools, bench.disk, disk.pv.start, disk.pv.size)
        with (
            bench.empty_scratch() as scratch,
            unlocked(disk, host, bytearray(PASSPHRASE), bench.tools, scratch) as payload,
        ):
            plain, size = scratch / "plain", disk.size_of(host) - payload.at
            with plain.open("wb") as f:
                for at in range(0, size, 1 << 20):
                    f.write(payload.read(at, min(1 << 20, size - at)))
            bench.tools.run(["e2fsck", "-fn", plain])


def roll_back(bench: Bench, name: str, **passphrases: bytes) -> list[str]:
    plan, _, profiles = load_plan(bench.project, "tiny")
    secrets = {host: bytearray(secret) for host, secret in passphrases.items()}
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        change = Change(disk, plan, bench.tools, scratch, profiles=profiles, passphrases=secrets)
        change.roll_back(name)
        return change.done


def test_the_hosts_files_follow_the_profile_and_go_back_with_the_container(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    bench.replace("work", image) if isolate(bench, "shared") else None
    shared, before = wanted(bench), root_of(bench)
    assert are_in(shared, before)
    isolate(bench, "strict")
    plan, _, profiles = load_plan(bench.project, "tiny")
    with bench.opened() as disk:
        roots = at_rest(disk, "work", digests_for(plan, profiles, "work"))
        said = of_replacement(disk, plan, "work", identify(bench.disk), roots=roots).lines()
    assert any("private's files for work change" in line for line in said)
    report = bench.replace("work", image)
    strict, after = wanted(bench), root_of(bench)
    assert report.hosts == ["the files that private has for work were renewed"]
    assert are_in(strict, after)
    assert shared != strict
    assert set(strict) - set(shared)
    assert not (set(shared) - set(strict)) & after.keys()
    own = shared.keys() | strict.keys() | {record_of("work"), record_of("work", previous=True)}
    assert without(before, own) == without(after, own)
    check_root(bench)
    done = roll_back(bench, "work", private=PASSPHRASE)
    assert done == [*report.hosts, "work is again 2"]
    back = root_of(bench)
    assert are_in(shared, back)
    assert not (set(strict) - set(shared)) & back.keys()
    roll_back(bench, "work", private=PASSPHRASE)
    assert are_in(strict, root_of(bench))
    check_root(bench)


def test_a_volume_whose_tags_say_nothing_of_hosts_can_be_gone_back_to(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    isolate(bench, "shared").replace("work", image)
    with bench.opened() as disk:  # as `seatsmith seat write` leaves it
        lvmcommit.set_tags(disk.metadata, "work", [])
        disk.commit()
    shared = wanted(bench)
    isolate(bench, "strict").replace("work", image)
    assert are_in(wanted(bench), root_of(bench))
    roll_back(bench, "work", private=PASSPHRASE)
    assert are_in(shared, root_of(bench))


def test_a_host_whose_files_stay_is_not_opened(bench: Bench) -> None:
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        before = disk.volume("private")
        job = bench.job("work", bench.new_image("work", "2"))
        del job.passphrases["private"]  # type: ignore[attr-defined]
        report = replace_environment(disk, job, tools=bench.tools, scratch=scratch)
        assert (report.hosts, disk.volume("private")) == ([], before)
    assert roll_back(bench, "work") == ["work is again 1"]


def test_without_the_hosts_passphrase_nothing_is_begun(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    bench.replace("work", image) if isolate(bench, "shared") else None
    isolate(bench, "strict")
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        job, seqno = bench.job("work", image), disk.metadata.group.seqno
        del job.passphrases["private"]  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="passphrase of private is needed, too: the files that it has"):
            replace_environment(disk, job, tools=bench.tools, scratch=scratch)
    with bench.opened() as disk:
        assert (disk.metadata.group.seqno, disk.journal.unfinished) == (seqno, None)


def test_a_power_cut_leaves_a_container_and_its_hosts_files_old_or_new_alike(
    bench: Bench,
) -> None:
    image = bench.new_image("work", "2")
    bench.replace("work", image) if isolate(bench, "shared") else None
    old, before = wanted(bench), bench.disk.with_name("before")
    copy_sparse(bench.disk, before)
    with bench.opened() as disk:
        old_id = disk.volume("work").id
    log = Log()
    isolate(bench, "strict").replace("work", image, lambda fd, path: Recorder(fd, path, log))
    new = wanted(bench)
    tally = {"old": 0, "new": 0}
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        with unlocked(disk, "private", bytearray(PASSPHRASE), bench.tools, scratch) as payload:
            key = bytearray(payload.key)
        last = len(log.events) - 60
        for state in states(log, before, per_point=6, seed=5, only=lambda n: n % 40 == 0 or n > last):
            seat = open_seat(state, DISK_SIZE)  # type: ignore[arg-type]
            which = "old" if seat.volume("work").id == old_id else "new"
            tally[which] += 1
            root = VolumeRoot(filesystem_of(seat, "private", payload, key))
            files, others = (old, new) if which == "old" else (new, old)
            assert all(root.file(path) == file for path, file in files.items())
            assert not [path for path in set(others) - set(files) if root.file(path) is not None]
    print(f"{len(log.writes)} writes, {sum(tally.values())} disks: {tally}")
    assert tally["old"] > 100
    assert tally["new"] > 10


def filesystem_of(seat: SeatDisk, name: str, payload: Payload, key: bytearray) -> Filesystem:
    read = seat.volume_reader(name)
    return Filesystem(decrypting(lambda offset, length: read(payload.at + offset, length), key))


def test_an_interrupted_switch_is_finished_with_the_hosts_files(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    bench.replace("work", image) if isolate(bench, "shared") else None
    isolate(bench, "strict")
    for step in ("verified", "switching"):
        with pytest.raises(PowerCut):
            bench.replace("work", image, lambda fd, path, step=step: CutAfter(fd, path, step=step))  # type: ignore[misc]
    report = bench.replace("work", image)
    assert report.resumed == "verified"
    assert are_in(wanted(bench), root_of(bench))
    check_root(bench)


@pytest.fixture
def cut_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Image:
    """Of ``work``, replaced on the running host to be strict; the power went before the host followed."""
    image = bench.new_image("work", "2")
    isolate(bench, "shared").replace("work", image)
    shared = wanted(bench)
    isolate(bench, "strict")
    with cut_before_following(monkeypatch), bench.opened() as disk, bench.empty_scratch() as scratch:
        job = replace(bench.job("work", image), running="private")
        replace_environment(disk, job, tools=bench.tools, scratch=scratch)
    assert are_in(shared, root_of(bench))
    return image


def test_a_host_that_ran_when_the_power_went_behind_the_switch_follows_from_another_system(
    bench: Bench, cut_off: Image
) -> None:
    plan, _, profiles = load_plan(bench.project, "tiny")
    with bench.opened() as disk:
        assert at_rest(disk, "work", digests_for(plan, profiles, "work")) == ["private"]
    report = bench.replace("work", cut_off)
    assert (report.resumed, len(report.hosts)) == ("switched", 1)
    assert are_in(wanted(bench), root_of(bench))
    check_root(bench)


def test_a_rollback_from_another_system_has_such_a_host_follow_as_well(bench: Bench, cut_off: Image) -> None:
    with bench.opened() as disk:
        assert goal_of_rollback(disk, "work") == "work"
    with pytest.raises(InputError, match="passphrase of private is needed"):
        roll_back(bench, "work")
    done = roll_back(bench, "work", private=PASSPHRASE)
    assert "the files that private has for work were renewed" in done
    assert any("run it again" in line for line in done)
    assert are_in(wanted(bench), root_of(bench))
    check_root(bench)


def test_a_rollback_that_the_power_cut_behind_its_switch_is_finished_from_another_system(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(bench, "shared").replace("work", bench.new_image("work", "2"))
    shared = wanted(bench)
    isolate(bench, "strict").replace("work", bench.new_image("work", "3"))
    with cut_before_following(monkeypatch), bench.opened() as disk, bench.empty_scratch() as scratch:
        plan, _, profiles = load_plan(bench.project, "tiny")
        Change(disk, plan, bench.tools, scratch, profiles=profiles, running="private").roll_back("work")
    with bench.opened() as disk:
        assert goal_of_rollback(disk, "work") == "work"
    assert are_in(wanted(bench), root_of(bench))
    roll_back(bench, "work", private=PASSPHRASE)
    assert are_in(shared, root_of(bench))
    check_root(bench)


@pytest.mark.long
def test_changing_to_and_fro_loses_no_space_and_breaks_up_no_volume(bench: Bench) -> None:
    image, free, pieces = bench.new_image("work", "2"), [], []
    for n in range(4):
        isolate(bench, "strict" if n % 2 else "shared").replace("work", image)
        with bench.opened() as disk:
            free.append(free_extents(disk))
            pieces.append(len(disk.volume("private").segments))
    assert len(set(free[1:])) == 1
    assert max(pieces) < 12, pieces
    assert are_in(wanted(bench), root_of(bench))
    check_root(bench)


def test_a_host_that_was_gone_back_to_follows_at_the_next_replacement(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    isolate(bench, "shared").replace("work", image)
    bench.replace("private", bench.image("private"))
    isolate(bench, "strict").replace("work", image)
    roll_back(bench, "private", private=PASSPHRASE)
    assert not are_in(wanted(bench), root_of(bench))
    bench.replace("work", image)
    assert are_in(wanted(bench), root_of(bench))


def test_both_hosts_of_a_seat_follow_and_a_replaced_host_still_knows_what_it_had(
    tmp_path: Path, tools: Tools, release: TestKey
) -> None:
    seat = SEAT.replace("host: private\n", "host: private\nhosts: [private, work]\n")
    project = tiny_project(tmp_path / "project", release, seat=seat)
    text = (project.profiles / "work.yaml").read_text()
    (project.profiles / "work.yaml").write_text(text.replace("role: container", "bootable: true"))
    put_image(project, "work", "1", release, bootable=True)
    bench = Bench(project, release, tools, tmp_path / "disk", tmp_path / "images")
    isolate(bench, "shared", "private"), isolate(bench, "shared")
    bench.apply()
    shared = wanted(bench)
    report = isolate(bench, "strict").replace("work", bench.image("work"))
    assert report.hosts == ["the files that private has for work were renewed"]
    assert are_in(wanted(bench), root_of(bench))
    isolate(bench, "strict", "private")
    report = bench.replace("private", bench.image("private"))
    assert report.hosts == ["the files that work has for private were renewed"]
    assert are_in(wanted(bench, "work", "private"), root_of(bench, "work"))
    check_root(bench, "work")
    roll_back(bench, "work", private=PASSPHRASE)
    assert are_in(shared, root_of(bench))


def test_the_running_hosts_root_follows_as_files(bench: Bench, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path, file in isolate_and_render(bench, "shared").items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(file.link) if file.link else (root / path).write_bytes(file.data)
    shared, strict = isolate_and_render(bench, "shared"), isolate_and_render(bench, "strict")
    with bench.opened() as disk, bench.empty_scratch() as scratch:

        def settle(files: Files, known: Files) -> list[str]:
            digests, given = {"private": digest_of(files)}, {"private": known}
            roots = HostRoots(disk, "work", digests, {}, bench.tools, scratch, given, "private", root)
            assert roots.at_rest("work") == []
            roots.settle()
            return roots.said

        assert settle(shared, shared)
        assert settle(strict, strict)
        assert settle(strict, strict) == []
        there = files_in(root)
        assert {p: f for p, f in there.items() if not p.startswith(RECORDS)} == strict
        assert settle(shared, strict)  # from its own record
        assert {p: f for p, f in files_in(root).items() if not p.startswith(RECORDS)} == shared
        assert settle({"etc/x": File()}, strict) == [
            "private has no record of the files that it had for work then; they stay as they are"
        ]


def isolate_and_render(bench: Bench, how: str) -> Files:
    return wanted(isolate(bench, how))


def test_files_that_another_container_has_too_are_not_removed() -> None:
    class Fake:
        def __init__(self, files: dict[str, File]) -> None:
            self.files = files

        def file(self, path: str) -> File | None:
            return self.files.get(path)

        def names(self, folder: str) -> list[str]:
            return [p.rpartition("/")[2] for p in self.files if p.startswith(f"{folder}/")]

    from builder.seat.hostfiles import encode

    one = {"etc/both": File(data=b"1"), "etc/one": File(data=b"2")}
    other = {"etc/both": File(data=b"1")}
    root = Fake({**one, **other, record_of("one"): encode(one), record_of("other"): encode(other)})
    changes = changes_to(root, "one", {"etc/new": File(data=b"3")})
    assert {p for p, f in changes.items() if f is None} == {"etc/one"}
    assert {p for p, f in changes.items() if f} == {
        "etc/new",
        record_of("one"),
        record_of("one", previous=True),
    }


def test_a_filesystem_is_edited_by_its_changed_blocks_alone(tools: Tools, tmp_path: Path) -> None:
    image = tmp_path / "image"
    make(tools, image, write_home)
    changes: Changes = {
        "home/u/a": File(0o640, b"y" * 9000 + bytes(5000)),
        "home/u/hard": None,
        'home/new\\x2d/deep/file with "quotes"': File(0o755, b"text"),
        "home/new\\x2d/link": File(0o777, link="../else where"),
        "home/empty": File(0o600),
    }
    with image.open("r+b") as f:
        scratch = tmp_path / "scratch beside a file"
        scratch.mkdir()
        blocks = changed_blocks(reader(f), changes, tools=tools, scratch=scratch)
        mixed = Filesystem(over(reader(f), blocks))
        assert {path: read_file(mixed, path) for path in changes} == dict(changes)
        assert len(blocks) < 40
        for at, block in blocks.items():
            os.pwrite(f.fileno(), block, at)
    tools.run(["e2fsck", "-fn", image])


def test_a_filesystem_that_was_not_unmounted_or_is_full_is_not_edited(tools: Tools, tmp_path: Path) -> None:
    image, scratch = tmp_path / "image", tmp_path / "scratch"
    make(tools, image, write_home)
    scratch.mkdir()
    with image.open("r+b") as f:
        with pytest.raises(InputError, match=r"cannot be changed|did not change"):
            changed_blocks(
                reader(f), {"home/large": File(data=b"x" * (120 << 20))}, tools=tools, scratch=scratch
            )
        with pytest.raises(InputError, match="/home/u is a directory"):
            changed_blocks(reader(f), {"home/u": File()}, tools=tools, scratch=scratch)
        head = bytearray(os.pread(f.fileno(), 4096, 0))
        head[1024 + 96] |= 0x04
        os.pwrite(f.fileno(), head, 0)
        with pytest.raises(InputError, match="not unmounted cleanly"):
            changed_blocks(reader(f), {"home/x": File()}, tools=tools, scratch=scratch)
