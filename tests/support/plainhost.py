"""Which real host boots quickest? The image ``work`` on a disk, without volumes, desktop or containers."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import zstandard

from builder.files import CHUNK
from builder.machine.credentials import agent_credentials
from builder.machine.hardware import TEST_KERNEL_OPTIONS, DirectKernel, Hardware
from builder.machine.kernel import unpack_uki
from builder.machine.machine import Machine
from builder.machine.trial import choose_accelerator
from builder.outputs.record import image_files, main_image
from builder.project import Project, cache_home
from builder.tools import Tools
from builder.volume import ext4
from tests.support.bootedseat import put_work_image

SIZE = 3 << 30
SEED = "33333333-3333-4333-8333-333333333333"
BOOT = 600.0  # seconds
QUIET = "rw systemd.mask=lightdm.service systemd.show_status=0 quiet"


@contextmanager
def plain_host(place: Path, tools: Tools) -> Iterator[Machine]:
    """The host, booted, with a network card."""
    project, disk, folder = (
        Project(place / "host", cache_home(), place / "host/dist"),
        place / "disk",
        place / "boot",
    )
    put_work_image(project)
    result = project.dist / "work"
    image = main_image(image_files(result))

    def feed(out: BinaryIO) -> None:
        with image.open("rb") as f:
            shutil.copyfileobj(zstandard.ZstdDecompressor().stream_reader(f), out, CHUNK)

    ext4.make(tools, disk, SIZE, feed, uuid=SEED, hash_seed=SEED, label="host", epoch=int(time.time()))
    (uki,) = result.glob("*.efi")
    folder.mkdir()
    kernel, initrd, own = unpack_uki(uki, folder)
    hardware = Hardware(
        disk=disk,
        boot=DirectKernel(kernel, initrd, f"{own} root=/dev/vda {QUIET} {TEST_KERNEL_OPTIONS}"),
        accelerator=choose_accelerator(tools, uki),
        credentials=tuple(agent_credentials()),
        network=True,
    )
    try:
        with Machine(tools, hardware, name="plain-host") as machine:
            machine.start()
            machine.wait_for_agent(timeout=BOOT)
            yield machine
    finally:
        disk.unlink()
