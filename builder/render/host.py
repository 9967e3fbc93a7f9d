"""Which files does the host of a seat need beyond its image: its disk's file systems and its containers?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.errors import InputError
from builder.profile import Profile
from builder.render.bundle import Volume, render_host_bundle
from builder.render.templates import render_tree, template_root, write_link


@dataclass(frozen=True)
class Container:
    """A container of a seat; ``autostart`` starts it with the host."""

    profile: Profile
    volume: Volume
    autostart: bool = True


@dataclass(frozen=True)
class HostDisk:
    """Where the host's own file systems are, as fstab(5) and crypttab(5) name them.

    ``root`` is opened by the initrd (rd.luks.name= on the kernel command line). ``swap`` gets a new random
    key at each boot.
    """

    esp: str
    swap: str | None = None
    root: str = "/dev/mapper/root"


def render_host(profile: Profile, containers: Sequence[Container], dest: Path, *, disk: HostDisk) -> None:
    """Render into ``dest`` what the environment ``profile`` needs on top of its image to be the seat's host.

    That is fstab, crypttab and the bundle of every container. Raises InputError for containers that clash.
    """
    refuse_clashes(profile, containers)
    render_tree(template_root() / "seat", dest, {"disk": disk})
    for container in containers:
        render_container(profile, container, dest)


def render_container(profile: Profile, container: Container, dest: Path) -> None:
    """Render into ``dest`` what the host ``profile`` needs for one of its containers."""
    render_host_bundle(container.profile, dest, host_user=sound_user(profile), volume=container.volume)
    if container.autostart:
        values = {"name": container.profile.machine}
        render_tree(template_root() / "autostart", dest, values)
        start_with_host(dest, container.profile.machine)


def sound_user(profile: Profile) -> str:
    """Who runs the host's sound server: the user who is logged in automatically, else the first one."""
    if profile.display.autologin:
        return profile.display.autologin
    return profile.users[0].name if profile.users else "root"


def start_with_host(dest: Path, name: str) -> None:
    """What ``machinectl enable NAME`` would do."""
    link = f"etc/systemd/system/machines.target.wants/systemd-nspawn@{name}.service"
    write_link(dest, link, "/usr/lib/systemd/system/systemd-nspawn@.service")


def refuse_clashes(profile: Profile, containers: Sequence[Container]) -> None:
    """No two environments of a seat have the same name or terminal."""
    names: dict[str, str] = {profile.machine: "the host"}
    terminals: dict[int, str] = {profile.display.vt: profile.machine}
    for container in containers:
        name, vt = container.profile.machine, container.profile.display.vt
        if name in names:
            raise InputError(f"{name} is the name of two environments of this seat")
        if vt in terminals:
            raise InputError(
                f"{name} and {terminals[vt]} both want VT{vt}", hint="give one of them another display.vt"
            )
        names[name] = name
        terminals[vt] = name
