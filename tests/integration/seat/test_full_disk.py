"""Is it told apart which is full: the disk that a filesystem is made on, or the filesystem itself?"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.tools import Tools
from tests.support.writtenseat import CHECKOUT

RUN = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
MAKE = """
import io, os, sys, tarfile
from pathlib import Path
from builder.errors import SeatsmithError
from builder.tools import ensure_tools
from builder.volume import esp, ext4
place, what, size, file = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
noise = file.read_bytes()
def feed(pipe):
    with tarfile.open(fileobj=pipe, mode='w|') as tar:
        info = tarfile.TarInfo('./noise')
        info.size = len(noise)
        tar.addfile(info, io.BytesIO(noise))
try:
    if what == 'ext4':
        some = '0c5c0f5e-6f5b-4e2c-9c1f-2a3a8b1d7e11'
        ids = {'uuid': some, 'hash_seed': some}
        ext4.make(ensure_tools(), place / 'made', size, feed, **ids, label='work', epoch=0)
    else:
        esp.make(ensure_tools(), place / 'made', size, {'a': file, 'b': noise}, serial=1, label='E', epoch=0)
except SeatsmithError as e:
    print(e.exit_code, e.message)
"""
MIB = 1 << 20
CASES = {
    "the disk, by an environment": ("ext4", 128 * MIB, "30m", "6 cannot write {}: No space left on device"),
    "the disk, by the ESP": ("esp", 128 * MIB, "30m", "6 cannot write {}: No space left on device"),
    "the filesystem": (
        "ext4",
        48 * MIB,
        "300m",
        "3 the tree for work has 40.0 MiB, more than its filesystem of 48.0 MiB has room for",
    ),
    "the ESP": ("esp", 72 * MIB, "300m", "3 the ESP of 72.0 MiB is too small for 2 files of 80.0 MiB"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_full_is_named(case: str, tools: Tools, tmp_path: Path) -> None:
    """In namespaces of its own, on a file system in memory."""
    what, size, room, message = CASES[case]
    noise, place = tmp_path / "noise", tmp_path / "place"
    noise.write_bytes(os.urandom(40 * MIB))
    place.mkdir()
    argv: list[str | Path] = ["unshare", "--map-root-user", "--mount", "sh", "-c", RUN, "sh", room, place]
    argv += [sys.executable, "-c", MAKE, place, what, str(size), noise]
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == message.format(place / "made"), done.stderr
