"""The parts of provisioning that need no program: journal, commits, paths to keep, identities."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BusyError, InputError
from builder.profile.positions import FileError
from builder.provision import live
from builder.provision.bootfiles import joined
from builder.provision.identity import Identity
from builder.provision.journal import AREA_AT, BLOCK, BLOCKS, Journal, Record, decode, encode, read_records
from builder.seat.load import load_seat
from builder.volume import lvm, lvmcommit
from builder.volume.lvm import LogicalVolume, Segment, VolumeGroup
from builder.volume.target import Target
from tests.support.profiles import project_at

PV_ID = "abcdef-0123-4567-89ab-cdef-0123-456789"


class Memory:
    """A disk in memory that counts its flushes."""

    def __init__(self, size: int = 2 << 20) -> None:
        self.data = bytearray(size)
        self.flushes = 0

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data

    def sync(self) -> None:
        self.flushes += 1


def test_the_journal_gives_back_what_was_appended_in_runs() -> None:
    disk = Memory()
    journal = Journal(disk)
    journal.append("one", "env", "begin", environment="work")
    journal.append("one", "env", "done")
    journal.append("two", "grow", "begin", environment="work", extents=5)
    again = Journal(disk)
    assert [(r.id, r.verb, r.finished) for r in again.runs] == [("one", "env", True), ("two", "grow", False)]
    assert again.unfinished is not None
    assert again.unfinished.data == {"environment": "work", "extents": 5}
    assert disk.flushes == 6


def test_the_journal_goes_round_and_forgets_the_oldest() -> None:
    disk = Memory()
    journal = Journal(disk)
    for n in range(BLOCKS + 10):
        journal.append(f"run {n}", "env", "done")
    numbers = [record.number for record in Journal(disk).records]
    assert numbers == list(range(10, BLOCKS + 10))
    assert not any(disk.data[:AREA_AT])
    assert not any(disk.data[AREA_AT + BLOCK * BLOCKS :])


def test_a_torn_record_was_never_there() -> None:
    disk = Memory()
    journal = Journal(disk)
    journal.append("one", "env", "begin")
    journal.append("one", "env", "verified")
    disk.data[AREA_AT + BLOCK + 100] ^= 1
    assert Journal(disk).runs[-1].steps == ["begin"]
    with pytest.raises(ValueError, match="too long"):
        journal.append("one", "env", "x", text="y" * BLOCK)


@given(st.binary(max_size=3 * BLOCK))
def test_a_journal_of_any_bytes_is_read_without_an_error(area: bytes) -> None:
    assert read_records(area) == []


@given(st.integers(0, BLOCK - 1), st.integers(1, 255))
def test_no_changed_byte_of_a_record_is_believed(at: int, change: int) -> None:
    record = Record(7, "run", "env", "begin", 1, {"a": 1})
    block = bytearray(encode(record))
    block[at] ^= change
    assert decode(bytes(block)) in (None, record)  # the padding means nothing


def group(*volumes: LogicalVolume, size: int = 1 << 30) -> VolumeGroup:
    return VolumeGroup("vg", PV_ID, PV_ID, size, volumes)


def disk_of(vg: VolumeGroup) -> Memory:
    disk = Memory()
    disk.write(lvm.LABEL_AT, lvm.encode_label(vg))
    disk.write(lvm.AREA_AT, lvm.encode_metadata(vg))
    return disk


def test_a_commit_keeps_what_others_wrote_and_never_touches_the_valid_text() -> None:
    disk = disk_of(group(LogicalVolume("work", PV_ID, (Segment(0, 10),), ("mine",))))
    for n in range(700):  # several times round the area
        before = lvmcommit.read_metadata(disk.read)
        valid = (lvm.AREA_AT + before.offset, before.size)
        text = disk.read(*valid)
        before.document["vg"]["tags"] = [f"round-{n}"]
        if n % 2:
            lvmcommit.remove_volume(before, "work.new")
        else:
            lvmcommit.add_volume(before, "work.new", PV_ID, [Segment(20, 5)], ["x=1"])
        after = lvmcommit.commit(disk, 0, before)
        assert disk.read(*valid) == text
        assert after.group.seqno == n + 2
        assert after.document["vg"]["tags"] == [f"round-{n}"]
        assert lvmcommit.tags_of(after, "work") == ["mine"]


def test_two_volumes_change_names_at_once() -> None:
    disk = disk_of(
        group(LogicalVolume("a", PV_ID, (Segment(0, 1),)), LogicalVolume("b", PV_ID, (Segment(1, 1),)))
    )
    metadata = lvmcommit.read_metadata(disk.read)
    lvmcommit.rename_volumes(metadata, {"a": "b", "b": "a"})
    found = lvmcommit.commit(disk, 0, metadata).group.volumes
    assert {v.name: v.segments[0].first for v in found} == {"a": 1, "b": 0}
    with pytest.raises(InputError, match="taken twice"):
        lvmcommit.rename_volumes(lvmcommit.read_metadata(disk.read), {"a": "b"})


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 20)), max_size=8), st.integers(1, 60))
@settings(max_examples=60)
def test_a_new_volume_never_overlaps_another(places: list[tuple[int, int]], wanted: int) -> None:
    volumes = []
    taken: set[int] = set()
    for first, count in places:
        extents = set(range(first, first + count))
        if not extents & taken:
            taken |= extents
            volumes.append(LogicalVolume(f"v{first}", PV_ID, (Segment(first, count),)))
    vg = group(*volumes)
    found = lvmcommit.best_run(vg, wanted)
    free = set(range(vg.extents)) - taken
    if found is None:
        assert all(not set(range(at, at + wanted)) <= free for at in free)
    else:
        assert set(range(found.first, found.first + found.count)) <= free
        assert found.count == wanted


def test_neighbouring_parts_are_written_at_once() -> None:
    sectors = [(at, at + 512) for at in (0, 512, 1024, 4096, 512)]
    assert joined(sectors) == [(0, 1536), (4096, 4608), (512, 1024)]
    assert joined([]) == []


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("home", "is not an absolute path"),
        ("/home/../etc", "contains '..'"),
        ("/home/", "an empty step"),
        ("/usr/share/x", "belongs to the image"),
        ("/", "an empty step"),
        ("/etc/%n", "systemd would expand"),
    ],
)
def test_a_path_that_cannot_be_kept_is_refused_with_its_line(path: str, wrong: str, tmp_path: Path) -> None:
    project = project_at(tmp_path)
    project.seats.mkdir()
    text = f"disk:\n  size: 1GiB\nenvironments:\n  work:\n    keep:\n      - '{path}'\nhost: work\n"
    (project.seats / "one.yaml").write_text(text)
    with pytest.raises(FileError) as caught:
        load_seat(project, "one")
    assert wrong in caught.value.message
    assert "one.yaml:6:" in caught.value.message


def disk_named(name: str, serial: str = "S1") -> Identity:
    return Identity(Target(Path("/dev", name), True, 1 << 30), Path("/dev", name), "Model", serial, ())


@pytest.fixture
def mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place in sysfs where the volume vg/work is open as ``work``, and vg/host as the running root."""
    root = Path("/").stat().st_dev
    for name, mapping, number in (
        ("dm-0", "vg-work", "254:0"),
        ("dm-1", "work", "254:1"),
        ("dm-2", "vg-host", "254:2"),
        ("dm-3", "root", f"{os.major(root)}:{os.minor(root)}"),
    ):
        (tmp_path / name / "dm").mkdir(parents=True)
        (tmp_path / name / "holders").mkdir()
        (tmp_path / name / "dm/name").write_text(f"{mapping}\n")
        (tmp_path / name / "dev").write_text(f"{number}\n")
    (tmp_path / "dm-0/holders/dm-1").symlink_to(tmp_path / "dm-1")
    (tmp_path / "dm-2/holders/dm-3").symlink_to(tmp_path / "dm-3")
    monkeypatch.setattr(live, "BLOCK", tmp_path)
    return tmp_path


def test_a_volume_that_is_just_being_closed_is_waited_for(
    mapped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BusyError, match="work is in use: its volume is open as work"):
        live.wait_until_closed("vg", "work", patience=0)
    monkeypatch.setattr(live.time, "sleep", lambda _: (mapped / "dm-0/holders/dm-1").unlink())
    live.wait_until_closed("vg", "work", patience=60)


def test_the_running_host_is_the_one_whose_volume_is_our_root(mapped: Path) -> None:
    assert live.running_host(disk_named("vda"), "vg", ["work", "host"]) == "host"
    (mapped / "dm-3/dev").write_text("254:9\n")
    assert live.running_host(disk_named("vda"), "vg", ["work", "host"]) is None
