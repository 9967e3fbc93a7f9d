"""Can an environment of a running seat be replaced, and taken back, with the kernel's own volumes?

`seatsmith provision` runs on the seat, on the disk that it runs from: with device-mapper, udev and lvm2. It
takes minutes, since Python starts slowly in an emulated guest: `make provision-test` runs it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import pytest

from builder.project import Project
from builder.tools import ensure_tools
from tests.support.liveseat import (
    DISK,
    FOLDER,
    LONG,
    PROFILE,
    SEAT,
    SECRET,
    SET_ATTRIBUTES,
    YES,
    LiveSeat,
    live_seat,
)
from tests.support.smallcontainer import put_small_container

pytestmark = pytest.mark.live

WITH = ("security.capability", "system.posix_acl_access", "trusted.seat", "user.long", "user.short")
SETTINGS = "/etc/systemd/nspawn/work.nspawn"
EXTRA = """\
  extra:
    profile: small
    vt: 9
    size: 128MiB
    keyfile: true
  spare:
    vt: 10
    size: 128MiB
"""
UKI = bytes(range(256)) * 20000
ENTRY = "/boot-menu/loader/entries/seat-spare.conf"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSeat]:
    with live_seat(tmp_path_factory.mktemp("live"), ensure_tools(), prepare=want_more) as seat:
        yield seat


def want_more(project: Project) -> None:
    """Another container and another host in the seat file, which the disk was not made with."""
    before, after = SEAT.split("host: private\n")
    hosts = "host: private\nhosts: [private, spare]\n"
    (project.seats / "live.yaml").write_text(f"{before}{EXTRA}{hosts}{after}")
    profile = PROFILE.format(veth="false").replace("isolation: shared", "bootable: true\nisolation: shared")
    (project.profiles / "spare.yaml").write_text(profile)
    put_small_container(project, "spare", "1", ensure_tools(), uki=UKI)


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


def test_a_further_host_is_offered_by_the_boot_menu_until_it_is_removed(live: LiveSeat) -> None:
    host = live.machine.host
    live.provision("add", "spare", "--passphrase-file", SECRET, "--for-tests", *YES)
    with menu_mounted(live):
        uki = host.succeed(f"sed -n 's,^efi *,/boot-menu,p' {ENTRY}").strip()
        assert host.succeed(f"sha256sum <{uki}").split()[0] == sha256(UKI).hexdigest()
        refusal = live.refused("remove", "spare", *YES)
        assert "is in use" in refusal
    live.provision("remove", "spare", *YES)
    with menu_mounted(live):
        assert host.succeed("cd /boot-menu/loader/entries && ls").split() == ["seat-private.conf"]
        host.succeed(f"test ! -e {uki}")
    assert "spare" not in host.succeed("lvs --noheadings -o lv_name vglive")
    host.succeed("vgck vglive")
    assert "private is in use" in live.refused("remove", "private", *YES)


@contextmanager
def menu_mounted(live: LiveSeat) -> Iterator[None]:
    """The EFI system partition is mounted, for reading."""
    live.machine.host.succeed(f"mkdir -p /boot-menu && mount -o ro {DISK}-part1 /boot-menu")
    yield
    live.machine.host.succeed("umount /boot-menu")
