"""builder.render: which files follow from a profile?"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from builder import render as render_package
from builder.errors import InputError
from builder.image import SHAPING
from builder.render import (
    Container,
    HostDisk,
    Volume,
    mkosi_settings,
    render_host,
    render_host_bundle,
    render_image,
)
from builder.render.devices import device_access
from builder.render.preview import render_all, tree_diff
from tests.support.render import UUID, picture, profile, shared, shipped, without_programs

DISK = HostDisk(esp="PARTUUID=55550001-4444-4444-8444-444444444444", swap="/dev/vgdemo/swap")


@pytest.mark.parametrize("name", ["work", "private"])
def test_the_image_tree_of_a_shipped_profile_is_as_reviewed(
    name: str, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    render_image(shipped(name), tmp_path / "image")
    golden(f"render/{name}-image.txt", picture(tmp_path / "image"))


@pytest.mark.parametrize(("host", "container"), [("private", "work"), ("work", "private")])
def test_either_shipped_profile_can_be_host_of_the_other(
    host: str, container: str, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    render_host(shipped(host), [Container(shipped(container), Volume(UUID))], tmp_path, disk=DISK)
    golden(f"render/{host}-with-{container}.txt", picture(without_programs(tmp_path)))


def test_a_bundle_without_a_seat_finds_its_volume_by_its_label(tmp_path: Path) -> None:
    render_host_bundle(profile(), tmp_path, host_user="user")
    unit = (tmp_path / "etc/systemd/system/systemd-cryptsetup@work.service").read_text()
    assert "ExecStart=systemd-cryptsetup attach work /dev/disk/by-label/luks-work none luks\n" in unit
    assert "BindsTo=dev-disk-by\\x2dlabel-luks\\x2dwork.device\n" in unit


def test_a_name_with_a_hyphen_is_escaped_where_systemd_wants_it(tmp_path: Path) -> None:
    render_host_bundle(profile("my-work"), tmp_path, host_user="user")
    mount = (tmp_path / "etc/systemd/system/var-lib-machines-my\\x2dwork.mount").read_text()
    assert "Where=/var/lib/machines/my-work\n" in mount
    assert "Requires=systemd-cryptsetup@my\\x2dwork.service\n" in mount
    assert (tmp_path / "etc/systemd/system/systemd-cryptsetup@my\\x2dwork.service").is_file()
    assert (tmp_path / "etc/systemd/system/systemd-nspawn@my-work.service.d/50-seatsmith.conf").is_file()


def test_the_umask_and_what_was_there_before_change_nothing(tmp_path: Path) -> None:
    render_all(profile(), tmp_path / "one")
    before = os.umask(0o077)
    try:
        render_all(profile(), tmp_path / "two")
        render_all(profile(), tmp_path / "two")
    finally:
        os.umask(before)
    assert picture(tmp_path / "one") == picture(tmp_path / "two")


def test_an_image_does_not_depend_on_the_role_of_its_profile(tmp_path: Path) -> None:
    render_image(profile(role="host", bootable=True), tmp_path / "host")
    render_image(profile(role="container", bootable=True), tmp_path / "container")
    assert picture(tmp_path / "host") == picture(tmp_path / "container")


def test_bundles_of_two_containers_share_only_equal_files(tmp_path: Path) -> None:
    third = profile("third", display={"vt": 9})
    for one in (profile(), third):
        render_host_bundle(one, tmp_path / one.name, host_user="user")
    names = [
        {p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*") if p.is_file()}
        for n in ("work", "third")
    ]
    common = names[0] & names[1]
    assert Path("usr/lib/systemd/system/seatsmith-udev-forward@.service") in common
    for name in common:
        assert (tmp_path / "work" / name).read_bytes() == (tmp_path / "third" / name).read_bytes()


def test_a_container_without_devices_is_given_its_terminal_alone() -> None:
    access = device_access(shared(devices={"gpu": False, "input": False}))
    assert [bind.source for bind in access.binds] == ["/dev/tty0", "/dev/tty8"]
    assert access.allow == ("/dev/tty0", "/dev/tty8")
    assert access.wants == access.after == ()


def test_extra_devices_are_bound_and_allowed() -> None:
    access = device_access(shared(devices={"extra": ["/dev/video0"]}))
    assert "/dev/video0" in [bind.source for bind in access.binds]
    assert "/dev/video0" in access.allow


def test_no_forwarder_runs_where_the_container_hears_udev_itself() -> None:
    assert "seatsmith-udev-forward@work.service" in device_access(shared()).wants
    assert "seatsmith-udev-forward@work.service" not in device_access(shared(network={"veth": False})).wants


def test_without_a_cable_there_is_no_network_file(tmp_path: Path) -> None:
    render_host_bundle(shared(network={"veth": False}), tmp_path, host_user="user")
    assert not list(tmp_path.rglob("*.network"))
    assert "VirtualEthernet=no\n" in (tmp_path / "etc/systemd/nspawn/work.nspawn").read_text()


def test_without_sound_nothing_of_the_sound_server_is_shared(tmp_path: Path) -> None:
    render_host_bundle(profile(audio={"server": "none"}), tmp_path, host_user="user")
    assert "pulse" not in picture(tmp_path)


def test_a_name_too_long_for_a_network_interface_is_refused_by_the_profile(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="at most 12 characters"):
        profile("development-2")
    render_host_bundle(shared("development-2", network={"veth": False}), tmp_path, host_user="user")


def test_two_environments_on_one_terminal_are_refused(tmp_path: Path) -> None:
    host = profile("private", role="host")
    with pytest.raises(InputError, match="work and private both want VT8"):
        render_host(host, [Container(profile(), Volume(UUID))], tmp_path, disk=DISK)


def test_two_environments_of_one_name_are_refused(tmp_path: Path) -> None:
    host = profile("private", role="host", display={"vt": 7})
    twice = [Container(profile(), Volume(UUID)), Container(profile(display={"vt": 9}), Volume(UUID))]
    with pytest.raises(InputError, match="work is the name of two environments"):
        render_host(host, twice, tmp_path, disk=DISK)


def test_a_container_starts_with_the_host_only_where_asked(tmp_path: Path) -> None:
    host = profile("private", role="host", display={"vt": 7})
    for autostart in (True, False):
        dest = tmp_path / str(autostart)
        render_host(host, [Container(profile(), Volume(UUID), autostart=autostart)], dest, disk=DISK)
        link = dest / "etc/systemd/system/machines.target.wants/systemd-nspawn@work.service"
        assert link.is_symlink() == autostart


def test_a_host_without_swap_has_no_line_for_it(tmp_path: Path) -> None:
    host = profile("private", role="host", display={"vt": 7})
    render_host(host, [], tmp_path, disk=HostDisk(esp="PARTUUID=1"))
    assert "swap" not in (tmp_path / "etc/fstab").read_text() + (tmp_path / "etc/crypttab").read_text()


def test_only_users_with_keys_get_a_key_file(tmp_path: Path) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f somebody@example"
    users = [{"name": "user", "ssh_keys": [key]}, {"name": "guest"}]
    render_image(profile(users=users), tmp_path)
    keys = tmp_path / "etc/ssh/authorized_keys.d"
    assert [p.name for p in keys.iterdir()] == ["user"]
    assert (keys / "user").read_text() == f"{key}\n"


def test_a_masked_unit_is_a_link_to_nothing(tmp_path: Path) -> None:
    render_image(profile(services={"enable": ["sshd.service"], "mask": ["man-db.timer"]}), tmp_path)
    assert (tmp_path / "etc/systemd/system/man-db.timer").readlink() == Path("/dev/null")
    presets = tmp_path / "usr/lib/systemd/system-preset"  # in the order of their names
    assert "enable sshd.service\n" in (presets / "00-profile.preset").read_text()
    assert (presets / "00-seat.preset").read_text().endswith("disable *\n")


def test_no_text_login_is_started_on_an_environments_own_terminal(tmp_path: Path) -> None:
    low = profile(display={"vt": 5})
    render_image(low, tmp_path / "image")
    render_host_bundle(low, tmp_path / "host", host_user="user")
    for tree in ("image", "host"):
        assert (tmp_path / tree / "etc/systemd/system/autovt@tty5.service").readlink() == Path("/dev/null")
    render_host_bundle(profile(), tmp_path / "high", host_user="user")
    assert not list(tmp_path.glob("high/**/autovt*"))


def test_nobody_is_logged_in_unless_asked(tmp_path: Path) -> None:
    render_image(profile(display={"vt": 8}), tmp_path)
    assert "autologin" not in picture(tmp_path)


def test_a_wayland_profile_brings_seatd_and_sway_on_its_terminal_and_nothing_of_x(tmp_path: Path) -> None:
    render_image(
        profile(display={"vt": 9, "server": "wayland", "session": "sway", "autologin": "user"}), tmp_path
    )
    units = tmp_path / "usr/lib/systemd/system"
    seatd, sway = (units / f"seatsmith-{name}.service" for name in ("seatd", "sway"))
    assert "\nTTYPath=/dev/tty9\n" in seatd.read_text()
    assert "chvt 9 && exec seatd -g seat'" in seatd.read_text()
    assert "m user seat\n" in (tmp_path / "usr/lib/sysusers.d/seatsmith-users.conf").read_text()
    assert "\nUser=user\n" in sway.read_text()
    preset = (tmp_path / "usr/lib/systemd/system-preset/00-seat.preset").read_text()
    assert "enable seatsmith-sway.service" in preset
    assert "enable seatsmith-greetd.service" not in preset
    assert "lightdm" not in picture(tmp_path)
    assert "xsetroot" not in (tmp_path / "etc/xdg/sway/config").read_text()
    assert not (tmp_path / "etc/X11").exists()


def test_without_automatic_login_a_wayland_profile_brings_a_login_screen(tmp_path: Path) -> None:
    work = profile(display={"vt": 9, "server": "wayland"})
    render_image(work, tmp_path)
    preset = (tmp_path / "usr/lib/systemd/system-preset/00-seat.preset").read_text()
    assert "enable seatsmith-greetd.service" in preset
    assert "enable seatsmith-sway.service" not in preset
    unit = (tmp_path / "usr/lib/systemd/system/seatsmith-greetd.service").read_text()
    assert "XDG_VTNR=9" in unit
    assert not (tmp_path / "usr/lib/systemd/system/seatsmith-sway.service").exists()
    assert 'vt = "none"' in (tmp_path / "etc/greetd/seatsmith.toml").read_text()


def test_an_x11_profile_has_nothing_of_wayland(tmp_path: Path) -> None:
    render_image(profile(display={"vt": 8, "autologin": "user"}), tmp_path)
    assert "sway" not in picture(tmp_path)


def test_mkosi_is_told_name_language_and_clock() -> None:
    told = mkosi_settings(
        profile(hostname="desk", locale="de_DE.UTF-8", timezone="Europe/Berlin", keymap="de")
    )
    assert told["Hostname"] == "desk"
    assert told["Locale"] == "de_DE.UTF-8"
    assert told["Timezone"] == "Europe/Berlin"
    assert told["Keymap"] == "de"


def test_a_diff_shows_what_a_change_of_the_profile_changes(tmp_path: Path) -> None:
    render_all(profile(), tmp_path / "old")
    render_all(profile(display={"vt": 9, "autologin": "user"}), tmp_path / "new")
    lines = list(tree_diff(tmp_path / "old", tmp_path / "new"))
    assert "-minimum-vt=8" in lines
    assert "+minimum-vt=9" in lines
    assert "+DeviceAllow=/dev/tty9 rw" in lines
    assert list(tree_diff(tmp_path / "old", tmp_path / "old")) == []


def test_a_diff_shows_a_new_file_a_gone_file_and_a_changed_link(tmp_path: Path) -> None:
    for name, target in (("old", "a"), ("new", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to(target)
        (tmp_path / name / f"only-{name}").write_text("x\n")
    lines = list(tree_diff(tmp_path / "old", tmp_path / "new"))
    assert lines == [
        *["--- a/link", "+++ b/link", "@@ -1 +1 @@", "--> a", "+-> b"],
        *["--- /dev/null", "+++ b/only-new", "@@ -0,0 +1 @@", "+x"],
        *["--- a/only-old", "+++ /dev/null", "@@ -1 +0,0 @@", "-x"],
    ]


def test_whatever_of_ours_is_copied_into_image_or_bundle_is_part_of_the_images_key(tmp_path: Path) -> None:
    for number, one in enumerate((profile(), shared())):
        render_all(one, tmp_path / str(number))
    rendered = {path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} - {b""}
    package = Path(render_package.__file__).parents[1]
    copied = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.read_bytes() in rendered
    }
    assert {"broker", "templates"} <= copied
    assert copied - set(SHAPING) == set()
