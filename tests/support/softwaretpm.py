"""What stands in for a TPM2 here? swtpm, on a socket, with a state that is thrown away."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.run import dying_with_us
from builder.tools import Tools


@contextmanager
def software_tpm(tools: Tools, place: Path) -> Iterator[str]:
    """A running TPM; its name for systemd-cryptenroll. ``place`` is a new directory with a short path."""
    place.mkdir()
    socket, control = place / "tpm", place / "tpm.ctrl"
    argv = [
        "swtpm",
        "socket",
        "--tpm2",
        "--tpmstate",
        f"dir={place}",
        "--flags",
        "not-need-init,startup-clear",
    ]
    argv += ["--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={control}"]
    process = subprocess.Popen(
        dying_with_us(tools.command(argv)), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            if control.exists():
                break
            assert process.poll() is None, "swtpm ended"
            time.sleep(0.1)
        yield f"swtpm:path={socket}"
    finally:
        process.kill()
        process.wait()
