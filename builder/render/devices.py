"""Which of the host's devices does a container get, and what must run on the host for that?

The one place that knows how devices are handed over: the nspawn file, the unit's device permissions and the
helper services of the host bundle are all rendered from its answer.
"""

from builder.profile import Profile
from builder.profile.model import Isolation
from builder.render.access import GPU, Bind, DeviceAccess
from builder.render.strict import strict_access


def device_access(profile: Profile) -> DeviceAccess:
    """The hand-over for the profile's mode of isolation. Raises InputError for a profile at odds with it."""
    if profile.isolation is Isolation.STRICT:
        return strict_access(profile)
    return shared_access(profile)


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
