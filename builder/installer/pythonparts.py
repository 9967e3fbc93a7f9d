"""Which Python packages does Seatsmith need on the installer, and how do they get there? Pinned by the lock.

The installer's Python is another than ours, so its wheels are fetched for that version: by pip, each checked
against the digests in requirements.lock.
"""

import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import builder
from builder import ui
from builder.errors import InputError
from builder.files import atomic_path, exclusive, json_digest
from builder.project import Project
from builder.run import Arg, run
from builder.tools import Tools

NOT_THERE = {  # of builds and of boot tests alone
    *("cyclonedx-python-lib", "qemu-qmp"),
    *("numpy", "pillow", "pytest", "pytest-timeout", "pytest-xdist"),
}
PLATFORMS = (
    "manylinux_2_34_x86_64",
    "manylinux_2_28_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
)
LOCK = "requirements.lock"


def needed(version: str) -> list[str]:
    """The names of all packages that ours needs to provision, by the metadata of those installed here."""
    found: set[str] = set()
    todo = list(requirements("seatsmith", version))
    while todo:
        name = todo.pop()
        if name not in found | NOT_THERE:
            found.add(name)
            todo += requirements(name, version)
    return sorted(found)


def requirements(name: str, version: str) -> Iterator[str]:
    for text in metadata.requires(name) or []:
        wanted = Requirement(text)
        there = {"extra": "", "python_version": version, "python_full_version": f"{version}.0"}
        if wanted.marker is None or wanted.marker.evaluate(there):
            yield canonicalize_name(wanted.name)


def locked(lock: Path, names: list[str]) -> str:
    """The part of a lock that is about these packages. Raises InputError where one is not in it."""
    blocks: dict[str, str] = {}
    for block in re.findall(r"^[A-Za-z0-9].*(?:\n[ \t].*)*", lock.read_text(), re.MULTILINE):
        blocks[canonicalize_name(re.split(r"[=\[ ;]", block, maxsplit=1)[0])] = block
    if missing := [name for name in names if name not in blocks]:
        raise InputError(f"{lock} does not have {', '.join(missing)}", hint="write it anew")
    return "".join(f"{blocks[name]}\n" for name in names)


def python_packages(project: Project, version: str) -> Path:
    """A directory with everything that Seatsmith imports when it provisions, for Python ``version``."""
    text = locked(project.root / LOCK, needed(version))
    parent = project.cache / "installer"
    place = parent / f"python-{json_digest([text, version, PLATFORMS])[:16]}"
    parent.mkdir(parents=True, exist_ok=True)
    with exclusive(parent / "python.lock", "the installer's Python packages", wait=True):
        if not place.is_dir():
            with (
                ui.current().step(f"Fetching Python packages for Python {version}"),
                atomic_path(place) as made,
            ):
                made.mkdir()
                pins = made / "pins.txt"
                pins.write_text(text)
                argv: list[Arg] = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
                argv += ["--disable-pip-version-check", "--no-compile", "--require-hashes"]
                argv += ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
                argv += [f"--platform={p}" for p in PLATFORMS]
                run([*argv, "--target", made, "--requirement", pins], hint="is the package index reachable?")
                pins.unlink()
                shutil.rmtree(made / "bin", ignore_errors=True)
    return place


def lay_out(project: Project, version: str, dest: Path) -> None:
    """Put Seatsmith and what it imports into ``dest``."""
    clean = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(python_packages(project, version), dest, ignore=clean)
    shutil.copytree(Path(builder.__file__).parent, dest / "builder", symlinks=True, ignore=clean)


def compile_all(tools: Tools, tree: Path, version: str) -> None:
    """Add byte code below ``tree``, the picture of a root, where the tools' Python is of that version.

    Compiling takes seconds at every start otherwise; the code depends on the sources alone.
    """
    found = tools.run(["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).text.strip()
    if found != version:
        ui.current().say(f"  no byte code: the tools have Python {found}, the installer {version}")
        return
    argv: list[Arg] = ["python3", "-m", "compileall", "-q", "-q", "-j2", "-s", tree, "-p", "/"]
    tools.run([*argv, "--invalidation-mode", "unchecked-hash", tree], check=False)
