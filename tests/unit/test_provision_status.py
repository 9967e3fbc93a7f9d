"""Does ``provision status`` name every environment, also one whose LUKS2 header is damaged?"""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from builder.errors import InputError
from builder.provision.enroll import read_pin
from builder.provision.forecast import environment_lines, environment_rows
from builder.provision.headers import load
from builder.provision.journal import Journal
from builder.provision.seatdisk import SeatDisk, as_tags
from builder.volume import gpt, lvm, lvmcommit
from builder.volume.luks import SECOND_HEADER, SECOND_MAGIC
from builder.volume.medium import Medium

SIZE = 64 << 20
NAMES = ("swap", "tagged", "tagged.previous", "remains", "planned", "mine")
NONE = UUID(int=0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SeatDisk]:
    """No volume has a header: one has tags, one the rest of a header, one is in the seat file alone."""
    file = tmp_path / "disk"
    with file.open("w+b") as f:
        f.truncate(SIZE)
        medium = Medium(f.fileno(), file)
        volumes = tuple(
            lvm.LogicalVolume(name, name, (lvm.Segment(at, 1),), tags_of(name))
            for at, name in enumerate(NAMES)
        )
        group = lvm.VolumeGroup("vg", "vg", "pv", SIZE, volumes)
        part = gpt.Partition("seat-demo", NONE, NONE, 0, SIZE)
        table = gpt.Table(NONE, SIZE, (part,))
        metadata = lvmcommit.Metadata(0, 0, 0, 0, "vg", {}, group)
        made = SeatDisk(medium, SIZE, "demo", table, part, part, metadata, Journal(medium))
        medium.write(made.offset("remains") + SECOND_HEADER, SECOND_MAGIC)
        yield made


def tags_of(name: str) -> tuple[str, ...]:
    return tuple(as_tags({"image": "work 2026.11.01"})) if name.startswith("tagged") else ()


def test_an_environment_with_a_damaged_header_is_named_and_a_volume_of_ones_own_is_not(
    disk: SeatDisk,
) -> None:
    assert list(disk.damaged()) == ["tagged", "remains"]
    assert list(disk.damaged(["planned"])) == ["tagged", "remains", "planned"]


def test_status_says_that_the_header_is_damaged_and_what_to_do(disk: SeatDisk) -> None:
    rows = environment_rows(disk, {}, ["planned"])
    assert [row["name"] for row in rows] == ["tagged", "remains", "planned"]
    line = environment_lines(rows)[0]
    assert "image work 2026.11.01, its LUKS2 header is damaged (this is not a LUKS2 volume" in line
    assert "): provision header-restore, before: work 2026.11.01 (its LUKS2 header is damaged" in line


def test_a_pin_that_is_not_utf8_is_refused_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "pin"
    file.write_bytes(b"12\xff4\n")
    file.chmod(0o600)
    with pytest.raises(InputError, match=r"the PIN in .*/pin is not UTF-8 \(its byte 3\)"):
        read_pin(str(file))
    file.write_text("zwölf\n")
    assert read_pin(str(file)).decode() == "zwölf"


def test_a_file_that_is_no_backup_of_a_header_is_named(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear Sir")
    with pytest.raises(InputError, match="/letter: this is no backup of a LUKS2 header"):
        load(tmp_path / "letter")
