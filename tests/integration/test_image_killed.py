"""Is `kill -9` at any step of a build made good by the next run, and is there always a whole result?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.files import file_digest, remove_tree
from builder.outputs.checksums import parse_checksums
from builder.tools import Tools
from tests.support.tinyproject import PROFILE, TinyProject, make_project

# seatsmith, which kills itself right before it does the first thing that matches (sys.addaudithook)
DIES = """\
import os, re, signal, sys
def hook(event, words):
    if event in KINDS and re.search(pattern, f"{event} {words}"):
        os.kill(os.getpid(), signal.SIGKILL)
KINDS = {"os.rename", "os.link", "subprocess.Popen", "ctypes.dlsym", "os.mkdir"}
pattern = sys.argv.pop(1)
sys.addaudithook(hook)
from builder.__main__ import main
main()
"""
pytestmark = pytest.mark.long
STEPS = {
    "asking pacman": r"Popen.*'pacman'.*--refresh",
    "resolving": r"Popen.*'pacman'.*--print",
    "pinning a signature": r"rename.*/store/../\.",
    "writing the lock": r"rename.*tiny\.standin\.lock",
    "taking a package into the store": r"rename.*/store/[0-9a-f]{64}\.part",
    "laying out packages": r"link .*/work/tiny\.image/",
    "starting mkosi": r"Popen.*'mkosi'.*'build'",
    "in the middle of mkosi": "",
    "taking mkosi's image": r"rename.*/out/tiny\.tar\.zst",
    "packing the host bundle": r"rename.*\.host\.tar\.zst",
    "finishing the image": r"rename.*/images/tiny/\.[^/]*\.part/[^/]*',",
    "writing the papers": r"rename.*/dist/\.tiny\.[^/]*\.part/tiny/.*SHA256SUMS",
    "swapping the results": r"dlsym.*renameat2",
    "keeping the rendering": r"mkdir.*/dist/\.tiny\.rendered\.",
    "noting what was made": r"rename.*/state/",
}


@pytest.fixture(scope="module")
def tiny(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyProject]:
    """A project with a result, and a profile that has changed since."""
    place = tmp_path_factory.mktemp("killed")
    tiny = make_project(place / "checkout", place / "cache", tools)
    tiny.write_profile(PROFILE + "  remove: [nano]\n")
    made = tiny.run("image", "tiny")
    assert made.code == 0, made.err
    tiny.write_profile()
    yield tiny
    remove_tree(place)


def processes_of(tiny: TinyProject) -> list[str]:
    """Command lines that name something in the project's cache."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes()
        except OSError:
            continue
        if os.fsencode(tiny.caches) in words:
            found.append(words.decode(errors="replace"))
    return found


def killed_at(tiny: TinyProject, pattern: str) -> None:
    """Run ``seatsmith image tiny`` until there; without a pattern, until mkosi is at work."""
    words = [sys.executable, "-c", DIES, pattern or "^never$", "image", "tiny"]
    with subprocess.Popen(
        words, cwd=tiny.root, env=tiny.env(), stderr=subprocess.PIPE, text=True
    ) as process:
        workspace = tiny.project.cache / "work/tiny.image/workspace"
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if not pattern and list(workspace.glob("*")):
                process.kill()
            time.sleep(0.02)
        process.kill()
        _, err = process.communicate()
    assert process.returncode == -signal.SIGKILL, f"it came to its end: {err}"


def whole_result(tiny: TinyProject) -> dict[str, str]:
    """Digests of dist/tiny, which has to be exactly what its checksums name."""
    found = {path.name: file_digest(path) for path in tiny.dist().iterdir()}
    text = (tiny.dist() / "SHA256SUMS").read_bytes()
    assert parse_checksums(text) == {k: v for k, v in found.items() if k != "SHA256SUMS"}
    return found


def test_a_build_killed_at_any_step_leaves_a_whole_result_and_is_made_good_by_the_next(
    tiny: TinyProject,
) -> None:
    earlier = whole_result(tiny)
    assert '"nano"' not in (tiny.dist() / "manifest.json").read_text()
    for step, pattern in STEPS.items():
        killed_at(tiny, pattern)
        swapped = list(STEPS).index(step) > list(STEPS).index("swapping the results")
        assert (whole_result(tiny) != earlier) == swapped, step
    made = tiny.run("image", "tiny")
    assert made.code == 0, made.err
    assert '"nano"' in (tiny.dist() / "manifest.json").read_text()
    assert whole_result(tiny) != earlier
    assert tiny.unfinished() == []
    assert processes_of(tiny) == []
    assert "nothing changed" in tiny.run("image", "tiny").out
