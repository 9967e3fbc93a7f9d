"""How does the prober get into an environment as one file?

As a zip archive that Python runs (zipapp): of a few modules, small enough for one command line.
"""

import base64
import io
import json
import shlex
import zipfile
from importlib import resources
from typing import Any

PLACE = "/run/seatsmith-prober"
MAIN = "import sys\nfrom probe.main import main\nsys.exit(main(sys.argv))\n"
EPOCH = (1980, 1, 1, 0, 0, 0)


def packed() -> bytes:
    """The package ``probe`` as a zipapp; always the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", EPOCH), MAIN)
        folder = resources.files("builder.isolation.probe")
        for source in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if source.name.endswith(".py"):
                name = zipfile.ZipInfo(f"probe/{source.name}", EPOCH)
                archive.writestr(name, source.read_text(encoding="utf-8"), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def unpack_command() -> str:
    """A command that leaves the prober at PLACE."""
    return f"base64 -d >{PLACE} <<<{base64.b64encode(packed()).decode()}"


def command(what: str, given: dict[str, Any] | None = None) -> str:
    """The command line that starts it there."""
    words = ["python3", "-I", "-B", PLACE, what]
    if given is not None:
        words.append(base64.b64encode(json.dumps(given).encode()).decode())
    return shlex.join(words)
