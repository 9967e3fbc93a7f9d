"""Which of the host's devices does a container get, and what must run on the host for that?

The one place that knows how devices are handed over: the nspawn file, the unit's device permissions and the
helper services of the host bundle are all rendered from its answer.
"""

from dataclasses import dataclass

from builder.errors import InputError
from builder.profile import Profile
from builder.profile.model import Isolation

GPU = "dev-seatsmith-gpu.device"  # named by templates/host/usr/lib/udev/rules.d/72-seatsmith.rules


@dataclass(frozen=True)
class Bind:
    """A file or directory of the host that appears in the container (systemd.nspawn(5), Bind=)."""

    source: str
    target: str | None = None
    read_only: bool = False


@dataclass(frozen=True)
class DeviceAccess:
    """What a container may use.

    ``allow`` are words of DeviceAllow=, ``wants`` and ``after`` are units of the host.
    """

    binds: tuple[Bind, ...]
    allow: tuple[str, ...]
    wants: tuple[str, ...]
    after: tuple[str, ...]


def device_access(profile: Profile) -> DeviceAccess:
    """The hand-over for the profile's mode of isolation. Raises InputError for an unknown mode."""
    if profile.isolation is Isolation.SHARED:
        return shared_access(profile)
    raise InputError(
        f"profile {profile.name}: isolation: {profile.isolation} cannot be rendered yet",
        hint="write isolation: shared",
    )


def shared_access(profile: Profile) -> DeviceAccess:
    """The host's own device nodes, bound as they are; events of new ones come from the hotplug forwarder."""
    terminal = f"/dev/tty{profile.display.vt}"
    # tty0: X asks it for the active terminal and to switch to its own
    binds = [Bind("/dev/tty0"), Bind(terminal)]
    allow = ["/dev/tty0", terminal]
    wants: list[str] = []
    after: list[str] = []
    if profile.devices.gpu:
        binds.append(Bind("/dev/dri"))
        allow.append("char-drm")
        wants.append(GPU)
        after.append(GPU)
    if profile.devices.input:
        binds += [Bind("/dev/input"), Bind("/run/udev/data", read_only=True)]
        allow.append("char-input")
        if profile.network.veth:
            # in the host's own network namespace udev's messages arrive without help
            wants.append(f"seatsmith-udev-forward@{profile.machine}.service")
    for node in profile.devices.extra:
        binds.append(Bind(node))
        allow.append(node)
    return DeviceAccess(tuple(binds), tuple(allow), tuple(wants), tuple(after))
