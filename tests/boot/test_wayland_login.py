"""Does a person get into host and container by Wayland through the login screen, strict and shared?

It takes an image and two boots of its own: the seat of the other tests is by X11 and logs in by itself.
"""

from collections.abc import Iterator

import pytest

from builder.machine.boottest import first_boot
from builder.machine.seatdisk import written_seat
from builder.project import Project, cache_home
from builder.tools import ensure_tools
from tests.support.bootedseat import BootedSeat, make_seat

pytestmark = pytest.mark.long
CHECKS = ("greeter", "input-stays", "nothing-failed", "restart")
WAYLAND = "isolation: {}\ndisplay: {{server: wayland, session: sway, autologin: null}}\n"


@pytest.fixture(scope="module", params=["strict", "shared"])
def seat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedSeat]:
    tools = ensure_tools()
    place = tmp_path_factory.mktemp(request.param)
    project = Project(place / "project", cache_home(), place / "dist")
    make_seat(project, WAYLAND.format(request.param))
    folder, kernel = place / "report", place / "kernel"
    folder.mkdir()
    kernel.mkdir()
    subject = written_seat(project, "twins", tools, kernel, full=False)
    assert subject.containers[0].strict == (request.param == "strict")
    assert {facts.user for facts in subject.environments} == {None}
    overlay = place / "ready.qcow2"
    boot = first_boot(subject, tools, folder, overlay, print)
    assert boot.outcome == "passed", boot.message
    yield BootedSeat(tools, project, subject, folder, overlay, boot)
    for path in (overlay, subject.disk):
        path.unlink(missing_ok=True)


def test_whoever_logged_in_types_switches_and_logs_out_by_wayland(seat: BootedSeat) -> None:
    records = seat.check(*CHECKS)
    assert {name: records[name].message for name in CHECKS} == dict.fromkeys(CHECKS, "")


def test_a_login_screen_that_lets_nobody_in_is_noticed(seat: BootedSeat) -> None:
    seeded = seat.check("greeter", defects=True)["greeter"]
    assert seeded.outcome == "passed", " ".join(seeded.notes) or seeded.message
