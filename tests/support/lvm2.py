"""What does the real lvm2 say of a volume group in a file? Asked over a loop device, no device-mapper."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.tools import Tools

FIELDS = "lv_name,lv_uuid,lv_tags,lv_size,seg_size_pe,seg_pe_ranges,vg_name,vg_seqno,vg_free_count"


@contextlib.contextmanager
def loop_device(tools: Tools, path: Path, start: int, size: int) -> Iterator[str]:
    """A loop device over a part of a file."""
    argv = ["losetup", "--find", "--show", "--offset", str(start), "--sizelimit", str(size), str(path)]
    device = tools.run(argv).text.strip()
    try:
        yield device
    finally:
        tools.run(["losetup", "--detach", device])


def lvm(tools: Tools, device: str, *argv: str) -> str:
    """One lvm2 command that sees this device alone. Raises ProgramError where it ends with an error."""
    config = (
        f'devices {{ filter=["a|^{device}$|", "r|.*|"] use_devicesfile=0 scan=["/dev"] '
        "obtain_device_list_from_udev=0 multipath_component_detection=0 md_component_detection=0 } "
        'backup { backup=0 archive=0 } global { locking_type=1 use_lvmpolld=0 } log { file="" }'
    )
    words = ["lvm", argv[0], "--driverloaded", "n", "--config", config, *argv[1:]]
    return tools.run(words, env={"LVM_SUPPRESS_FD_WARNINGS": "1"}).text


def logical_volumes(tools: Tools, path: Path, start: int, size: int) -> dict[str, dict[str, Any]]:
    """The logical volumes by name, as `lvs` reports them, after `vgck` found nothing wrong."""
    with loop_device(tools, path, start, size) as device:
        lvm(tools, device, "vgck")
        report = json.loads(lvm(tools, device, "lvs", "--reportformat", "json", "-o", FIELDS))
    rows: list[dict[str, Any]] = report["report"][0]["lv"]
    return {row["lv_name"]: row for row in rows}
