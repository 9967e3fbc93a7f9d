"""Does a container start, stop and restart cleanly, and does a person get in by typing a password?"""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.machine.bench import SeatInTest
from builder.machine.ready import RESTARTED, restart
from builder.machine.shell import Shell, until

Show = Callable[[str], Path | None]
DISPLAY_MANAGERS = "lightdm.service seatsmith-sway.service seatsmith-greetd.service"
CRASHES = r"dumped core|code=dumped|segfault at|general protection fault|Oops:|BUG:"
QUESTION = "/run/systemd/ask-password/ask.*"
# what was typed at the seat's start is in root's keyring for a while: KEYCTL_CLEAR (7) of it (-4), keyctl(2)
FORGET = "python3 -c 'import ctypes; ctypes.CDLL(None).syscall(250, 7, -4)'"
NO_AUTOLOGIN = {  # by Wayland or not
    False: "printf '[Seat:*]\\nautologin-user=\\n' >/etc/lightdm/lightdm.conf.d/99-boot-test.conf && "
    "systemctl restart lightdm.service",
    True: "systemctl restart seatsmith-greetd.service",
}
DENY = "ls /etc/pam.d/lightdm /etc/pam.d/greetd | xargs sed -i '1i auth required pam_deny.so'"

pytestmark = pytest.mark.needs("container")


@pytest.mark.check("Nothing failed and nothing crashed while the seat started")
@pytest.mark.defect("guest", "systemd-run --quiet --unit=seeded --wait false; true")
def test_nothing_failed(seat: SeatInTest) -> None:
    for desktop in seat.desktops:
        failed = desktop.shell.succeed("systemctl list-units --failed --plain --no-legend").strip()
        assert not failed, f"failed units of {desktop.name}:\n{failed}"
        crashed = desktop.shell.run(f"journalctl -b --no-pager -o cat | grep -E '{CRASHES}'").output.strip()
        assert not crashed, f"{desktop.name} logged crashes:\n{crashed}"


@pytest.mark.check("A container's volume is closed when the container has stopped, and opens again with it")
@pytest.mark.needs("volume")
@pytest.mark.defect("host", "cd /var/lib/machines/{guest}/etc && setsid -f sleep 600 >/dev/null 2>&1")
def test_volume_closes(seat: SeatInTest) -> None:
    host, name = seat.host.shell, seat.guest.name
    seat.host.switch_to()
    host.succeed(f"systemctl stop systemd-nspawn@{name}.service", timeout=120)
    until(lambda: closed(host, name), f"the volume of {name} is closed", timeout=20)
    host.succeed(f"systemctl start --no-block systemd-nspawn@{name}.service")
    host.wait_until_succeeds(f"test -e /dev/mapper/{name} && findmnt /var/lib/machines/{name}", timeout=60)
    host.succeed(f"systemctl stop systemd-nspawn@{name}.service", timeout=120)
    opened = shlex.quote(seat.guest.facts.volume_unit)
    host.run(f"while systemctl is-active --quiet {opened}; do :; done", timeout=20)  # it is being closed
    host.succeed(f"systemctl start systemd-nspawn@{name}.service", timeout=120)


def closed(host: Shell, name: str) -> bool:
    return host.run(f"test ! -e /dev/mapper/{name} && ! findmnt /var/lib/machines/{name}").status == 0


@pytest.mark.check("A container's volume asks for its passphrase, and again after a wrong one")
@pytest.mark.needs("asked")
@pytest.mark.defect("host", "chmod -x /usr/lib/systemd/systemd-cryptsetup /usr/bin/systemd-cryptsetup; true")
def test_asks_for_passphrase(seat: SeatInTest) -> None:
    host, name = seat.host.shell, seat.guest.name
    folder = shlex.quote(f"/run/systemd/system/{seat.guest.facts.volume_unit}.d")
    seat.host.switch_to()
    host.succeed(f"systemctl stop systemd-nspawn@{name}.service", timeout=120)
    host.succeed(f"rm -r {folder} && systemctl daemon-reload && {FORGET}", timeout=120)
    host.succeed(f"systemctl start --no-block systemd-nspawn@{name}.service")
    host.wait_until_succeeds(f"grep -l {name} {QUESTION}", timeout=60)
    first = host.succeed(f"echo {QUESTION}").strip()
    answer(host, "not the passphrase")
    host.wait_until_succeeds(f"test ! -e {first} && grep -l {name} {QUESTION}", timeout=60)
    assert closed(host, name), "a wrong passphrase opens it"
    answer(host, seat.subject.passphrase or "")
    host.wait_until_succeeds(f"test -e /dev/mapper/{name} && findmnt /var/lib/machines/{name}", timeout=60)


def answer(host: Shell, passphrase: str) -> None:
    """What systemd's password agents do: systemd.io/PASSWORD_AGENTS."""
    socket = f"$(sed -n 's/^Socket=//p' {QUESTION})"
    reply = "/usr/lib/systemd/systemd-reply-password"
    host.succeed(f'printf %s {shlex.quote(passphrase)} | {reply} 1 "{socket}"')


@pytest.mark.check("A restarted container comes back on its terminal and can be typed at")
@pytest.mark.xdist_group("restart")
@pytest.mark.defect("guest", f"systemctl mask {DISPLAY_MANAGERS}")
def test_restart(seat: SeatInTest, show: Show) -> None:
    seat.restart_guest()
    seat.guest.switch_to()
    seat.guest.open_recorder()
    show("typed at after the restart")
    seat.keep(RESTARTED)


@pytest.mark.check("A person logs in at the greeter by typing the password")
@pytest.mark.defect("guest", DENY)
def test_greeter(seat: SeatInTest, show: Show) -> None:
    desktop = seat.guest
    desktop.switch_to()
    desktop.shell.succeed(NO_AUTOLOGIN[desktop.facts.wayland], timeout=90)
    desktop.wait_for_greeter(timeout=90)
    desktop.log_in(picture=show)
    seat.machine.wait_for_screen(still=2.0, timeout=30)
    show("logged in")
    if desktop.facts.wayland:
        desktop.log_out()
        show("logged out")


@pytest.mark.check("The seat reboots while everything is up, and comes back with everything up")
@pytest.mark.slow
@pytest.mark.defect("guest", f"systemctl mask {DISPLAY_MANAGERS} && sync")
def test_reboot(seat: SeatInTest, show: Show) -> None:
    restart(seat.machine, seat.subject)
    seat.guest.switch_to()
    seat.guest.open_recorder()
    show("typed at after the reboot")
