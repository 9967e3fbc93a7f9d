"""Is all that a disk holds found and named before it is overwritten, and nothing taken for empty?"""

import os
import re
import struct
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.provision.apply import refuse_content
from builder.provision.found import Found, look
from builder.tools import Tools
from builder.volume import traces
from builder.volume.medium import Medium
from tests.support import lvm2
from tests.support.provisioned import Bench
from tests.support.tinyseat import DISK_SIZE

MIB = 1 << 20
SIZE = 64 * MIB


def found_on(disk: Path, tools: Tools) -> Found:
    with disk.open("rb") as f:
        return look(Medium(f.fileno(), disk), disk.stat().st_size, tools)


def blank(path: Path, size: int = SIZE) -> Path:
    with path.open("wb") as f:
        f.truncate(size)
    return path


def put(disk: Path, at: int, data: bytes) -> None:
    with disk.open("r+b") as f:
        os.pwrite(f.fileno(), data, at)


def test_what_is_on_a_disk_is_named_with_labels_and_an_id_that_follows_it(bench: Bench) -> None:
    with bench.medium() as medium:
        found = look(medium, DISK_SIZE, bench.tools)
        again = look(medium, DISK_SIZE, bench.tools)
    text = "\n".join(found.lines())
    assert re.search(r"partition 1 'esp'", text)
    assert re.search(r"vfat 'ESP'", text)
    assert re.search(r"volume group 'vgtiny'", text)
    assert re.search(r"LUKS2 encrypted volume 'luks-work'", text)
    assert found.seat == "tiny"
    assert found.id == again.id
    bench.replace("work", bench.new_image("work", "2"))
    with bench.medium() as medium:
        assert look(medium, DISK_SIZE, bench.tools).id != found.id


@pytest.mark.parametrize(
    ("kind", "argv"),
    [
        ("ext4", ["mkfs.ext4", "-q", "-L", "holiday"]),
        ("LUKS1", ["cryptsetup", "luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000"]),
        ("partition table (dos)", ["sfdisk", "-q"]),
        ("swap", ["mkswap", "-L", "old-swap"]),
    ],
)
def test_foreign_data_is_recognised(kind: str, argv: list[str], bench: Bench, tmp_path: Path) -> None:
    disk = blank(tmp_path / "foreign")
    words = [*argv, str(disk)]
    if "cryptsetup" in argv:
        (tmp_path / "key").write_text("x")
        words += [str(tmp_path / "key")]
    bench.tools.run(words, stdin=b"2048,,83\n")
    found = found_on(disk, bench.tools)
    assert found.things[0].kind.startswith(kind)
    assert not found.empty


def test_data_that_no_program_recognises_is_still_data(tools: Tools, tmp_path: Path) -> None:
    disk = blank(tmp_path / "random")
    put(disk, 32 * MIB, b"\x99" * MIB)
    found = found_on(disk, tools)
    assert [(t.kind, t.offset) for t in found.things] == [("data that no program recognises", 32 * MIB)]


@pytest.mark.parametrize("at", [3 * MIB + 7 * 4096, 401 * MIB + 512, DISK_SIZE - 2 * MIB])
def test_two_megabytes_on_the_seats_disk_are_not_overwritten_unasked(at: int, bench: Bench) -> None:
    blank(bench.disk, DISK_SIZE)
    assert found_on(bench.disk, bench.tools).empty
    put(bench.disk, at, b"a photograph" * (2 * MIB // 12))
    found = found_on(bench.disk, bench.tools)
    assert [t.offset for t in found.things] == [at]
    with pytest.raises(InputError, match=f"is not empty:\n.*at {at}") as caught:
        refuse_content(found, bench.plan(), wipe=None)
    assert caught.value.hint == f"to lose all of it: --wipe {found.id}"
    refuse_content(found, bench.plan(), wipe=found.id)


def test_a_disk_that_was_read_in_parts_is_written_by_consent_alone(bench: Bench) -> None:
    found = Found(bench.disk, 1 << 40, looked=2 << 30, unseen=(1 << 40) - (2 << 30))
    with pytest.raises(InputError, match=r"may hold something:\n  2\.0 GiB looked at, which") as caught:
        refuse_content(found, bench.plan(), wipe=None)
    assert caught.value.hint == f"read all of it to know: --read-all; to lose all of it: --wipe {found.id}"
    refuse_content(found, bench.plan(), wipe=found.id)


def test_of_a_large_disk_parts_are_read_and_all_of_it_when_asked(
    tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WHOLE": 8 * MIB, "EDGE": 4 * MIB, "PIECES": 4}.items():
        monkeypatch.setattr(traces, name, value)
    disk, at = blank(tmp_path / "disk"), 5 * MIB + 512
    put(disk, at, b"a letter")
    with lvm2.loop_device(tools, disk, 0, SIZE) as name, Path(name).open("rb") as f:
        medium = Medium(f.fileno(), Path(name))
        some, everything = look(medium, SIZE, tools), look(medium, SIZE, tools, everything=True)
    assert (some.things, some.looked, some.unseen, some.empty) == ([], 12 * MIB, SIZE - 12 * MIB, False)
    assert [t.offset for t in everything.things] == [at]


def table(disk: Path, tools: Tools, text: str) -> None:
    tools.run(["sfdisk", "--quiet", disk], stdin=text.encode())


def test_a_filesystem_whose_partition_was_deleted_is_named(tools: Tools, tmp_path: Path) -> None:
    disk, lost = blank(tmp_path / "disk"), blank(tmp_path / "lost", 16 * MIB)
    table(disk, tools, "label: gpt\nstart=2048, size=16384\n")
    empty = found_on(disk, tools)
    assert [t.kind for t in empty.things] == ["partition table (gpt)", "partition 1"]
    tools.run(["mkfs.ext4", "-q", "-L", "holiday", lost])
    put(disk, 9 * MIB, lost.read_bytes())
    found = found_on(disk, tools)
    assert [(t.kind, t.name, t.offset) for t in found.things[2:]] == [("ext4", "holiday", 9 * MIB)]
    assert found.id != empty.id


def test_data_between_partitions_is_named(tools: Tools, tmp_path: Path) -> None:
    disk = blank(tmp_path / "disk")
    table(disk, tools, "label: dos\nstart=2048, size=16384\nstart=65536, size=8192\n")
    put(disk, 20 * MIB + 512, b"x")
    thing = found_on(disk, tools).things[-1]
    assert (thing.kind, thing.offset) == ("data that no program recognises", 20 * MIB + 512)


@pytest.mark.parametrize("start", [0, MIB])
def test_leftovers_of_several_things_in_one_place_are_all_named(
    start: int, tools: Tools, tmp_path: Path
) -> None:
    disk, one = blank(tmp_path / "disk"), blank(tmp_path / "one", 32 * MIB)
    tools.run(["mkfs.ext4", "-q", "-L", "first", one])
    if start:
        table(disk, tools, "label: gpt\nstart=2048, size=65536\n")
    put(disk, start, one.read_bytes()[:65536])
    put(disk, start, b"hsqs" + struct.pack("<4I8xHH8xQ", 1, 1, 4096, 0, 4, 0, 4096))  # squashfs
    found = {t.kind: t.name for t in found_on(disk, tools).things}
    assert (found["ext4"], found["squashfs"]) == ("first", "")
