"""How do tests watch, hold and wait for processes of ours?"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def children_in(place: Path) -> list[int]:
    """Processes whose command line names something below ``place``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(place) in words and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


@contextmanager
def stopped(process: subprocess.Popen[str]) -> Iterator[None]:
    """Hold a build where it is, so that it cannot be done before others have come to its lock."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)
