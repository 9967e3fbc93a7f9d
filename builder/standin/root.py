"""Where does the stand-in's content come from? One Debian root, made by mmdebstrap, kept as a tar."""

import os
import re
import shlex
from pathlib import Path

from builder import ui
from builder.files import atomic_path, exclusive, json_digest
from builder.run import Arg, run
from builder.standin.names import data_text, wanted_packages
from builder.tools import mmdebstrap

SUITE = "trixie"  # Debian 13, stable
LAYOUT = 1  # raise when this module makes something else of the same inputs

# What an image does without; dpkg then does not unpack it in the first place.
EXCLUDED = (
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/doc/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*/*",
)
MEMORY, MEMINFO = Path("/dev/shm"), Path("/proc/meminfo")
ROOM = 8 << 30  # bytes of memory to spare before a root (2.5 GB) is made in it
ARCHIVES = "/var/cache/apt/archives"  # where apt of the root keeps .deb files


def root_key() -> str:
    return json_digest(
        {
            "suite": SUITE,
            "packages": sorted(wanted_packages()),
            "excluded": EXCLUDED,
            "customize": data_text("customize.sh"),
            "layout": LAYOUT,
        }
    )[:16]


def ensure_root(cache: Path) -> Path:
    """The root as an uncompressed tar below ``cache``, made first where it is missing.

    A tar and not a tree, so that owners, modes and capabilities survive where we are an ordinary user.
    Raises MachineError where mmdebstrap is missing, ProgramError where it fails.
    """
    tar = cache / "roots" / f"{root_key()}.tar"
    if not tar.is_file():
        with exclusive(tar.with_suffix(".lock"), "the stand-in's root", wait=True) as held:
            if not tar.is_file():
                build_root(tar, debs=cache / "debs", held=held)
    return tar


def build_root(tar: Path, *, debs: Path, held: int | None = None) -> None:
    """Make the root by mmdebstrap; .deb files stay in ``debs``, which makes the next root faster."""
    start = mmdebstrap("the stand-in")
    debs.mkdir(parents=True, exist_ok=True)
    root = os.geteuid() == 0
    fetch, keep = deb_hooks(debs, direct=root)
    with ui.current().step("Building the stand-in's Debian root (once)"), atomic_path(tar) as made:
        argv: list[Arg] = [
            *start,
            "--format=tar",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED),
            "--skip=download/empty,essential/unlink,output/dev,cleanup/apt/lists",
            f'--setup-hook=mkdir -p "$1{ARCHIVES}"',
            f"--setup-hook={fetch}",
            f"--customize-hook={data_text('customize.sh')}",
            f"--customize-hook={keep}",
            f"--include={','.join(wanted_packages())}",
            SUITE,
            made,
        ]
        run(argv, env=workplace() | os.environ, hint="are Debian's mirrors reachable from here?", held=held)


def workplace() -> dict[str, str]:
    """Where mmdebstrap unpacks: in memory if there is plenty, which takes three quarters of the time."""
    available = re.search(r"^MemAvailable: +(\d+) kB$", MEMINFO.read_text(), re.MULTILINE)
    if not MEMORY.is_dir() or not available or int(available[1]) << 10 < ROOM:
        return {}
    place = os.statvfs(MEMORY)
    usable = not place.f_flag & os.ST_NOEXEC and place.f_bavail * place.f_frsize >= ROOM // 2
    return {"TMPDIR": os.fspath(MEMORY)} if usable else {}


def deb_hooks(debs: Path, *, direct: bool) -> tuple[str, str]:
    """mmdebstrap's hooks that put our .deb files into the root, and take the root's out again.

    Copied ``direct``-ly where the hook runs as the caller; else through mmdebstrap, which runs hooks as a
    subuid of the caller that may not write here.
    """
    ours = shlex.quote(os.fspath(debs))
    if direct:
        copy = "find {} -maxdepth 1 -name '*.deb' -exec cp -n -t {} {{}} +"
        theirs = f'"$1{ARCHIVES}"'
        return copy.format(ours, theirs), copy.format(theirs, ours)
    return f"sync-in {ours} {ARCHIVES}", f"sync-out {ARCHIVES} {ours}"
