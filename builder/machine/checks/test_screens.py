"""Does each environment have its own terminal, and do keys and pointer reach the one on screen alone?"""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.machine.bench import SeatInTest
from builder.machine.desktop import Desktop
from builder.machine.errors import Unmet
from builder.machine.evidence import Evidence

Show = Callable[[str], Path | None]
STOP_X = "pkill -STOP -x Xorg"  # it holds its terminal and does nothing: a wedged graphics driver
CLIENTS = "cat /sys/kernel/debug/dri/0/clients"
LEAK = (  # copies what the host's window is sent to where the container's is recorded
    "setsid -f sh -c 'cd /proc/$(machinectl show {guest} -p Leader --value)/root/run || exit; "
    "while sleep 0.1; do cat /run/seatsmith-typed >>seatsmith-typed; done' >/dev/null 2>&1"
)

pytestmark = pytest.mark.needs("container")


@pytest.mark.check("Each environment's X server runs on its own virtual terminal")
@pytest.mark.needs("x11")
@pytest.mark.defect("guest", "systemctl stop lightdm.service")
def test_own_terminal(seat: SeatInTest) -> None:
    for desktop in seat.desktops:
        servers = desktop.x_servers()
        assert len(servers) == 1, f"{desktop.name} has {len(servers)} X servers"
        assert re.search(rf"\bvt{desktop.vt}\b", servers[0]), f"{desktop.name}: {servers[0]}"


@pytest.mark.check("The screen says which environment it shows")
@pytest.mark.defect("guest", "pkill -KILL i3bar && sleep 5")
def test_name_on_screen(seat: SeatInTest, show: Show) -> None:
    for desktop in reversed(seat.desktops):
        desktop.switch_to()
        # right after a switch a screen may for a moment still show what was on it when it was left
        seat.machine.wait_for_screen(still=1.0, timeout=30)
        seat.machine.wait_for_text(bar_of(desktop), timeout=30)
        show(f"{desktop.name} on VT{desktop.vt}")


def bar_of(desktop: Desktop) -> str:
    """What the bar must say; the words of a line are not always read in its order, and long ones as two."""
    name = r"\s?".join(re.escape(letter) for letter in desktop.name)
    return rf"^(?=.*\b{name}\b)(?=.*\bVT{desktop.vt}\b)"


@pytest.mark.check("The graphics card obeys the X server of the terminal on screen, and no other")
@pytest.mark.needs("x11")
@pytest.mark.defect("guest", STOP_X)
def test_drm_master(seat: SeatInTest) -> None:
    for desktop in [*seat.desktops, *seat.desktops]:
        desktop.switch_to()
        mine = f"vt{desktop.vt}"
        desktop.expect(
            lambda mine=mine: masters(seat) == [mine],  # type: ignore[misc]
            f"the X server on {mine} is the card's only master",
        )


def masters(seat: SeatInTest) -> list[str]:
    """The terminals of those X servers that command the graphics card now."""
    found = []
    for row in seat.machine.host.succeed(CLIENTS).splitlines()[1:]:
        words = row.split()
        if words[3] == "y":
            argv = seat.machine.host.succeed(f"tr '\\0' ' ' </proc/{words[1]}/cmdline")
            found += [word for word in argv.split() if re.fullmatch(r"vt\d+", word)]
    return found


