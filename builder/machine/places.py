"""Where do a machine's sockets, overlays and logs live, so that nothing of them outlives us?"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Waits until the other end of its input is gone, which is so as soon as we are, however we end.
# QEMU, which dies with us too, may need a moment to let go.
REAPER = 'cat >/dev/null; rm -rf -- "$1" 2>/dev/null; sleep 1; rm -rf -- "$1"'


@contextlib.contextmanager
def private_directory(name: str) -> Iterator[Path]:
    """A directory that only we can enter; it is removed at the end, also when that is a SIGKILL."""
    folder = Path(tempfile.mkdtemp(prefix=f"seatsmith-{name}-"))  # mode 0700
    reading, writing = os.pipe()
    try:
        reaper = subprocess.Popen(
            ["/bin/sh", "-c", REAPER, "sh", folder],
            stdin=reading,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C ends our process group; this one has work left then
            cwd="/",
        )
    finally:
        os.close(reading)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        reaper.kill()
        reaper.wait()
        os.close(writing)
