"""What is left when writing fails: by SIGKILL, a full disk, a bad sector, a damaged or foreign image?"""

import contextlib
import logging
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.errors import InputError, MachineError, TrustError
from builder.seat import write as writing
from builder.seat.inspect import Disk, compare, inspect_disk
from builder.seat.write import write_seat
from builder.volume import cipher, gpt, luks, lvm
from builder.volume.medium import Medium
from builder.volume.target import marked_as
from builder.volume.xts import Written
from tests.integration.seat.conftest import WrittenDisk
from tests.support import lvm2
from tests.support.gpgkeys import KeyMaker
from tests.support.writtenseat import SECRETS, SeatBench

MIB = 1 << 20


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Counting(Medium):
    """Counts what it writes; ``total`` survives it."""

    total = 0

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> Written:
        Counting.total += 1
        return super().write(offset, data)


class Flipping(Medium):
    """One bit of what is written at ``place`` or after it does not stay as it was."""

    place = 0
    done = False

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> Written:
        written = super().write(offset, data)
        if not Flipping.done and offset <= Flipping.place < offset + len(data):
            Flipping.done = True
            (was,) = os.pread(self.fd, 1, Flipping.place)
            os.pwrite(self.fd, bytes([was ^ 4]), Flipping.place)
        return written


def test_a_killed_run_leaves_nothing_that_looks_whole_and_the_next_one_cleans_up(
    seat_bench: SeatBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "tiny.img"
    monkeypatch.setattr(writing, "Medium", Counting)
    Counting.total = 0
    seat_bench.write(target)
    target.unlink()
    part = tmp_path / ".tiny.img.part"
    writes = Counting.total  # the last ones: PV label, backup table, entries, header, boot record
    for after in (writes // 2, writes - 4, writes - 1):
        assert seat_bench.write_elsewhere(target, "kill", str(after)) == -9
        assert not target.exists()
        with part.open("rb") as f:
            head = f.read(512)
        assert marked_as(head) == "tiny"
        with pytest.raises(InputError), Disk(part) as disk:
            gpt.decode(disk.read, disk.size)
        if after < writes - 5:
            with pytest.raises(InputError), Disk(part) as disk:
                lvm.decode(disk.at(seat_bench.plan().pv.start))
        with Disk(part) as disk:
            found = inspect_disk(disk, seat_bench.tools)
        assert found.problems == ["writing the seat tiny was interrupted: this is not complete"]
    seat_bench.write(target)
    assert leftovers(tmp_path) == {"tiny.img"}
    assert not list(seat_bench.project.cache.glob("*.scratch"))


def places(bench: SeatBench) -> dict[str, int]:
    work = bench.plan().volume("work")
    return {
        "a LUKS header": work.offset + 0x8000,
        "an encrypted file": work.environment.payload + 4096 * 3,  # type: ignore[union-attr]
        "the partition table": 1024,
    }


@pytest.mark.parametrize("what", ["an encrypted file", "a LUKS header", "the partition table"])
def test_a_sector_that_reads_back_otherwise_fails_the_run(
    what: str, seat_bench: SeatBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "Medium", Flipping)
    monkeypatch.setattr(Flipping, "place", places(seat_bench)[what])
    monkeypatch.setattr(Flipping, "done", False)
    with pytest.raises(MachineError, match="does not hold what was written: data at byte"):
        seat_bench.write(tmp_path / "tiny.img")
    assert Flipping.done
    assert leftovers(tmp_path) == set()


RUN_OUT = """
set -eu
mount -t tmpfs -o size=60m tmpfs "$1"
shift
exec "$@"
"""
PROBE = """
import os, sys
from pathlib import Path
from builder.errors import SeatsmithError
from builder.project import Project
from builder.tools import ensure_tools
from tests.support.gpgkeys import TestKey
from tests.support.writtenseat import SeatBench
root, public, target = map(Path, sys.argv[1:])
bench = SeatBench(Project(root, root / 'cache', root / 'dist'), ensure_tools(), TestKey('', Path(), public))
try: bench.write(target)
except SeatsmithError as e: print(e.exit_code, e.message)
print(os.listdir(target.parent))
"""


def said_without_privileges(bench: SeatBench, target: Path, *wrapped: str) -> str:
    """What a run says in a user namespace of its own, where nothing of the machine may be changed."""
    argv = ["unshare", "--map-root-user", "--mount", *wrapped, sys.executable, "-c", PROBE]
    argv += [os.fspath(p) for p in (bench.project.root, bench.key.public, target)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout, done.stderr
    return done.stdout.rstrip()


def test_a_full_disk_is_named_and_nothing_is_left(seat_bench: SeatBench, tmp_path: Path) -> None:
    """In a mount namespace of its own, on a file system that is too small."""
    folder = tmp_path / "small"
    folder.mkdir()
    wrapped = ["sh", "-c", RUN_OUT, "sh", os.fspath(folder)]
    said = said_without_privileges(seat_bench, folder / "tiny.img", *wrapped)
    assert "No space left on device" in said
    assert said.endswith("[]")


@pytest.mark.parametrize("where", ["a file", "a disk"])
def test_an_image_that_is_larger_than_its_volume_is_refused_with_both_sizes(
    where: str, seat_bench: SeatBench, tmp_path: Path
) -> None:
    """The volume of ``work`` has 128 MiB, less its header. A disk keeps what it holds."""
    plan = seat_bench.plan()
    materials = seat_bench.materials(plan)
    large = tmp_path / "large.tar"
    with tarfile.open(large, "w") as tar, Path("/dev/urandom").open("rb") as noise:
        info = tarfile.TarInfo("./noise")
        info.size = 130 << 20
        tar.addfile(info, noise)
    images = dict(materials.images) | {"work": replace(materials.images["work"], tar=large)}
    disk = tmp_path / "disk"
    with disk.open("wb") as f:
        f.truncate(840 << 20)
        f.write(b"a thesis")
    before = disk.stat().st_blocks
    with contextlib.ExitStack() as stack:
        target = tmp_path / "tiny.img"
        if where == "a disk":
            target = Path(stack.enter_context(lvm2.loop_device(seat_bench.tools, disk, 0, 840 << 20)))
        with pytest.raises(InputError, match=r"tree for work has 130 MiB, .* its filesystem of 112 MiB"):
            write_seat(
                plan,
                replace(materials, images=images),
                target,
                tools=seat_bench.tools,
                scratch=tmp_path / "scratch",
                overwrite=True,
            )
    assert leftovers(tmp_path) == {"large.tar", "disk"}
    assert disk.stat().st_blocks == before
    with disk.open("rb") as f:
        assert f.read(MIB) == b"a thesis".ljust(MIB, b"\0")


def test_a_seat_is_written_without_privileges(seat_bench: SeatBench, tmp_path: Path) -> None:
    assert said_without_privileges(seat_bench, tmp_path / "tiny.img") == "['tiny.img']"
    with Disk(tmp_path / "tiny.img") as disk:
        found = inspect_disk(disk, seat_bench.tools)
    compare(found, seat_bench.plan())
    assert found.problems == []


def test_no_secret_is_in_an_argument_an_environment_or_the_log(
    seat_bench: SeatBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys: list[bytes] = []
    started: list[str] = []
    begin, popen = cipher.Sectors.__init__, subprocess.Popen

    def init(self: cipher.Sectors, key: bytes | bytearray, **how: Any) -> None:
        keys.append(bytes(key))
        begin(self, key, **how)

    class Watched(popen):  # type: ignore[misc,valid-type]
        def __init__(self, argv: list[str], **how: Any) -> None:
            started.append(
                "\n".join([*argv, *(f"{k}={v}" for k, v in (how.get("env") or os.environ).items())])
            )
            super().__init__(argv, **how)

    monkeypatch.setattr(cipher.Sectors, "__init__", init)
    monkeypatch.setattr(subprocess, "Popen", Watched)
    caplog.set_level(logging.DEBUG)
    report = seat_bench.write(tmp_path / "tiny.img", recovery=True)
    assert len(started) > 10
    assert any("luksFormat" in argv for argv in started)
    told = "\n".join([*started, caplog.text, repr(report.seconds)])
    assert len(set(keys)) >= 2
    secrets = [*SECRETS.values(), *(bytes(k) for k in report.recovery.values())]
    for secret in [*secrets, *(part.encode() for key in keys for part in (key.hex(), repr(key)[2:-1]))]:
        assert secret.decode() not in told


def test_an_image_that_was_tampered_with_is_refused_before_anything_is_written(
    seat_bench: SeatBench, tmp_path: Path
) -> None:
    image = next(p for p in (seat_bench.project.dist / "work").glob("*.tar.zst") if ".host." not in p.name)
    whole = image.read_bytes()
    try:
        for damaged in (whole[:-1], whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]):
            image.write_bytes(damaged)
            with pytest.raises(TrustError, match=image.name):
                seat_bench.write(tmp_path / "tiny.img")
    finally:
        image.write_bytes(whole)
    assert leftovers(tmp_path) == set()


def test_an_image_signed_by_somebody_else_is_refused_before_anything_is_written(
    seat_bench: SeatBench, tmp_path: Path, make_key: KeyMaker
) -> None:
    stranger = make_key("somebody")
    with pytest.raises(TrustError, match="not one of the trusted keys"):
        replace(seat_bench, key=stranger).write(tmp_path / "tiny.img")
    assert leftovers(tmp_path) == set()


def test_what_is_compared_with_another_plan_is_told_line_by_line(
    seat_bench: SeatBench, written: WrittenDisk
) -> None:
    seat = seat_bench.project.seats / "tiny.yaml"
    text = seat.read_text()
    try:
        seat.write_text(f"seed: other\n{text.replace('size: 128MiB', 'size: 132MiB')}")
        plan = seat_bench.plan()
    finally:
        seat.write_text(text)
    with Disk(written.path) as disk:
        found = inspect_disk(disk, seat_bench.tools)
    compare(found, plan)
    told = "\n".join(found.problems)
    assert "volume work, size: 134217728, planned: 138412032" in told
    assert "disk id" in told
    assert "volume private, offset on the disk" in told
    assert f"planned: {luks.CIPHER}" not in told
