"""How do keys, pointer movements and clicks reach the guest, and how are devices plugged in and out?"""

import time
from collections.abc import Sequence
from typing import Any

from builder.errors import UsageError
from builder.machine.errors import Unmet
from builder.machine.hardware import INPUT_PORTS
from builder.machine.keys import BUTTONS
from builder.machine.qmp import Monitor

HOLD = 0.03  # seconds a key is held, and the pause after it
AXIS = 0x7FFF  # QEMU's absolute axes run from 0 to this
DRIVERS = {
    "keyboard": "virtio-keyboard-pci",
    "mouse": "virtio-mouse-pci",
    "tablet": "virtio-tablet-pci",
    "multitouch": "virtio-multitouch-pci",
    "usb-keyboard": "usb-kbd",
    "usb-mouse": "usb-mouse",
    "usb-tablet": "usb-tablet",
}
FIRST = {"keyboard": "port0", "tablet": "port1"}  # what the machine is started with


def send(monitor: Monitor, *events: tuple[str, dict[str, Any]]) -> None:
    """Give QEMU input events that happen at once (qapi InputEvent)."""
    rows = [{"type": kind, "data": data} for kind, data in events]
    monitor.execute("input-send-event", {"events": rows})


def press(monitor: Monitor, keys: Sequence[str], hold: float = HOLD) -> None:
    """Press keys together and let go of them in the opposite order."""
    for down, row in ((True, keys), (False, [*reversed(keys)])):
        send(monitor, *(("key", {"down": down, "key": {"type": "qcode", "data": key}}) for key in row))
        time.sleep(hold)


def move(monitor: Monitor, x: float, y: float) -> None:
    """Put the pointer somewhere: 0.0 is the left or upper edge of the screen, 1.0 the other."""
    send(monitor, *(("abs", {"axis": axis, "value": int(at * AXIS)}) for axis, at in (("x", x), ("y", y))))
    time.sleep(HOLD)


def click(monitor: Monitor, button: str) -> None:
    """Press and release a button where the pointer is."""
    if button not in BUTTONS:
        raise UsageError(f"a pointer has no {button!r} button; it has {', '.join(BUTTONS)}")
    for down in (True, False):
        send(monitor, ("btn", {"down": down, "button": button}))
        time.sleep(HOLD)


class Plugs:
    """What is plugged in: name → port. PCI devices take a root port each, USB devices share a bus."""

    def __init__(self) -> None:
        self.ports = dict(FIRST)

    def plug(self, monitor: Monitor, kind: str, name: str) -> None:
        if kind not in DRIVERS:
            raise UsageError(f"cannot plug in a {kind!r}; there are {', '.join(DRIVERS)}")
        port = "usb.0" if kind.startswith("usb-") else self.free_port()
        monitor.execute("device_add", {"driver": DRIVERS[kind], "bus": port, "id": name})
        self.ports[name] = port

    def unplug(self, monitor: Monitor, name: str, timeout: float) -> None:
        since = len(monitor.events)
        monitor.execute("device_del", {"id": name})
        if monitor.wait_event("DEVICE_DELETED", since=since, timeout=timeout, device=name) is None:
            raise Unmet(f"the guest did not let go of the {name} within {timeout:.0f} s")
        self.ports.pop(name, None)

    def free_port(self) -> str:
        free = [f"port{n}" for n in range(INPUT_PORTS) if f"port{n}" not in self.ports.values()]
        if not free:
            raise UsageError(f"all {INPUT_PORTS} ports are taken; unplug something first")
        return free[0]

    @property
    def as_started(self) -> bool:
        """Whether exactly the devices of the start are plugged in."""
        return self.ports == FIRST
