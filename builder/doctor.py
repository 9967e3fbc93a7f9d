"""What can this machine do, and what follows from it for Seatsmith?"""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from builder.project import Project, cache_home
from builder.sources import probe
from builder.tools import Tools, tree_key
from builder.ui import size_text

CACHE_SPACE = 12 << 30  # bytes: tools tree, packages, mkosi's caches and two images
SEAT_SPACE = 4 << 30  # bytes: what the demo seat takes of its sparse 12 GiB
MEMORY = 4 << 30  # bytes: a guest of 2 GiB and mkosi beside it
SUBIDS = 65536


class Verdict(StrEnum):
    YES = "yes"
    LESS = "less"
    """It works, but slower or with less."""
    NO = "no"
    """A command that needs it will refuse."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what was seen, and what follows for the user."""

    what: str
    verdict: Verdict
    seen: str
    follows: str


def examine(project: Project) -> Iterator[Finding]:
    """Look at everything, one after the other; nothing is changed."""
    yield python()
    yield privileges()
    yield tools_tree()
    yield processors()
    yield memory()
    yield space("space for the cache", project.cache, CACHE_SPACE)
    yield space("space for results", project.dist, SEAT_SPACE)
    yield kvm(project)
    yield device_mapper()
    yield from mirrors()


def python() -> Finding:
    version = ".".join(str(n) for n in sys.version_info[:3])
    return Finding("Python", Verdict.YES, version, "3.11 or newer is needed")


def privileges() -> Finding:
    if os.geteuid() == 0:
        return Finding("privileges", Verdict.YES, "root", "the tools tree is built directly")
    user = Path(f"/proc/{os.getpid()}").owner()
    granted = sum(subids(Path(f"/etc/{name}"), user) >= SUBIDS for name in ("subuid", "subgid"))
    if granted < 2:
        return Finding(
            "privileges",
            Verdict.NO,
            f"{user} has no {SUBIDS} subordinate ids in /etc/subuid and /etc/subgid",
            f"run: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
        )
    if (refused := namespaces_refused()) is not None:
        return Finding("privileges", Verdict.NO, refused, "allow user namespaces, or run as root")
    return Finding(
        "privileges", Verdict.YES, f"{user}, with subordinate ids", "everything is built as this user"
    )


def subids(path: Path, user: str) -> int:
    """How many ids subuid(5) or subgid(5) grants a user."""
    if not path.exists():
        return 0
    lines = [line.split(":") for line in path.read_text().splitlines()]
    return sum(int(f[2]) for f in lines if len(f) == 3 and f[0] in (user, str(os.getuid())))


def namespaces_refused() -> str | None:
    for name, good in (
        ("kernel/unprivileged_userns_clone", "1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "0"),
    ):
        path = Path("/proc/sys") / name
        if path.exists() and path.read_text().strip() != good:
            return f"sysctl {name.replace('/', '.')} is not {good}"
    return None


def tools_tree() -> Finding:
    place = cache_home() / "tools" / tree_key()
    if (place / "usr").is_dir():
        return Finding("tools tree", Verdict.YES, str(place), "nothing to do")
    if shutil.which("mmdebstrap"):
        return Finding(
            "tools tree", Verdict.YES, "not built yet", "the first command that needs it takes a minute more"
        )
    return Finding(
        "tools tree", Verdict.NO, "mmdebstrap is missing", "run: sudo apt-get install mmdebstrap uidmap"
    )


def processors() -> Finding:
    count = len(os.sched_getaffinity(0))
    verdict = Verdict.YES if count > 1 else Verdict.LESS
    return Finding("processors", verdict, str(count), "packing and encrypting use all of them")


def memory() -> Finding:
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    verdict = Verdict.YES if size >= MEMORY else Verdict.LESS
    return Finding(
        "memory", verdict, size_text(size), f"{size_text(MEMORY)} let a boot test and a build run"
    )


def space(what: str, place: Path, wanted: int) -> Finding:
    existing = next(p for p in (place, *place.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    verdict = Verdict.YES if free >= wanted else Verdict.NO
    return Finding(what, verdict, f"{size_text(free)} free at {existing}", f"{size_text(wanted)} are enough")


def kvm(project: Project) -> Finding:
    """KVM counts only where a stock kernel runs under it; before the first image, where it can be opened."""
    from builder.machine.trial import kvm_problem

    slower = "boot tests run emulated (TCG), some ten times slower"
    kernels = sorted(project.dist.glob("*/*.efi"))
    place = cache_home() / "tools" / tree_key()
    if kernels and (place / "usr").is_dir():
        if (problem := kvm_problem(Tools(place), kernels[0])) is not None:
            return Finding("KVM", Verdict.LESS, problem, slower)
        return Finding("KVM", Verdict.YES, "a stock kernel runs under it", "boot tests run at full speed")
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return Finding("KVM", Verdict.LESS, f"/dev/kvm: {e.strerror}", slower)
    return Finding("KVM", Verdict.YES, "/dev/kvm opens", "it is tried for real once there is an image")


def device_mapper() -> Finding:
    follows = "seats are written offline, which needs neither root nor device-mapper"
    try:
        os.close(os.open("/dev/mapper/control", os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return Finding("device-mapper", Verdict.LESS, f"/dev/mapper/control: {e.strerror}", follows)
    return Finding(
        "device-mapper", Verdict.YES, "/dev/mapper/control opens", "provisioning may use lvm2 itself"
    )


def mirrors() -> Iterator[Finding]:
    from builder.distro import backend
    from builder.profile.model import Distribution

    for distribution in Distribution:
        url = backend(distribution).probe_url
        problem = probe(url)
        yield Finding(
            f"{distribution.value} mirror",
            Verdict.LESS if problem else Verdict.YES,
            f"{url}: {problem}" if problem else url,
            "images are made from the stand-in, for trying alone" if problem else "images are made from it",
        )
