"""What do the tests of written seats share? A project with tiny images, and one disk written from it."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.seat.write import Report
from builder.tools import Tools
from tests.support.gpgkeys import TestKey
from tests.support.tinyseat import tiny_project
from tests.support.writtenseat import SEAT, SeatBench


@dataclass(frozen=True)
class WrittenDisk:
    path: Path
    report: Report


@pytest.fixture(scope="session")
def seat_bench(tmp_path_factory: pytest.TempPathFactory, tools: Tools, release: TestKey) -> SeatBench:
    root = tmp_path_factory.mktemp("seat")
    return SeatBench(tiny_project(root / "project", release, seat=SEAT), tools, release)


@pytest.fixture(scope="session")
def written(seat_bench: SeatBench, tmp_path_factory: pytest.TempPathFactory) -> WrittenDisk:
    """Only to be read."""
    path = tmp_path_factory.mktemp("disk") / "tiny.img"
    return WrittenDisk(path, seat_bench.write(path, recovery=True))
