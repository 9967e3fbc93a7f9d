"""How does a page look in a browser? In Chromium: this machine's, else one of a Debian tree of its own."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from builder.files import exclusive, json_digest
from builder.project import cache_home
from builder.tools import SUITE, Tools, build_tree

NAMES = ("chromium", "chromium-headless-shell", "google-chrome")
PACKAGES = ["chromium-headless-shell", "fonts-dejavu-core", "mkosi"]  # mkosi-sandbox starts its programs
SECONDS = 90
OPTIONS = (
    "--headless",
    "--no-sandbox",  # the page is ours, and root may not use it
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # what has to be fetched is not there
)


def browser() -> list[str]:
    """The start of a command line that runs Chromium; where there is none it is fetched (100 MB, once)."""
    for name in NAMES:
        if shutil.which(name):
            return [name]
    key = json_digest({"suite": SUITE, "packages": PACKAGES})[:16]
    place = cache_home() / "tools" / f"browser-{key}"
    with exclusive(place.with_suffix(".lock"), "the browser's tree", wait=True) as held:
        if not (place / "usr").is_dir():
            build_tree(place, PACKAGES, "a tree with Chromium (once)", held=held)
        (place / "etc/hosts").touch()  # this machine's is mounted there
    return Tools(place).command(["chromium-headless-shell"])


def photograph(page: Path, picture: Path, *, width: int = 1200, height: int = 2400) -> Path:
    """Write as PNG what a person sees who opens a page."""
    with tempfile.TemporaryDirectory(prefix="seatsmith-browser-") as home:
        argv = [*browser(), *OPTIONS, f"--user-data-dir={home}", f"--window-size={width},{height}"]
        argv += [f"--screenshot={picture}", page.absolute().as_uri()]
        result = subprocess.run(
            argv, env={**os.environ, "HOME": home}, capture_output=True, text=True, timeout=SECONDS
        )
    assert picture.is_file(), result.stderr[-2000:]
    return picture
