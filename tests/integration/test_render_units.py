"""The rendered units, judged by systemd: does it accept every line, and how exposed are the services?"""

import os
import re
import shutil
from pathlib import Path

import pytest

from builder.render import Container, HostDisk, Volume, render_host, render_image
from builder.tools import Tools
from tests.support.render import UUID, profile, shared, shipped

pytestmark = pytest.mark.tools

UNITS = "usr/lib/systemd/system"
PROGRAMS = (
    *("usr/bin/python3", "usr/bin/systemd-cryptsetup", "usr/bin/systemd-nspawn", "usr/bin/systemd-tmpfiles"),
    *("usr/bin/umount", "usr/lib/systemd/systemd-fsck"),
)
EXPOSURE = re.compile(r"Overall exposure level for \S+: ([0-9.]+)")


@pytest.fixture
def root(tools: Tools, tmp_path: Path) -> Path:
    """The root of a host with two containers: units of systemd, of the image and of the bundles."""
    shutil.copytree((tools.root or Path("/")) / UNITS, tmp_path / UNITS, symlinks=True)
    shutil.copytree(Path("mkosi.extra/usr"), tmp_path / "usr", symlinks=True, dirs_exist_ok=True)
    host = shipped("private")
    render_image(host, tmp_path)
    disk = HostDisk(esp="PARTUUID=55550001-4444-4444-8444-444444444444")
    vault = profile("vault", isolation="strict", display={"vt": 9})
    work = shared("work")
    containers = [Container(work, Volume(UUID)), Container(vault, Volume(f"{UUID}1"))]
    render_host(host, containers, tmp_path, disk=disk)
    for name in PROGRAMS:
        program = tmp_path / name
        program.parent.mkdir(exist_ok=True)
        program.touch(mode=0o755)
    return tmp_path


def own_units(root: Path) -> list[str]:
    """Every unit that Seatsmith brings or changes, templates with the container's name."""
    found = {p.name for p in (root / "etc/systemd/system").iterdir() if p.is_file() and not p.is_symlink()}
    found |= {p.name for p in (root / UNITS).glob("seatsmith-*")}
    nspawn = {f"systemd-nspawn@{name}.service" for name in ("work", "vault")}
    return sorted({name.replace("@.", "@vault.") for name in found} | nspawn)


def verify(tools: Tools, root: Path, units: list[str]) -> str:
    argv = ["systemd-analyze", "verify", f"--root={root}", "--man=no", "--generators=no"]
    result = tools.run([*argv, "--recursive-errors=yes", *units], check=False)
    said = result.stderr.decode()
    assert result.returncode == 0 or said, "systemd-analyze said nothing about what is wrong"
    return said


def test_systemd_accepts_every_line_of_the_rendered_units(tools: Tools, root: Path) -> None:
    units = own_units(root)
    assert "systemd-cryptsetup@work.service" in units
    assert "seatsmith-role-host.service" in units
    assert "seatsmith-devices@vault.service" in units
    assert "seatsmith-broker.service" in units
    assert verify(tools, root, units) == ""


def test_systemd_would_notice_a_word_that_it_does_not_know(tools: Tools, root: Path) -> None:
    drop_in = root / "etc/systemd/system/systemd-nspawn@work.service.d/50-seatsmith.conf"
    drop_in.write_text(drop_in.read_text() + "DeviceAlow=/dev/tty8 rw\n")
    assert "Unknown key" in verify(tools, root, ["systemd-nspawn@work.service"])


def nspawn_says(tools: Tools, place: Path, text: str) -> list[str]:
    """What systemd-nspawn says of its settings, before it sees that there is no system to start."""
    (place / "tree").mkdir(parents=True, exist_ok=True)
    (place / "tree.nspawn").write_text(text)
    argv = ["systemd-nspawn", "--settings=trusted", "--register=no", "--keep-unit", "--machine=tree"]
    result = tools.run([*argv, f"--directory={place / 'tree'}"], check=False)
    *said, last = result.stderr.decode().splitlines()
    assert "doesn't look like an OS root directory" in last
    return said


@pytest.mark.skipif(os.geteuid() != 0, reason="systemd-nspawn refuses other users before it reads anything")
@pytest.mark.parametrize("name", ["work", "vault"])
def test_nspawns_own_parser_accepts_the_rendered_settings(
    name: str, tools: Tools, root: Path, tmp_path: Path
) -> None:
    text = (root / f"etc/systemd/nspawn/{name}.nspawn").read_text()
    assert nspawn_says(tools, tmp_path / "try", text) == []
    for wrong, answer in (("Bidn=/x", "Unknown key"), ("Bind=relative", "Invalid bind mount")):
        (said,) = nspawn_says(tools, tmp_path / "try", text.replace("[Files]", f"[Files]\n{wrong}"))
        assert answer in said


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("seatsmith-udev-forward@work.service", 2.2),
        ("seatsmith-udev-forward@vault.service", 2.4),  # CAP_SETUID: to speak as the container's root
        ("seatsmith-broker.service", 2.0),
        ("seatsmith-devices@vault.service", 2.0),
    ],
)
def test_a_service_of_ours_is_as_closed_as_it_can_be(
    unit: str, most: float, tools: Tools, root: Path
) -> None:
    argv = ["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--root={root}", unit]
    found = EXPOSURE.search(tools.run(argv, check=False).text)
    assert found, "systemd-analyze gave no figure"
    assert float(found.group(1)) <= most


def test_the_sound_server_starts_though_a_distribution_switches_all_user_units_off(
    tools: Tools, root: Path
) -> None:
    """Units as PipeWire installs them, with a last preset as some distributions have it."""
    units, wants = root / "usr/lib/systemd/user", root / "etc/systemd/user"
    install = {
        "pipewire.socket": "sockets.target",
        "pipewire-pulse.socket": "sockets.target",
        "wireplumber.service": "pipewire.service",
        "other.service": "default.target",
    }
    units.mkdir(exist_ok=True)
    for name, target in install.items():
        (units / name).write_text(f"[Unit]\nDescription=a unit\n[Install]\nWantedBy={target}\n")
    (root / "usr/lib/systemd/user-preset/99-default.preset").write_text("disable *\n")
    tools.run(["systemctl", f"--root={root}", "--global", "preset-all"])
    found = {path.name for path in wants.glob("*.wants/*")}
    assert found == {*install} - {"other.service"}
