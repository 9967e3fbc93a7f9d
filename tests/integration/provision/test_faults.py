"""What does a failing disk do to a replacement? It ends with an error, and a good disk finishes it."""

import contextlib
import os

import pytest

from builder.errors import MachineError, SeatsmithError
from builder.volume.medium import Medium
from tests.support.faults import Faulty, Log, Recorder
from tests.support.provisioned import Bench


@pytest.mark.parametrize(
    ("kind", "at"),
    [
        ("write error", 0),  # the journal's first record
        ("write error", 1),  # the volume group's new text
        ("write error", 4),  # the new volume
        ("flush error", 8),
    ],
)
def test_an_error_of_the_disk_leaves_the_old_environment_and_a_second_run_finishes(
    kind: str, at: int, bench: Bench
) -> None:
    old, image = bench.contents("work"), bench.new_image("work", "2")
    with pytest.raises(MachineError, match=r"cannot (write|flush) .*disk: Input/output error"):
        bench.replace("work", image, lambda fd, path: Faulty(fd, path, at=at, kind=kind, torn=1))
    assert bench.contents("work") == old
    bench.replace("work", image)
    assert bench.contents("work.previous") == old
    assert bench.contents("work") != old


def test_what_reads_back_differently_is_not_switched_to(bench: Bench) -> None:
    old, image = bench.contents("work"), bench.new_image("work", "2")
    with pytest.raises(MachineError, match="reads back differently"):
        bench.replace("work", image, Misreading)
    assert bench.contents("work") == old
    with bench.opened() as disk:
        assert "verified" not in disk.journal.runs[-1].steps


class Misreading(Medium):
    """Loses one bit of what was written to the new volume."""

    def write(self, offset: int, data: bytes | bytearray | memoryview):  # type: ignore[no-untyped-def]
        written = super().write(offset, data)
        if len(data) >= 1 << 20:
            byte = self.read(offset + 4096, 1)
            os.pwrite(self.fd, bytes([byte[0] ^ 1]), offset + 4096)
        return written


def test_a_bad_read_at_any_point_never_damages_the_seat(bench: Bench) -> None:
    old = bench.contents("private")
    image = bench.new_image("private", "2")
    ended = {"done": 0, "refused": 0}
    for at in (0, 3, 9, 14):
        with contextlib.suppress(SeatsmithError):
            bench.replace("private", image, lambda fd, path, at=at: Faulty(fd, path, at=at, kind="bad read"))  # type: ignore[misc]
        with bench.opened() as disk:
            switched = disk.tags("private").get("image") == "2"
        ended["done" if switched else "refused"] += 1
        if switched:
            break
        assert bench.contents("private") == old
    assert ended["refused"] > 2


def test_two_runs_at_once_are_refused_by_the_volume_groups_number(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    with bench.opened() as first:
        bench.replace("work", image)
        first.metadata.document["vgtiny"]["tags"] = ["mine"]
        with pytest.raises(SeatsmithError, match="was changed by somebody else"):
            first.commit()


def test_a_discard_that_is_not_there_changes_nothing(bench: Bench) -> None:
    log = Log()
    bench.replace("work", bench.new_image("work", "2"), lambda fd, path: Recorder(fd, path, log))
    assert log.events[-1] is None
    assert len(log.writes) > 20