@pytest.mark.check("Ctrl+Alt+F… changes between environments twenty times in a row")
@pytest.mark.defect("guest", STOP_X)
def test_twenty_switches(seat: SeatInTest, show: Show) -> None:
    for _ in range(20 // len(seat.desktops)):
        for desktop in reversed(seat.desktops):
            desktop.switch_to(timeout=30)
    seat.guest.switch_to(timeout=30)
    show("after twenty switches")


@pytest.mark.check("Keys and clicks reach the environment on screen and no other")
@pytest.mark.defect("host", LEAK)
def test_input_stays(seat: SeatInTest, show: Show) -> None:
    for desktop in reversed(seat.desktops):
        desktop.switch_to()
        desktop.open_recorder()
    for desktop in seat.desktops:
        desktop.switch_to()
        word = f"secret of {desktop.name}"
        for other in seat.desktops:
            other.forget()
        desktop.eventually_types("x", timeout=20)
        seat.machine.type_text(word)
        desktop.expect(lambda d=desktop, w=word: w in d.letters(), f"{word!r} arrives")  # type: ignore[misc]
        seat.machine.click(500, 400)
        desktop.expect(lambda d=desktop: bool(d.clicks()), "a click arrives")  # type: ignore[misc]
        show(f"{desktop.name} was typed and clicked at")
        for other in seat.desktops:
            if other is not desktop and other.typed():
                raise Unmet(f"what was meant for {desktop.name} reached {other.name}: {other.typed()!r}")


@pytest.mark.check("What is typed right after a switch arrives whole, from the first letter on")
@pytest.mark.needs("strict")
@pytest.mark.defect("host", "systemctl stop seatsmith-broker.service")
def test_first_letters(seat: SeatInTest, evidence: Evidence) -> None:
    """Of Wayland it only says how soon: sway's windows are without a keyboard for a while (080)."""
    for desktop in (d for d in seat.containers if d.facts.strict):
        desktop.switch_to()
        desktop.open_recorder()
        waits = []
        for word in ("first", "second", "third"):
            seat.host.switch_to()
            desktop.forget()
            desktop.switch_to()
            started = time.monotonic()
            if desktop.facts.wayland:
                desktop.eventually_types("x", timeout=20)
            else:
                seat.machine.type_text(word)
                desktop.expect(lambda d=desktop, w=word: d.letters() == w, f"{word!r} arrives")  # type: ignore[misc]
            waits.append(f"{time.monotonic() - started:.1f} s")
        evidence.note(f"{desktop.name}: what was typed had arrived {', '.join(waits)} after a switch")


@pytest.mark.check("Changing terminals works while the container's processors are busy")
@pytest.mark.defect("guest", STOP_X)
def test_switches_under_load(seat: SeatInTest, show: Show) -> None:
    seat.guest.switch_to()
    seat.guest.open_recorder()
    seat.guest.shell.succeed("for n in 1 2 3; do setsid -f timeout 60 sh -c 'while :; do :; done'; done")
    for _ in range(3):
        seat.host.switch_to()
        seat.guest.switch_to()
    seat.guest.eventually_types("z", timeout=60)
    show("typed under load")


@pytest.mark.check("A third environment works beside the others on its own terminal, and outlasts them")
@pytest.mark.needs("third", "x11")
@pytest.mark.defect("host", "systemctl --machine={third} stop lightdm.service")
def test_third_environment(seat: SeatInTest, show: Show) -> None:
    third = seat.containers[1]
    servers = third.x_servers()
    assert [re.findall(r"\bvt\d+\b", line) for line in servers] == [[f"vt{third.vt}"]], servers
    third.switch_to()
    seat.machine.wait_for_text(bar_of(third), timeout=30)
    show(f"{third.name} on VT{third.vt}")
    third.open_recorder()
    for other in (seat.guest, seat.host):
        other.switch_to()
        other.open_recorder()
    third.switch_to()
    third.eventually_types("b", timeout=20)
    assert not (seat.guest.typed() or seat.host.typed()), "what was meant for the third reached another"
    seat.host.shell.succeed(f"systemctl stop systemd-nspawn@{seat.guest.name}.service", timeout=120)
    third.forget()
    third.eventually_types("o", timeout=20)
    show(f"{third.name} after {seat.guest.name} was stopped")


@pytest.mark.check("Who is in front is typed at again, with no key pressed, when another one has restarted")
@pytest.mark.needs("third", "x11", "strict")
@pytest.mark.defect("host", "systemctl stop seatsmith-broker.service")
def test_restart_behind(seat: SeatInTest, show: Show) -> None:
    third = seat.containers[1]
    third.switch_to()
    third.open_recorder()
    seat.host.shell.succeed(f"systemctl restart systemd-nspawn@{seat.guest.name}.service", timeout=180)
    seat.guest.wait_until_up(timeout=180)
    third.forget()
    third.eventually_types("r", timeout=60)
    show(f"{third.name} after {seat.guest.name} was restarted")
