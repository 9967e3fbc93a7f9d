"""Can an environment of a running seat be replaced, and taken back, with the kernel's own volumes?

`seatsmith provision` runs on the seat, on the disk that it runs from: with device-mapper, udev and lvm2. It
takes minutes, since Python starts slowly in an emulated guest: `make provision-test` runs it.
"""

from collections.abc import Iterator

import pytest

from builder.project import Project
from builder.tools import ensure_tools
from tests.support.liveseat import FOLDER, LONG, SEAT, SECRET, SET_ATTRIBUTES, YES, LiveSeat, live_seat

pytestmark = pytest.mark.live

WITH = ("security.capability", "system.posix_acl_access", "trusted.seat", "user.long", "user.short")
SETTINGS = "/etc/systemd/nspawn/work.nspawn"
EXTRA = """\
  extra:
    profile: small
    vt: 9
    size: 128MiB
    keyfile: true
"""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSeat]:
    with live_seat(tmp_path_factory.mktemp("live"), ensure_tools(), prepare=want_extra) as seat:
        yield seat


def want_extra(project: Project) -> None:
    """Another container in the seat file, which the disk was not made with."""
    before, after = SEAT.split("host: private\n")
    (project.seats / "live.yaml").write_text(f"{before}{EXTRA}host: private\n{after}")


def test_a_container_of_the_running_host_is_replaced_and_taken_back(live: LiveSeat) -> None:
    host = live.machine.host
    host.succeed(f"head -c 300000 /dev/urandom >{FOLDER}/home/kept && chown 1000:70000 {FOLDER}/home/kept")
    live.python(SET_ATTRIBUTES)
    settings, kept = host.succeed(f"cat {SETTINGS}"), live.kept()
    assert all(f"kept {name} " in kept for name in WITH)
    said = live.refused("env", "work", "--passphrase-file", SECRET, "--for-tests", *YES)
    assert "work is in use: its volume is open as work" in said
    live.stop()
    done = live.provision("env", "work", "--passphrase-file", SECRET, "--for-tests", *YES)
    assert (done["image"], done["resumed"]) == ("2-standin", None)
    assert done["hosts"] == ["the files that private has for work were renewed"]
    live.start()
    assert (live.version(), live.kept()) == ("2", kept)
    host.succeed(
        "test ! -e /sys/class/net/ve-work && test ! -e /etc/systemd/network/50-seat-ve-work.network"
    )
    assert host.succeed(f"cat {SETTINGS}") != settings
    live.stop()
    assert live.provision("rollback", "work", *YES)["verb"] == "rollback"
    live.start()
    assert (live.version(), live.kept()) == ("1", kept)
    host.succeed("test -e /sys/class/net/ve-work", timeout=LONG)
    assert host.succeed(f"cat {SETTINGS}") == settings
    found = host.succeed("lvs --noheadings -o lv_name vglive").split()
    assert sorted(found) == ["private", "swap", "work", "work.previous"]
    host.succeed("vgck vglive")


def test_a_container_is_added_which_its_host_opens_by_a_key_and_removed(live: LiveSeat) -> None:
    host, key, place = live.machine.host, "/etc/cryptsetup-keys.d/extra.key", "/var/lib/machines/extra"
    done = live.provision("add", "extra", "--passphrase-file", SECRET, "--for-tests", *YES)
    assert "private was given a key for extra" in done["hosts"]
    assert host.succeed(f"stat -c %a:%u {key}").strip() == "600:0"
    host.succeed("systemctl start systemd-nspawn@extra.service", timeout=LONG)  # nobody types a passphrase
    host.wait_for_file(f"{place}/started", timeout=LONG)
    host.succeed("systemctl stop systemd-nspawn@extra.service", timeout=LONG)
    live.provision("remove", "extra", *YES)
    host.succeed(f"test ! -e {key} && test ! -e {SETTINGS.replace('work', 'extra')}")
    assert "extra" not in host.succeed("lvs --noheadings -o lv_name vglive")
    host.succeed("vgck vglive")
