"""Where does the stand-in's portage come from? The wheel that its authors publish, laid out system-wide.

The wheel is built to live in a virtual environment, as a Gentoo Prefix. What its build system decides by two
settings is set here to what a system-wide installation has: installation.py's type, and const.py's paths.
"""

import re
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

from builder.errors import ToolError
from builder.files import atomic_path
from builder.run import run
from builder.standin.gentoo.packages import GentooPackage, link_entry
from builder.standin.names import data_text
from builder.standin.slices import Entry, with_content

BASE = "usr/lib/portage"
MODULES = "usr/lib/python3/dist-packages"
COMMANDS = ("ebuild", "egencache", "emaint", "emerge", "env-update", "gpkg-sign", "portageq", "quickpkg")
DATA = {"lib/portage": BASE, "share/portage": "usr/share/portage", "etc": "etc"}
SYSUSERS = """\
# The accounts that portage drops to, with the numbers that Gentoo gives them
g portage 250
u portage 250:250 "portage" /var/lib/portage/home
"""
DEPENDS = (
    "app-arch/bzip2",
    "app-arch/gzip",
    "app-arch/tar",
    "app-arch/xz-utils",
    "app-arch/zstd",
    "app-crypt/gnupg",
    "app-shells/bash",
    "dev-lang/python",
    "net-misc/rsync",
    "net-misc/wget",
    "sys-apps/coreutils",
    "sys-apps/file",
    "sys-apps/findutils",
    "sys-apps/grep",
    "sys-apps/sed",
    "sys-apps/systemd",
)


def ensure_wheel(cache: Path) -> Path:
    """The wheel below ``cache``, fetched by pip and checked by its digest where it is missing."""
    pinned = data_text("gentoo/portage.txt")
    version = re.match(r"portage==(\S+)", pinned)
    if version is None:
        raise ToolError("data/gentoo/portage.txt names no version", hint="this is a defect of Seatsmith")
    wheel = cache / f"portage-{version[1]}-py3-none-any.whl"
    if not wheel.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with atomic_path(cache / "portage.fetch") as made:
            made.mkdir()
            (made / "pinned.txt").write_text(pinned)
            argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            argv += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(made)]
            run([*argv, "--requirement", made / "pinned.txt"], hint="is the Python package index reachable?")
            (made / wheel.name).rename(wheel)
    return wheel


def portage_packages(wheel: Path, timestamp: int) -> list[GentooPackage]:
    """sys-apps/portage and dev-lang/python-exec, which no slice gives."""
    entries = {e.path: e for e in [*wheel_entries(wheel, timestamp), *command_links(timestamp)]}
    entries["usr/lib/sysusers.d/portage.conf"] = file_entry(
        "usr/lib/sysusers.d/portage.conf", SYSUSERS.encode(), timestamp
    )
    add_parents(entries, timestamp)
    version = wheel.name.split("-")[1]
    python = {"usr/bin/python": link_entry("usr/bin/python", "python3", timestamp)}
    add_parents(python, timestamp)
    return [
        GentooPackage(
            category="sys-apps",
            name="portage",
            version=version,
            description="The package manager of Gentoo",
            homepage="https://wiki.gentoo.org/wiki/Project:Portage",
            depends=DEPENDS,
            entries=tuple(entries[path] for path in sorted(entries)),
            phases={"pkg_postinst": '    systemd-sysusers --root="${ROOT:-/}" || true;\n'},
        ),
        GentooPackage(
            category="dev-lang",
            name="python-exec",
            version="2.4.10",
            description="Which Python answers to the name python",
            homepage="https://github.com/projg2/python-exec",
            entries=tuple(python[path] for path in sorted(python)),
        ),
    ]


def wheel_entries(wheel: Path, timestamp: int) -> list[Entry]:
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if (path := installed_path(name)) is not None:
                content = system_wide(name, archive.read(name))
                found.append(
                    file_entry(path, content, timestamp, executable=path.startswith(f"{BASE}/bin/"))
                )
    return found


def installed_path(member: str) -> str | None:
    """Where a member of the wheel belongs on a system; None for what is not installed."""
    if member.endswith("/") or member.startswith("portage/tests/"):
        return None
    if member.startswith(("portage/", "_emerge/")):
        return f"{MODULES}/{member}"
    top, _, rest = member.partition(".data/data/")
    if rest and "/" not in top:
        for source, target in DATA.items():
            if rest.startswith(f"{source}/"):
                return f"{target}/{rest.removeprefix(f'{source}/')}"
    return None


def system_wide(member: str, content: bytes) -> bytes:
    """A file's content, set to a system-wide installation. Raises ToolError where it is not as expected."""
    edits = {
        "portage/installation.py": ((b'"MODULE" ==', b'"SYSTEM" ==', 2),),
        "portage/const.py": (
            (b'PORTAGE_BASE_PATH = """"""', f'PORTAGE_BASE_PATH = "/{BASE}"'.encode(), 1),
            (b'PORTAGE_BIN_PATH = """"""', f'PORTAGE_BIN_PATH = "/{BASE}/bin"'.encode(), 1),
        ),
    }
    for old, new, times in edits.get(member, ()):
        if content.count(old) != times:
            raise ToolError(
                f"{member} of the portage wheel is not as expected: no {old.decode()}",
                hint="this is a defect of Seatsmith: its pinned version changed",
            )
        content = content.replace(old, new)
    return content


def command_links(timestamp: int) -> list[Entry]:
    return [link_entry(f"usr/bin/{name}", f"../lib/portage/bin/{name}", timestamp) for name in COMMANDS]


def file_entry(path: str, content: bytes, timestamp: int, *, executable: bool = False) -> Entry:
    info = tarfile.TarInfo(path)
    info.mtime, info.mode = timestamp, 0o755 if executable else 0o644
    return with_content(Entry(info), content)


def add_parents(entries: dict[str, Entry], timestamp: int) -> None:
    """Add the directories above all entries."""
    for path in list(entries):
        for parent in PurePosixPath(path).parents:
            if (name := parent.as_posix()) != "." and name not in entries:
                info = tarfile.TarInfo(name)
                info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, timestamp
                entries[name] = Entry(info)
