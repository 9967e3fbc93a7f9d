"""Does a Linux kernel open a written disk by device-mapper, find every file, and change its volumes?"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.outputs.gpg import temporary_keyring
from tests.support.bootedseat import BootedSeat
from tests.support.gpgkeys import KeyMaker
from tests.support.guestseat import check_said, digests_of, what_a_kernel_says
from tests.support.tinyseat import tiny_project
from tests.support.writtenseat import SEAT, SeatBench


@pytest.fixture
def bench(booted: BootedSeat, tmp_path: Path) -> Iterator[SeatBench]:
    with temporary_keyring(booted.tools) as ring:
        key = KeyMaker(ring, tmp_path)("release")
        yield SeatBench(tiny_project(tmp_path / "project", key, seat=SEAT), booted.tools, key)


def test_a_kernel_opens_both_volumes_compares_every_file_and_lvm2_extends_them(
    booted: BootedSeat, bench: SeatBench, tmp_path: Path
) -> None:
    disk = tmp_path / "tiny.img"
    bench.write(disk)
    fast = booted.subject.fast
    said = what_a_kernel_says(
        bench,
        disk,
        kernel=fast.kernel,
        initrd=fast.initrd,
        accelerator=booted.subject.accelerator,
        scratch=tmp_path,
    )
    images = bench.materials(bench.plan()).images
    check_said(bench, said, {name: len(digests_of(image.tar)) for name, image in images.items()})
