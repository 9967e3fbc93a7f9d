"""Is a keyboard that is plugged in again dead in a container of shared devices, alive by the forwarder?

The bug that `seatsmith-udev-forward` is there for, with the forwarder switched off and on. It takes a boot
of its own, since the seat of the other tests has a strict container, whose keyboard comes by the broker.
"""

from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.bootedseat import BootedSeat, booted_seat, make_seat_of_image

pytestmark = pytest.mark.long
CHECKS = ("keyboard-on-own-terminal", "keyboard-on-other-terminal", "new-keyboard", "pointer", "monitor")
BUG = ("keyboard-on-own-terminal", "new-keyboard")  # on its old device node, and on another
FLOODED = (
    "for n in $(seq 40); do udevadm trigger --action=change --subsystem-match=input; done; udevadm settle"
)

CRASHED = """\
unit=seatsmith-udev-forward@work.service
before=$(systemctl show -P MainPID $unit)
systemctl kill --signal=SEGV $unit
until [ "$(systemctl is-active $unit)" = active ] && [ "$(systemctl show -P MainPID $unit)" != $before ]
do sleep 0.2; done
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedSeat]:
    make = partial(make_seat_of_image, isolation="shared")
    with booted_seat(tmp_path_factory.mktemp("shared"), make) as seat:
        assert seat.boot.outcome == "passed", seat.boot.message
        assert not seat.subject.containers[0].strict
        yield seat


def test_devices_that_come_and_go_work_in_the_container_by_the_forwarder(shared: BootedSeat) -> None:
    records = shared.check(*CHECKS)
    assert {name: records[name].message for name in CHECKS} == dict.fromkeys(CHECKS, "")


def test_without_the_forwarder_a_keyboard_is_dead_when_it_comes_back(shared: BootedSeat) -> None:
    records = shared.check(*BUG, defects=True)
    said = {name: " ".join(records[name].notes) or records[name].message for name in BUG}
    assert {name: records[name].outcome for name in BUG} == dict.fromkeys(BUG, "passed"), said
    assert all("a letter typed reaches work's window: not within" in words for words in said.values()), said


def test_the_forwarder_outlives_a_flood_of_events(shared: BootedSeat) -> None:
    records = shared.check("new-keyboard", faults={"new-keyboard": ("host", FLOODED)})
    assert records["new-keyboard"].message == ""


def test_the_forwarder_is_back_by_itself_after_a_crash(shared: BootedSeat) -> None:
    records = shared.check("new-keyboard", faults={"new-keyboard": ("host", CRASHED)})
    assert records["new-keyboard"].message == ""
