"""What does the host need for a container with ``isolation: strict``, and what is it given of the devices?

A user namespace, device nodes that the host makes for it, and virtual input devices that say something only
while its terminal is active. The programs are builder/broker/, which the bundle carries.
"""

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from builder.broker.nodes import GIVEN, NODES
from builder.broker.shapes import FIXED, MOST_TOUCH
from builder.profile import Profile
from builder.profile.model import AudioServer
from builder.render.access import GPU, Bind, DeviceAccess
from builder.render.limits import strict_limits
from builder.render.templates import render_tree, template_root, write_file, write_link

# What systemd leaves to containers (systemd.io/UIDS-GIDS) begins here; a seat has at most 62 terminals.
FIRST_UID, UIDS = 524288, 65536
PROGRAM = "usr/lib/seatsmith/broker"
BROKER = "seatsmith-broker.service"
NETWORK = "/etc/seatsmith/network"
CARD = "host0"  # nspawn names it
BLOCK = "198.18.0.0/15"  # for tests between networks (RFC 2544), so that no LAN has it
MOST_INPUTS = len(FIXED) + MOST_TOUCH


def uid_base(profile: Profile) -> int:
    """The first of the container's user ids on its host: no two environments of a seat share a terminal."""
    return FIRST_UID + (profile.display.vt - 2) * UIDS


@dataclass(frozen=True)
class Cable:
    """The addresses at both ends of a container's network cable, which has a network of its own."""

    host: str
    container: str
    prefix: int = 30
    block: str = BLOCK
    """All addresses of all cables."""


def cable(profile: Profile) -> Cable:
    """Fixed addresses, since DHCP needs raw sockets; no two environments of a seat share a terminal."""
    network = f"198.18.{profile.display.vt}"
    return Cable(f"{network}.1", f"{network}.2")


def shared_address(profile: Profile) -> str:
    """The host's end of the cable to a ``shared`` container, which has room for DHCP's addresses. It is in
    the block as well, so that strict containers beside it do not reach it."""
    return f"198.19.{profile.display.vt}.1/28"


def devices_unit(profile: Profile) -> str:
    return f"seatsmith-devices@{profile.machine}.service"


def strict_access(profile: Profile) -> DeviceAccess:
    """Nodes of its own, which belong to its own users."""
    place = f"{NODES}/{profile.machine}"
    terminal = f"/dev/tty{profile.display.vt}"
    # tty0: LightDM looks there for terminals; its own serves for that and cannot switch to others
    binds = [Bind(f"{place}/tty", terminal), Bind(f"{place}/tty", "/dev/tty0")]
    binds.append(Bind(f"{place}/udev", "/run/udev/data", read_only=True))
    if profile.devices.gpu:
        binds.append(Bind(f"{place}/dri", "/dev/dri"))
    if profile.devices.input:
        binds.append(Bind(f"{place}/input", "/dev/input"))
    binds.append(
        Bind(
            f"{NETWORK}/{profile.machine}.network", f"/run/systemd/network/10-{CARD}.network", read_only=True
        )
    )
    for node in profile.devices.extra:
        binds.append(Bind(f"{place}/extra/{node.removeprefix('/dev/').replace('/', '-')}", node))
    forwarder = (f"seatsmith-udev-forward@{profile.machine}.service",) if profile.devices.gpu else ()
    return DeviceAccess(
        binds=tuple(binds),
        allow=(*allowed(profile), *profile.devices.extra),
        wants=forwarder,
        after=(),
        requires=(devices_unit(profile),),
        uids=f"{uid_base(profile)}:{UIDS}",
        limits=strict_limits(profile.privileges),
    )


def allowed(profile: Profile) -> list[str]:
    """Words of DeviceAllow= for exactly what is bound; systemd passes over a node that is not there."""
    found = [f"/dev/tty{profile.display.vt}"]
    if profile.devices.gpu:
        found.append("char-drm")
    if profile.devices.input:
        found += [f"{GIVEN}/{profile.machine}/{number}" for number in range(MOST_INPUTS)]
    return found


def render_strict(profile: Profile, dest: Path, *, host_user: str) -> None:
    """Render the broker, the units that make device nodes, and what they must know of this container.

    ``host_user`` runs the host's sound server, and that which the container has for itself.
    """
    made = ["char-tty", *(["char-drm"] if profile.devices.gpu else [])]
    made += ["char-input"] if profile.devices.input else []
    values = {
        "name": profile.machine,
        "waits": [*([BROKER] if profile.devices.input else []), *([GPU] if profile.devices.gpu else [])],
        "nodes": [*made, *profile.devices.extra],
        "sound": profile.audio.server is not AudioServer.NONE,
        "microphone": profile.audio.microphone,
        "host_user": host_user,
        "cable": cable(profile),
        "card": CARD,
    }
    render_tree(template_root() / "strict", dest, values)
    if values["sound"]:
        start_with_sound(profile.machine, dest)
    copy_broker(dest)
    facts = {
        "name": profile.machine,
        "vt": profile.display.vt,
        "uid_base": uid_base(profile),
        "gpu": profile.devices.gpu,
        "input": profile.devices.input,
        "extra": profile.devices.extra,
    }
    text = json.dumps(facts, indent=2)
    write_file(dest, f"etc/seatsmith/environments/{profile.machine}.json", f"{text}\n")


def start_with_sound(name: str, dest: Path) -> None:
    """Start the container's sound server with the host's, whichever that is."""
    for server in ("pulseaudio", "pipewire-pulse"):
        unit = f"seatsmith-sound-{server.removesuffix('-pulse')}-{name}.service"
        write_link(dest, f"etc/systemd/user/{server}.service.wants/{unit}", f"../{unit}")


def copy_broker(dest: Path) -> None:
    """The package builder/broker as the host runs it, its unit and its udev rules."""
    package = Path(str(resources.files("builder.broker")))
    for source in sorted(package.glob("*.py")):
        write_file(dest, f"{PROGRAM}/{source.name}", source.read_text(encoding="utf-8"))
    for name, place in ((BROKER, "systemd/system"), ("73-seatsmith-broker.rules", "udev/rules.d")):
        write_file(dest, f"usr/lib/{place}/{name}", (package / "host" / name).read_text(encoding="utf-8"))
