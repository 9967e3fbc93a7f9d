"""How is a written seat looked at by a real kernel: device-mapper, lvm2, dm-crypt, ext4?"""

import re
from collections.abc import Mapping
from pathlib import Path

from builder.machine.hardware import Accelerator
from tests.support.guest import CHANGE, COMPARE, OPEN, ask_guest, sums
from tests.support.writtenseat import SECRETS, SeatBench, members_of

DIGEST = re.compile(r"[0-9a-f]{64}")


def digests_of(image: Path) -> dict[str, str]:
    """Path and SHA-256 of each file that the image brings into its volume."""
    return {name: found[4] for name, found in members_of(image).items() if DIGEST.fullmatch(found[4])}


def what_a_kernel_says(
    bench: SeatBench, disk: Path, *, kernel: Path, initrd: Path, accelerator: Accelerator, scratch: Path
) -> str:
    """Activate the group, open both volumes, compare every file, then extend and create volumes."""
    plan = bench.plan()
    script = OPEN.format(group=plan.group.name)
    files: dict[str, bytes] = {}
    for name, image in bench.materials(plan).images.items():
        files[f"{name}.sums"] = sums(digests_of(image.tar))
        files[f"{name}.key"] = SECRETS[name]
        script += COMPARE.format(name=name, mapper=f"{plan.group.name}-{name}")
    script += CHANGE.format(group=plan.group.name, name="work")
    return ask_guest(
        bench.tools,
        disk,
        script,
        files,
        kernel=kernel,
        initrd=initrd,
        accelerator=accelerator,
        scratch=scratch,
    )


def check_said(bench: SeatBench, said: str, files: Mapping[str, int]) -> None:
    """Raise AssertionError, with all that was said, where the kernel found anything to be otherwise."""
    wanted = [
        *(f"{name}: {count} files agree" for name, count in files.items()),
        *(f"{name}: e2fsck finds no fault" for name in files),
        *("work: extended", "work: written to", "extra: created", "vgck finds no fault"),
        *(f":{v.first_extent}-{v.first_extent + v.extents - 1}" for v in bench.plan().volumes),
    ]
    missing = [line for line in wanted if line not in said]
    assert not missing, f"{missing}\n{said}"
