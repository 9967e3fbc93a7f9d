"""Where do the external programs come from, and how is one of them run?

All come from one Debian tree made by mmdebstrap, the *tools tree*, cached by the hash of its package list.
A program of the tree runs inside ``mkosi-sandbox`` (pure Python, part of mkosi), with the tree's /usr in
place of the host's and everything else of the host at its own path, so that arguments need no translation.
``SEATSMITH_TOOLS=host`` takes the host's own programs instead.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from builder import ui
from builder.errors import MachineError
from builder.files import atomic_path, exclusive, json_digest, write_json
from builder.project import cache_home
from builder.run import Arg, Result, run

SUITE = "trixie"  # Debian 13, stable
LAYOUT = 2  # raise when build_tree makes something else of the same packages
HOME = "/seatsmith-home"  # empty, and made anew for each run: /tmp/.gnupg could be anybody's
GNUPG_HOME = Path("/gnupg")
USR_LINKS = ("bin", "sbin", "lib", "lib64")
OWN_TOP_LEVEL = {"usr", *USR_LINKS, "lib32", "libx32", "etc", "proc"}  # not shared with the host


@dataclass(frozen=True)
class Tools:
    """The programs of one tools tree; ``root`` is None when the host's own are used."""

    root: Path | None

    def command(
        self, argv: Sequence[Arg], *, network: bool = True, options: Sequence[Arg] = ()
    ) -> list[str]:
        """The argument list that runs ``argv`` in the tree. ``options`` go to mkosi-sandbox(1)."""
        words = [os.fspath(a) for a in argv]
        if self.root is None:
            return words
        sandbox: list[Arg] = [sys.executable, "-SI", self.python_path / "mkosi/sandbox.py"]
        sandbox += ["--ro-bind", self.root / "usr", "/usr", "--ro-bind", self.root / "etc", "/etc"]
        for name in USR_LINKS:
            if (self.root / name).is_symlink():
                sandbox += ["--symlink", f"usr/{name}", f"/{name}"]
        for place in sorted(Path("/").iterdir()):
            if place.name not in OWN_TOP_LEVEL and place.is_dir() and not place.is_symlink():
                sandbox += ["--bind", place, place]
        sandbox += ["--bind", "/proc", "/proc", "--tmpfs", HOME]
        for name in ("resolv.conf", "passwd", "group", "hosts"):
            sandbox += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        if not network:
            sandbox += ["--unshare-net"]
        sandbox += ["--chdir", Path.cwd(), *options, "--"]
        return [*(os.fspath(a) for a in sandbox), *words]

    def run(
        self,
        argv: Sequence[Arg],
        *,
        env: Mapping[str, str] | None = None,
        network: bool = True,
        options: Sequence[Arg] = (),
        **how: Any,
    ) -> Result:
        """Run a program of the tree to its end; see builder.run.run for ``how`` and the errors."""
        clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": HOME, **(env or {})}
        return run(self.command(argv, network=network, options=options), env=clean, **how)

    def gnupg_home(self, home: Path) -> tuple[Path, list[Arg]]:
        """Where programs of the tree find the GnuPG home ``home``, and the ``options`` that put it there.

        Its agent listens on a socket in it, and a socket's path has at most 107 bytes (unix(7)).
        """
        return (home, []) if self.root is None else (GNUPG_HOME, ["--bind", home, GNUPG_HOME])

    @property
    def python_path(self) -> Path:
        """Where mkosi's Python package is."""
        return (self.root or Path("/")) / "usr/lib/python3/dist-packages"

    def mkosi(self, argv: Sequence[Arg]) -> tuple[list[str], dict[str, str]]:
        """Argument list and extra environment that run the tree's mkosi on our own Python."""
        if self.root is None:
            return ["mkosi", *(os.fspath(a) for a in argv)], {}
        words = [sys.executable, "-m", "mkosi", f"--tools-tree={self.root}", *(os.fspath(a) for a in argv)]
        return words, {"PYTHONPATH": os.fspath(self.python_path)}

    def versions(self) -> dict[str, str]:
        """Package versions of the tree: what a build's provenance names. Empty for the host's own tools."""
        if self.root is None:
            return {}
        status = (self.root / "var/lib/dpkg/status").read_text(errors="replace")
        found = {}
        for paragraph in status.split("\n\n"):
            fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line)
            if "Package" in fields and "Version" in fields:
                found[fields["Package"]] = fields["Version"]
        return found


@cache
def package_list() -> list[str]:
    text = resources.files("builder").joinpath("tools-packages.txt").read_text()
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def tree_key() -> str:
    return json_digest({"suite": SUITE, "packages": package_list(), "layout": LAYOUT})[:16]


def ensure_tools() -> Tools:
    """The tools tree, built first where it is missing (about a minute, 0.7 GB).

    Raises MachineError where mmdebstrap is missing or fails.
    """
    if os.environ.get("SEATSMITH_TOOLS") == "host":
        return Tools(None)
    place = cache_home() / "tools" / tree_key()
    if not (place / "usr").is_dir():
        with exclusive(place.with_suffix(".lock"), "the tools tree", wait=True) as held:
            if not (place / "usr").is_dir():
                build_tree(place, package_list(), "the tools tree (Debian 13, 0.7 GB, once)", held=held)
    return Tools(place)


def mmdebstrap(what: str) -> list[Arg]:
    """The start of a command line: as root directly, else in a user namespace with the caller's subuids.

    Raises MachineError where mmdebstrap, which makes ``what``, is missing.
    """
    program = shutil.which("mmdebstrap")
    if program is None:
        raise MachineError(
            f"mmdebstrap is not installed, and {what} is made by it",
            hint="run: sudo apt-get install mmdebstrap uidmap",
        )
    # what it mounts must go with it, however it ends: in a place that the next run removes first
    apart: list[Arg] = ["unshare", "--mount", "--"]
    return [
        *(apart if os.geteuid() == 0 else []),
        program,
        "--variant=minbase",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--aptopt=APT::Install-Recommends false",
        "--aptopt=Acquire::Retries 3",
        "--dpkgopt=force-unsafe-io",
    ]


def build_tree(place: Path, packages: Sequence[str], what: str, *, held: int | None = None) -> None:
    """Make a tree by mmdebstrap; ``held`` is as for builder.run.run."""
    start = mmdebstrap("the tools tree")
    root = os.geteuid() == 0
    with ui.current().step(f"Building {what}"), atomic_path(place) as made:
        made.mkdir()
        # as root mmdebstrap fills the directory; else files would belong to subuids of the caller, so they
        # come as an archive that we unpack, and the caller can remove them
        target = made if root else made / "tree.tar"
        argv: list[Arg] = [
            *start,
            f"--format={'directory' if root else 'tar'}",
            *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "info", "locale", "man")),
            f"--include={','.join(packages)}",
            SUITE,
            target,
        ]
        run(argv, env=dict(os.environ), hint="are Debian's mirrors reachable from here?", held=held)
        if root:
            shutil.rmtree(made / "dev")
        else:
            run(["tar", "-x", "-C", made, "--no-same-owner", "--exclude=./dev", "-f", target])
            target.unlink()
        shutil.rmtree(made / "var/cache/apt", ignore_errors=True)
        write_json(made / "seatsmith.json", {"suite": SUITE, "packages": [*packages]})
