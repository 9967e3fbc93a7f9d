"""What do the boot tests share? One seat, made and booted once."""

from collections.abc import Iterator

import pytest

from tests.support.bootedseat import BootedSeat, booted_seat, make_seat


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedSeat]:
    with booted_seat(tmp_path_factory.mktemp("boot"), make_seat, full=True) as seat:
        yield seat
