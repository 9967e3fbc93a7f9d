"""What is laid over the installer's root? Units, Seatsmith itself, and the seat with the keys to trust.

All of it becomes part of the one signed UKI: who wrote to the stick cannot change which keys are trusted.
"""

import shutil
import tarfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from uuid import UUID

from builder.errors import InputError
from builder.files import file_digest, write_json
from builder.installer import pythonparts
from builder.installer.answers import Answers
from builder.outputs.checksums import SUMS
from builder.project import Project
from builder.tools import Tools

CODE = "usr/lib/seatsmith/python"
CHECKOUT = "usr/lib/seatsmith/checkout"
ANSWERS = "answers.yaml"
PINS = "images.json"  # by profile: the digest of the checksums of the image on the stick
STICK, WORK = "/run/seatsmith/stick", "/run/seatsmith/work"
SYSTEM = "etc/systemd/system"
UNITS = "/usr/lib/systemd/system"
WANTED = f"{SYSTEM}/multi-user.target.wants"
LINKS = {
    "init": "usr/lib/systemd/systemd",
    f"{SYSTEM}/default.target": f"{UNITS}/multi-user.target",
    f"{WANTED}/seatsmith-installer.service": "../seatsmith-installer.service",
    f"{WANTED}/systemd-networkd.service": f"{UNITS}/systemd-networkd.service",
    f"{WANTED}/systemd-resolved.service": f"{UNITS}/systemd-resolved.service",
}
MASKED = (
    "getty@tty1.service",
    "systemd-firstboot.service",
    "systemd-homed-firstboot.service",
    "systemd-networkd-wait-online.service",
    "lvm2-monitor.service",
)
NO_GENERATORS = ("systemd-getty-generator", "systemd-gpt-auto-generator")
ENVIRONMENT = f"""\
PYTHONPATH=/{CODE}
PYTHONDONTWRITEBYTECODE=1
PYTHONUTF8=1
SEATSMITH_ROOT=/{CHECKOUT}
SEATSMITH_DIST={STICK}/dist
SEATSMITH_TOOLS=host
XDG_CACHE_HOME={WORK}/cache
XDG_STATE_HOME={WORK}/state
HOME={WORK}
LC_ALL=C.UTF-8
TERM=dumb
"""
UNWANTED = (
    "boot",
    "efi",
    "usr/include",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/share/fonts",
    "usr/share/icons",
    "usr/share/perl5",
    "var/cache",
    "var/lib/pacman",
    "etc/fstab",
    "etc/machine-id",
)
UNWANTED_MODULES = ("sound", "drivers/gpu", "drivers/media", "drivers/net/wireless", "drivers/infiniband")
UNWANTED_PYTHON = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3")


def unwanted(name: str) -> bool:
    """Whether a path of the image is of no use to an installer, and only takes memory."""
    if any(name == place or name.startswith(f"{place}/") for place in UNWANTED):
        return True
    parts = name.split("/")
    if name.startswith("usr/lib/modules/") and len(parts) > 4:
        inside = "/".join(parts[5:])
        if parts[4] == "vmlinuz" or any(inside.startswith(f"{m}/") for m in UNWANTED_MODULES):
            return True
    return name.startswith("usr/lib/python3.") and len(parts) > 3 and parts[3] in UNWANTED_PYTHON


def python_version(image: Path) -> str:
    """The version of the Python in an image. Raises InputError where it has none."""
    with tarfile.open(image, "r:") as tar:
        for member in tar:
            parts = member.name.removeprefix("./").split("/")
            if parts[:2] == ["usr", "lib"] and len(parts) == 4 and parts[3] == "os.py":
                return parts[2].removeprefix("python")
    raise InputError(f"{image} has no Python", hint="the installer's profile needs the package python")


def make_overlay(
    project: Project,
    seat: str,
    image: Path,
    dest: Path,
    *,
    stick: UUID,
    results: Mapping[str, Path],
    keys: Sequence[Path],
    answers: Answers | None,
    tools: Tools,
) -> None:
    """Write everything that is laid over ``image`` (its tar, not compressed) into ``dest``."""
    shutil.copytree(Path(str(resources.files("builder.installer").joinpath("tree"))), dest)
    mount = dest / SYSTEM / "run-seatsmith-stick.mount"
    mount.write_text(mount.read_text().replace("@STICK@", str(stick)))
    for name, target in LINKS.items():
        link(dest / name, target)
    for unit in MASKED:
        link(dest / SYSTEM / unit, "/dev/null")
    for generator in NO_GENERATORS:
        link(dest / "etc/systemd/system-generators" / generator, "/dev/null")
    (dest / "etc/machine-id").write_text("")
    make_checkout(project, seat, dest / CHECKOUT, results=results, keys=keys, answers=answers)
    (dest / "usr/lib/seatsmith/environment").write_text(ENVIRONMENT)
    version = python_version(image)
    pythonparts.lay_out(project, version, dest / CODE)
    standard = f"usr/lib/python{version}"
    extract(image, standard, dest)
    pythonparts.compile_all(tools, dest, version)


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def make_checkout(
    project: Project,
    seat: str,
    dest: Path,
    *,
    results: Mapping[str, Path],
    keys: Sequence[Path],
    answers: Answers | None,
) -> None:
    """The parts of this checkout that provisioning one seat reads."""
    (dest / "profiles/seats").mkdir(parents=True)
    (dest / "mkosi.conf").touch()
    for path in project.profiles.glob("*.yaml"):
        shutil.copyfile(path, dest / "profiles" / path.name)
    shutil.copyfile(project.seats / f"{seat}.yaml", dest / f"profiles/seats/{seat}.yaml")
    (dest / "ci/keys").mkdir(parents=True)
    for key in keys:
        for path in [key] if key.is_file() else sorted(p for p in key.iterdir() if p.is_file()):
            shutil.copyfile(path, dest / "ci/keys" / path.name)
    if results:
        write_json(dest / PINS, {name: file_digest(place / SUMS) for name, place in results.items()})
    if answers is not None:
        (dest / ANSWERS).write_text(answers.model_dump_json(exclude_none=True))


def extract(image: Path, folder: str, dest: Path) -> None:
    """Unpack the Python files of a folder of the image, less those that are unwanted."""
    with tarfile.open(image, "r:") as tar:
        for member in tar:
            name = member.name.removeprefix("./").strip("/")
            if not (member.isreg() and name.startswith(f"{folder}/") and name.endswith(".py")) or unwanted(
                name
            ):
                continue
            source = tar.extractfile(member)
            if source is not None:
                (dest / name).parent.mkdir(parents=True, exist_ok=True)
                (dest / name).write_bytes(source.read())
