"""What comes between a running guest's disk and its image? A recorder of all writes, or a bad sector.

Both are QEMU's own block filters, put in and taken out while the guest runs; and so are whole disks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.machine.hardware import DISK
from builder.machine.machine import Machine

NODE = "filter"
EIO = 5


@contextmanager
def filtered(machine: Machine, **node: Any) -> Iterator[None]:
    """Have all of the guest's requests to its disk go through a block node, given as for `blockdev-add`."""
    (device,) = (
        device["qdev"]
        for device in machine.qmp("query-block")
        if device.get("inserted", {}).get("node-name") == DISK
    )
    machine.qmp("blockdev-add", node_name=NODE, **node)
    machine.qmp("qom-set", path=device, property="drive", value=NODE)
    try:
        yield
    finally:
        machine.qmp("qom-set", path=device, property="drive", value=DISK)
        machine.qmp("blockdev-del", node_name=NODE)


@contextmanager
def recording(machine: Machine, *, before: Path, log: Path, after: Path) -> Iterator[None]:
    """Record all that the guest writes to its disk, and keep what was on it before and after that."""
    machine.host.succeed("sync")
    machine.pause()
    save_disk(machine, before)
    log.touch()
    where = {"driver": "file", "filename": str(log)}
    with filtered(machine, driver="blklogwrites", file=DISK, log=where, log_sector_size=512):
        machine.resume()
        yield
        machine.host.succeed("sync")
        machine.pause()
    save_disk(machine, after)
    machine.resume()


@contextmanager
def bad_sector(machine: Machine, sector: int) -> Iterator[None]:
    """Have every write to a sector (of 512 bytes) fail with EIO."""
    rule = {"event": "none", "iotype": "write", "sector": sector, "errno": EIO, "once": False}
    with filtered(machine, driver="blkdebug", image=DISK, inject_error=[rule]):
        yield


def save_disk(machine: Machine, path: Path) -> None:
    """Make a file of a paused guest's disk."""
    argv = ["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw"]
    machine.tools.run([*argv, machine.files.overlay, path], timeout=300)


def plug_disk(machine: Machine, name: str, serial: str, **node: Any) -> str:
    """Plug in a disk, which is a block node given as for `blockdev-add`; its place in the guest."""
    port = machine.plugs.free_port()
    machine.qmp("blockdev-add", node_name=name, **node)
    machine.qmp("device_add", driver="virtio-blk-pci", drive=name, bus=port, id=name, serial=serial)
    machine.plugs.ports[name] = port
    place = f"/dev/disk/by-id/virtio-{serial}"
    machine.host.wait_for_file(place, timeout=60)
    return place


@contextmanager
def recorded_disk(machine: Machine, serial: str, disk: Path, log: Path) -> Iterator[str]:
    """Plug in another disk, and record all that the guest writes to it; its place in the guest."""
    log.touch()
    name = "recorded"
    node = {
        "driver": "blklogwrites",
        "file": {"driver": "file", "filename": str(disk)},
        "log": {"driver": "file", "filename": str(log)},
    }
    yield plug_disk(machine, name, serial, **node, log_sector_size=512)
    machine.unplug(name)
    machine.qmp("blockdev-del", node_name=name)
