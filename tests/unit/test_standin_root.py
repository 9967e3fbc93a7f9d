"""Is the stand-in's root made in memory only where there is room for it, and programs may be run there?"""

import os
from pathlib import Path

import pytest

from builder.standin import root

MEMINFO = "MemTotal:       99999999 kB\nMemAvailable:   {} kB\n"
BLOCK = 4096


@pytest.mark.parametrize(
    ("available", "free", "flags", "there", "chosen"),
    [
        (root.ROOM, root.ROOM, 0, True, True),
        (root.ROOM, root.ROOM // 2, os.ST_NODEV | os.ST_NOSUID, True, True),  # as Debian mounts it
        (root.ROOM - 1024, root.ROOM, 0, True, False),
        (root.ROOM, root.ROOM // 2 - BLOCK, 0, True, False),
        (root.ROOM, root.ROOM, os.ST_NOEXEC, True, False),
        (root.ROOM, root.ROOM, 0, False, False),
    ],
)
def test_the_root_is_made_in_memory_where_there_is_plenty(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    available: int,
    free: int,
    flags: int,
    there: bool,
    chosen: bool,
) -> None:
    memory, said = tmp_path / "memory", tmp_path / "meminfo"
    if there:
        memory.mkdir()
    said.write_text(MEMINFO.format(available >> 10))
    mounted = os.statvfs_result((BLOCK, BLOCK, 0, 0, free // BLOCK, 0, 0, 0, flags, 255))
    monkeypatch.setattr(root, "MEMORY", memory)
    monkeypatch.setattr(root, "MEMINFO", said)
    monkeypatch.setattr(root.os, "statvfs", lambda _: mounted)
    assert root.workplace() == ({"TMPDIR": os.fspath(memory)} if chosen else {})
