"""Which files does a container need in the root of its host?"""

from dataclasses import dataclass, replace
from pathlib import Path

from builder.profile import Profile
from builder.profile.model import AudioServer, Isolation
from builder.render.access import Bind, DeviceAccess
from builder.render.devices import device_access
from builder.render.image import keep_terminal_free
from builder.render.strict import cable, render_strict, shared_address
from builder.render.templates import render_tree, template_root

SOUND = "/run/pulse-shared"
STRICT_SOUND = "/run/seatsmith/sound"
TUN = "/dev/net/tun"


@dataclass(frozen=True)
class Volume:
    """The encrypted volume of a container, by a path that survives reboots."""

    device: str


def volume_by_label(profile: Profile) -> Volume:
    """The volume by its LUKS2 label: what a bundle names while no seat says by which UUID."""
    return Volume(f"/dev/disk/by-label/luks-{profile.machine}")


def render_host_bundle(
    profile: Profile, dest: Path, *, host_user: str, volume: Volume | None = None
) -> None:
    """Render what the container ``profile`` needs on its host into ``dest``, a tree for the host's root.

    ``host_user`` runs the host's sound server. ``volume`` defaults to that with the LUKS label luks-NAME.
    Bundles of several containers may be laid over each other: what they share is the same in each.
    """
    sound = profile.audio.server is not AudioServer.NONE
    access = device_access(profile)
    values = {
        "name": profile.machine,
        "host_user": host_user,
        "volume": volume or volume_by_label(profile),
        "access": with_sound(profile, access) if sound else access,
        "network": profile.network,
        "tun": TUN,
        "sound": sound,
        "strict": profile.isolation is Isolation.STRICT,
        "vt": profile.display.vt,
        "cable": cable(profile) if profile.isolation is Isolation.STRICT else None,
        "shared_address": shared_address(profile),
    }
    render_tree(template_root() / "host", dest, values)
    if profile.isolation is Isolation.STRICT:
        render_strict(profile, dest, host_user=host_user)
    keep_terminal_free(profile, dest)


def with_sound(profile: Profile, access: DeviceAccess) -> DeviceAccess:
    """The directory of the socket; where the host does not trust the container one of its own, read-only.

    What is above that is root's: nspawn follows links, and the sound server's user could put one there.
    """
    bind = Bind(SOUND)
    if profile.isolation is Isolation.STRICT:
        bind = Bind(f"{STRICT_SOUND}/{profile.machine}", SOUND, read_only=True, mapped=True)
    return replace(access, binds=(*access.binds, bind))
