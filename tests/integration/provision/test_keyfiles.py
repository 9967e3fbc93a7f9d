"""Do hosts get the key of a container that is added, or gets one later, keep it, and lose it with that?"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from builder.provision.change import Change
from builder.provision.hostroots import HostRoots, MountedRoot, VolumeRoot
from builder.provision.job import Report
from builder.provision.keyfiles import to_be_opened
from builder.provision.replace import replace_environment
from builder.provision.rootedit import places_of
from builder.provision.seatdisk import open_seat, opened, unlocked
from builder.seat.hostfiles import digest_of
from builder.seat.overlay import KEYFILE_SIZE, keyfile_of
from builder.tools import Tools
from builder.volume.ext4edit import Changes, File, changed_blocks, data_blocks, over, read_file
from builder.volume.ext4read import Filesystem
from builder.volume.lvm import Segment
from builder.volume.medium import Medium
from tests.integration.provision.test_asked import BeforeTheEnd
from tests.integration.provision.test_hostroots import check_root, filesystem_of, roll_back
from tests.integration.provision.test_keep import make, reader, write_home
from tests.integration.provision.test_refusals import refused, seat_file, with_keyfile
from tests.integration.provision.test_replace import leave_unclean, opens_with
from tests.support.faults import CutAfter, Log, PowerCut, Recorder, copy_sparse, states
from tests.support.gpgkeys import TestKey
from tests.support.provisioned import Bench, MakeMedium
from tests.support.tinyseat import DISK_SIZE, PASSPHRASE, SEAT, put_image, tiny_project

GIVEN = "private was given a key for work"
THIRD = "  third:\n    profile: work\n    vt: 9\n    size: 128MiB\n    keyfile: true\n"


def passphrases() -> dict[str, bytearray]:
    return {name: bytearray(PASSPHRASE) for name in ("work", "private", "third")}


def put(bench: Bench, name: str = "work", medium: MakeMedium = Medium, **given: object) -> Report:
    """Replace an environment by its image, or add it (``old=False``)."""
    profile = next(e.profile for e in bench.plan().environments if e.name == name)
    job = replace(bench.job(name, bench.image(profile)), **{"passphrases": passphrases()} | given)  # type: ignore[arg-type]
    with bench.opened(medium) as disk, bench.empty_scratch() as scratch:
        return replace_environment(disk, job, tools=bench.tools, scratch=scratch)


def remove(bench: Bench, name: str = "work", medium: MakeMedium = Medium) -> None:
    with bench.opened(medium) as disk, bench.empty_scratch() as scratch:
        Change(disk, bench.plan(), bench.tools, scratch, passphrases=passphrases()).remove(name)


def keyed(bench: Bench) -> Bench:
    """From now on the seat file has `keyfile: true` for ``work``."""
    seat_file(bench, "    keep: [/home, /etc/machine-id]\n", "    keyfile: true\n")
    return bench


def key_held(bench: Bench, host: str = "private", name: str = "work") -> bytes | None:
    """The key that a host has for a container, which nobody else can read there."""
    with (
        bench.opened() as disk,
        bench.empty_scratch() as scratch,
        opened(disk, host, bytearray(PASSPHRASE), bench.tools, scratch) as filesystem,
    ):
        file = read_file(filesystem, keyfile_of(name))
        if file is None:
            return None
        inode = filesystem.find(f"/{keyfile_of(name)}").inode
        folder = filesystem.find("/etc/cryptsetup-keys.d").inode
        assert (inode.mode & 0o777, inode.uid, inode.gid, folder.mode & 0o777) == (0o600, 0, 0, 0o700)
        assert len(file.data) == KEYFILE_SIZE
        return file.data


def place_of_key(bench: Bench, host: str, name: str) -> list[Segment]:
    with (
        bench.opened() as disk,
        bench.empty_scratch() as scratch,
        unlocked(disk, host, bytearray(PASSPHRASE), bench.tools, scratch) as payload,
    ):
        return places_of(disk, host, payload, keyfile_of(name))


def test_a_container_that_is_added_is_opened_by_a_key_that_its_host_was_given(bench: Bench) -> None:
    remove(bench)
    report = put(keyed(bench), old=False, extents=32)
    assert report.hosts[0] == GIVEN
    key = key_held(bench)
    assert key
    assert opens_with(bench, "work", key)
    assert opens_with(bench, "work", PASSPHRASE)
    check_root(bench)
    assert GIVEN not in put(bench).hosts
    assert key_held(bench) == key
    assert opens_with(bench, "work", key)


def test_a_key_that_is_wanted_later_comes_with_the_next_volume_and_stays_for_the_way_back(
    bench: Bench,
) -> None:
    keyed(bench)
    put(bench, "private")  # before there is any key
    assert key_held(bench) is None
    assert GIVEN in put(bench).hosts
    key = key_held(bench)
    assert key
    assert (opens_with(bench, "work", key), opens_with(bench, "work.previous", key)) == (True, False)
    put(bench, "private")
    assert key_held(bench) == key
    roll_back(bench, "work", private=PASSPHRASE)
    assert not opens_with(bench, "work", key)
    roll_back(bench, "work", private=PASSPHRASE)
    assert key_held(bench) == key
    assert opens_with(bench, "work", key)
    check_root(bench)


@pytest.fixture
def two_hosts(tmp_path: Path, tools: Tools, release: TestKey) -> Bench:
    """A seat that starts as ``private`` or as ``work``, and whose file has a third environment since."""
    seat = SEAT.replace("host: private\n", "host: private\nhosts: [private, work]\n")
    project = tiny_project(tmp_path / "project", release, seat=seat)
    profile = project.profiles / "work.yaml"
    profile.write_text(profile.read_text().replace("role: container", "bootable: true"))
    put_image(project, "work", "1", release, bootable=True)
    bench = Bench(project, release, tools, tmp_path / "disk", tmp_path / "images")
    bench.apply()
    seat_file(bench, "host: private\n", f"{THIRD}host: private\n")
    return bench


def test_each_host_of_a_seat_holds_the_key_until_the_container_is_removed(two_hosts: Bench) -> None:
    bench = two_hosts
    missing = {"passphrases": {n: k for n, k in passphrases().items() if n != "work"}}
    words = "the passphrase of work is needed, too"
    refused(bench, words, lambda: put(bench, "third", old=False, extents=32, **missing))
    put(bench, "third", old=False, extents=32)
    keys = {key_held(bench, host, "third") for host in ("private", "work")}
    key = keys.pop()
    assert key
    assert not keys
    assert opens_with(bench, "third", key)
    assert opens_with(bench, "third", PASSPHRASE)
    places = [place for host in ("private", "work") for place in place_of_key(bench, host, "third")]
    remove(bench, "third")
    for host in ("private", "work"):
        assert key_held(bench, host, "third") is None
        check_root(bench, host)
    with bench.opened() as disk:
        group = disk.metadata.group
        assert len(places) == 2
        for place in places:
            assert not any(disk.medium.read(disk.pv.start + group.offset(place.first), group.extent_size))


@pytest.mark.parametrize("new", [True, False], ids=["added", "replaced"])
def test_an_interrupted_run_goes_on_with_the_key_that_it_made(new: bool, bench: Bench) -> None:
    if new:
        remove(bench)
    keyed(bench)
    given = {"old": False, "extents": 32} if new else {}
    found = []
    for step in ("begin", "allocated", "verified", "switching"):
        with pytest.raises(PowerCut):
            put(bench, medium=lambda fd, path, step=step: CutAfter(fd, path, step=step), **given)  # type: ignore[misc]
        found.append(key_held(bench))
    with pytest.raises(PowerCut):
        put(bench, medium=BeforeTheEnd, **given)
    assert put(bench, **given).resumed == "switched"
    key = key_held(bench)
    assert key
    assert found == [None, key, key, key]
    assert opens_with(bench, "work", key)
    check_root(bench)


def test_an_interrupted_run_that_is_undone_leaves_a_key_that_the_next_one_takes(bench: Bench) -> None:
    keyed(bench)
    with pytest.raises(PowerCut):
        put(bench, medium=lambda fd, path: CutAfter(fd, path, step="verified"))
    roll_back(bench, "work")
    key = key_held(bench)
    assert key
    assert not opens_with(bench, "work", key)
    assert GIVEN not in put(bench).hosts
    assert opens_with(bench, "work", key)


def test_a_power_cut_leaves_a_host_without_the_key_or_with_all_of_it(bench: Bench) -> None:
    before, log = bench.disk.with_name("before"), Log()
    copy_sparse(bench.disk, before)
    with pytest.raises(PowerCut):
        put(keyed(bench), medium=lambda fd, path: recorded_until_allocated(fd, path, log))
    key, path = key_held(bench), keyfile_of("work")
    assert key
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        with unlocked(disk, "private", bytearray(PASSPHRASE), bench.tools, scratch) as payload:
            volume_key = bytearray(payload.key)
        tally = {"without": 0, "with": 0}
        for state in states(log, before, per_point=8, seed=3):
            seat = open_seat(state, DISK_SIZE)  # type: ignore[arg-type]
            file = VolumeRoot(filesystem_of(seat, "private", payload, volume_key)).file(path)
            assert file in (None, File(0o600, key))
            assert (file is None) == ("work.new" not in seat.names)
            tally["with" if file else "without"] += 1
    assert min(tally.values()) > 5, tally


def recorded_until_allocated(fd: int, path: Path, log: Log) -> Medium:
    class Until(Recorder):
        def write(self, offset: int, data: bytes | bytearray | memoryview) -> object:  # type: ignore[override]
            if any(b'"step": "allocated"' in said for _, said in self.log.writes[-1:]):
                raise PowerCut
            return super().write(offset, data)

    return Until(fd, path, log)


@pytest.mark.parametrize("what", ["passphrase", "root"])
def test_what_keeps_a_host_from_getting_the_key_is_told_before_anything_changes(
    what: str, bench: Bench
) -> None:
    keyed(bench)
    if what == "root":
        leave_unclean(bench, "private")
        refused(bench, "root of private, which is given a key for work, was not", lambda: put(bench))
        return
    alone = {"work": bytearray(PASSPHRASE)}
    refused(bench, "the passphrase of private is needed, too", lambda: put(bench, passphrases=alone))


@pytest.mark.parametrize(
    "medium",
    [Medium, lambda fd, path: CutAfter(fd, path, step="begin"), BeforeTheEnd],
    ids=["at once", "begun", "all but done"],
)
def test_no_key_stays_of_a_container_that_is_removed(medium: MakeMedium, bench: Bench) -> None:
    with_keyfile(bench)
    key, places = key_held(bench), place_of_key(bench, "private", "work")
    assert key
    if medium is not Medium:
        with pytest.raises(PowerCut):
            remove(bench, medium=medium)
    remove(bench)
    assert key_held(bench) is None
    check_root(bench)
    with bench.opened() as disk:
        assert disk.journal.unfinished is None
        group = disk.metadata.group
        (place,) = places
        assert not any(disk.medium.read(disk.pv.start + group.offset(place.first), group.extent_size))


def test_the_running_host_has_the_key_as_a_file_before_the_switch_and_loses_it(
    bench: Bench, tmp_path: Path
) -> None:
    keyed(bench)
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    file = root / keyfile_of("work")
    live = {"running": "private", "root": root, "passphrases": {"work": bytearray(PASSPHRASE)}}
    with pytest.raises(PowerCut):
        put(bench, medium=lambda fd, path: CutAfter(fd, path, step="begin"), **live)
    key = file.read_bytes()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert GIVEN not in put(bench, **live).hosts
    assert file.read_bytes() == key
    assert key_held(bench) is None  # nobody but the host itself writes its root
    assert opens_with(bench, "work", key)
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        assert to_be_opened(disk, bench.plan(), "work", "private", root) == []
        assert to_be_opened(disk, bench.plan(), "work", None) == ["private"]
        gone = {"private": digest_of({})}
        HostRoots(disk, "work", gone, {}, bench.tools, scratch, {"private": {}}, "private", root).settle()
    assert not file.exists()


def test_a_file_that_the_running_host_gives_up_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    file, other = tmp_path / "etc/key", tmp_path / "other"
    file.write_bytes(b"secret")
    other.hardlink_to(file)
    MountedRoot(tmp_path).change({"etc/key": None}, secrets={"etc/key"})
    assert (file.exists(), other.read_bytes()) == (False, bytes(6))


def test_a_secret_file_never_lies_in_scratch_and_leaves_nothing_when_it_goes(
    tools: Tools, tmp_path: Path
) -> None:
    image, secret = tmp_path / "image", os.urandom(9000)
    make(tools, image, write_home)
    paths: list[Changes] = [{"etc/keys/a": File(0o600, secret), "etc/b": File()}, {"etc/keys/a": None}]
    places: list[int] = []
    for n, changes in enumerate(paths):
        scratch = tmp_path / f"scratch{n}"
        scratch.mkdir()
        with image.open("r+b") as f:
            blocks = changed_blocks(reader(f), changes, secrets={"etc/keys/a"}, tools=tools, scratch=scratch)
            mixed = Filesystem(over(reader(f), blocks))
            assert {path: read_file(mixed, path) for path in changes} == dict(changes)
            assert mixed.find("/etc/keys").inode.mode & 0o777 == 0o700
            places = places or data_blocks(mixed, mixed.find("/etc/keys/a"))
            for at, block in blocks.items():
                os.pwrite(f.fileno(), block, at)
        assert not any(secret[:4096] in path.read_bytes() for path in scratch.iterdir())
        tools.run(["e2fsck", "-fn", image])
    assert len(places) == 3
    with image.open("rb") as f:
        assert not any(any(os.pread(f.fileno(), 4096, at)) for at in places)
