"""Does a person get into host and container by Wayland through the login screen, strict and shared?

It takes an image and two boots of its own: the seat of the other tests is by X11 and logs in by itself.
"""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.bootedseat import BootedSeat, booted_seat, make_seat

pytestmark = pytest.mark.long
CHECKS = ("greeter", "input-stays", "nothing-failed", "restart")
WAYLAND = "isolation: {}\ndisplay: {{server: wayland, session: sway, autologin: null}}\n"


@pytest.fixture(scope="module", params=["strict", "shared"])
def seat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedSeat]:
    make = partial(make_seat, more=WAYLAND.format(request.param))
    with booted_seat(tmp_path_factory.mktemp(request.param), make) as seat:
        assert seat.boot.outcome == "passed", seat.boot.message
        assert seat.subject.containers[0].strict == (request.param == "strict")
        assert {facts.user for facts in seat.subject.environments} == {None}
        yield seat


def test_whoever_logged_in_types_switches_and_logs_out_by_wayland(seat: BootedSeat) -> None:
    records = seat.check(*CHECKS)
    assert {name: records[name].message for name in CHECKS} == dict.fromkeys(CHECKS, "")


def test_a_login_screen_that_lets_nobody_in_is_noticed(seat: BootedSeat) -> None:
    seeded = seat.check("greeter", defects=True)["greeter"]
    assert seeded.outcome == "passed", " ".join(seeded.notes) or seeded.message
