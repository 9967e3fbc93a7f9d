"""Do keyboard, pointer and monitor work in a container after they were unplugged and plugged in again?

With shared devices the seeded defect is that nobody forwards udev's messages to the container: the bug
that the forwarder is there for. A strict container hears of keyboards and pointers from the input broker,
so there udev itself says nothing any more; of monitors it hears from the forwarder, too.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from builder.machine.bench import SeatInTest
from builder.machine.desktop import Desktop

Show = Callable[[str], Path | None]
QUICK = 30.0  # seconds until a device that was plugged in works
KEYBOARD = "QEMU Virtio Keyboard"  # as the kernel names it

NO_FORWARDER = "systemctl stop seatsmith-udev-forward@{guest}.service"

pytestmark = [
    pytest.mark.needs("container", "network"),
    pytest.mark.defect("host", NO_FORWARDER, unless="strict"),
    pytest.mark.defect("host", "udevadm control --stop-exec-queue"),
]


def replug(seat: SeatInTest, kind: str) -> None:
    seat.machine.unplug(kind)
    seat.machine.plug(kind)


def exchange(seat: SeatInTest, kind: str) -> None:
    """Put another in its place, which gets another device node."""
    seat.machine.plug(f"usb-{kind}", f"second-{kind}")
    seat.machine.unplug(kind)


def expect_click(desktop: Desktop) -> None:
    def clicked() -> bool:
        desktop.machine.click(400, 300)
        return bool(desktop.clicks())

    desktop.forget()
    desktop.expect(clicked, f"a click reaches {desktop.name}", timeout=QUICK)


@pytest.mark.check("A keyboard that is replugged on the container's terminal works there at once")
def test_keyboard_on_own_terminal(seat: SeatInTest, show: Show) -> None:
    seat.guest.switch_to()
    seat.guest.open_recorder()
    replug(seat, "keyboard")
    seat.guest.eventually_types("k", timeout=QUICK)
    show("typed on the replugged keyboard")


@pytest.mark.check("A keyboard put in another's place on the host's terminal works in the container as well")
def test_keyboard_on_other_terminal(seat: SeatInTest) -> None:
    seat.guest.switch_to()
    seat.guest.open_recorder()
    seat.host.switch_to()
    exchange(seat, "keyboard")
    seat.guest.switch_to(insist=True, timeout=QUICK)
    seat.guest.eventually_types("o", timeout=QUICK)


@pytest.mark.check("A second keyboard works in the container, and goes on when the first is pulled out")
def test_new_keyboard(seat: SeatInTest) -> None:
    seat.guest.switch_to()
    seat.guest.open_recorder()
    exchange(seat, "keyboard")
    seat.guest.eventually_types("n", timeout=QUICK)


@pytest.mark.check(
    "A pointer that is replugged, or exchanged while the host is on screen, works in the container"
)
def test_pointer(seat: SeatInTest, show: Show) -> None:
    seat.guest.switch_to()
    seat.guest.open_recorder()
    replug(seat, "tablet")
    expect_click(seat.guest)
    show("clicked with the replugged pointer")
    seat.host.switch_to()
    exchange(seat, "tablet")
    seat.guest.switch_to()
    expect_click(seat.guest)
    show("clicked with another pointer")


@pytest.mark.check("A keyboard can be replugged twenty times in a row")
def test_twenty_replugs(seat: SeatInTest) -> None:
    seat.guest.switch_to()
    seat.guest.open_recorder()
    for _ in range(20):
        replug(seat, "keyboard")
        # a busy guest may take one that comes at once for the one that it is still letting go of
        seat.host.shell.wait_until_succeeds(f"grep -q '{KEYBOARD}' /proc/bus/input/devices", timeout=QUICK)
    seat.guest.forget()
    seat.guest.eventually_types("t", timeout=QUICK)


def screen_size(picture: Path | None) -> tuple[int, int]:
    assert picture is not None
    with Image.open(picture) as image:
        return image.size


@pytest.mark.check("The container learns of a monitor that is plugged in")
@pytest.mark.needs("x11")
@pytest.mark.defect("host", NO_FORWARDER)
def test_monitor(seat: SeatInTest, show: Show) -> None:
    seat.guest.switch_to()
    log = "/run/seatsmith-drm"
    seat.guest.shell.succeed(
        f"setsid -f timeout 120 stdbuf -oL udevadm monitor --udev --subsystem-match=drm >{log} 2>&1"
    )
    seat.guest.shell.wait_until_succeeds(f"grep -q UDEV {log}", timeout=30)
    seat.machine.set_monitor(1280, 960)
    seat.guest.shell.wait_until_succeeds(f"grep -q 'change .*card0 .drm' {log}", timeout=QUICK)
    seat.guest.expect(lambda: "1280x960" in seat.guest.x("xrandr"), "X offers the new monitor's size")
    seat.guest.x("xrandr --output Virtual-1 --mode 1280x960")
    seat.guest.expect(
        lambda: screen_size(show("on the new monitor")) == (1280, 960), "the screen is 1280x960"
    )


@pytest.mark.check("Devices still work in a container that was restarted with its forwarder")
@pytest.mark.restarted
@pytest.mark.slow
@pytest.mark.xdist_group("restart")
def test_replug_after_restart(seat: SeatInTest) -> None:
    seat.guest.switch_to()
    seat.guest.open_recorder()
    replug(seat, "keyboard")
    seat.guest.eventually_types("r", timeout=QUICK)
