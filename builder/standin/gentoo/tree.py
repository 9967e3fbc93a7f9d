"""What does the stand-in's ebuild tree hold? A profile like 23.0/systemd, a few ebuilds, Manifests."""

import hashlib
import io
import shutil
import sys
import tarfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from builder.run import run
from builder.standin.gentoo.packages import CHOST, EAPI
from builder.standin.names import rows

PROFILE = "default/linux/amd64/23.0/systemd"
REPOSITORY = "/var/db/repos/gentoo"
MAKE_DEFAULTS = f"""\
ARCH="amd64"
ACCEPT_KEYWORDS="amd64"
CHOST="{CHOST}"
CBUILD="{CHOST}"
CFLAGS="-O2 -pipe"
ABI="amd64"
DEFAULT_ABI="amd64"
LIBDIR_amd64="lib64"
ELIBC="glibc"
KERNEL="linux"
USE="systemd"
USE_EXPAND="ELIBC KERNEL"
USE_EXPAND_HIDDEN="ELIBC KERNEL"
USE_EXPAND_IMPLICIT="ELIBC KERNEL"
USE_EXPAND_VALUES_ELIBC="glibc"
USE_EXPAND_VALUES_KERNEL="linux"
IUSE_IMPLICIT="prefix prefix-guest prefix-stack"
ACCEPT_LICENSE="* -@EULA"
CONFIG_PROTECT="/etc"
FETCHCOMMAND="wget -O \\"\\${{DISTDIR}}/\\${{FILE}}\\" \\"\\${{URI}}\\""
RESUMECOMMAND="\\${{FETCHCOMMAND}}"
"""


def write_tree(place: Path, categories: Iterable[str], distfiles: Path, timestamp: int) -> None:
    """Write the tree into the new directory ``place`` (PMS 4 and 5: repository layout, profiles).

    What its ebuilds are built from goes into ``distfiles``, as mirrors keep it (GLEP 75). The top-level
    Manifest is left to be signed.
    """
    shutil.copytree(data("ebuilds"), place)
    found = {path.parent.parent.name for path in place.glob("*/*/*.ebuild")}
    files = {
        "metadata/layout.conf": "masters =\nthin-manifests = false\ncache-formats = md5-dict\n"
        "manifest-hashes = BLAKE2B SHA512\nmanifest-required-hashes = BLAKE2B\n",
        "profiles/repo_name": "gentoo\n",
        "profiles/eapi": f"{EAPI}\n",
        "profiles/arch.list": "amd64\n",
        "profiles/categories": "".join(f"{c}\n" for c in sorted({*categories, *found})),
        "profiles/profiles.desc": f"amd64 {PROFILE} stable\n",
        "profiles/info_pkgs": "",
        "profiles/base/eapi": f"{EAPI}\n",
        "profiles/base/make.defaults": MAKE_DEFAULTS,
        f"profiles/{PROFILE}/eapi": f"{EAPI}\n",
        f"profiles/{PROFILE}/parent": "../../../../../base\n",
        f"profiles/{PROFILE}/packages": "".join(f"*{row[0]}\n" for row in rows("gentoo/stage.txt")),
        "licenses/metapackage": "Nothing of its own.\n",
    }
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    known = write_distfiles(distfiles, timestamp)
    for ebuild in place.glob("*/*/*.ebuild"):
        lines = [line for name, line in sorted(known.items()) if name.startswith(ebuild.parent.name)]
        (ebuild.parent / "Manifest").write_text("".join(lines))
    words = [sys.executable, "-m", "gemato", "create", "--no-sign", "--timestamp", "--profile=old-ebuild"]
    run([*words, "--hashes=BLAKE2B SHA512", place])


def data(name: str) -> Path:
    return Path(str(resources.files("builder.standin").joinpath("data", "gentoo", name)))


def tree_data() -> list[tuple[str, str]]:
    """Path and text of all of the data that makes up ebuilds and distfiles, for keys."""
    tops = [data("ebuilds"), data("distfiles")]
    paths = sorted(path for top in tops for path in top.rglob("*") if path.is_file())
    return [(str(path.relative_to(tops[0].parent)), path.read_text()) for path in paths]


def write_distfiles(place: Path, timestamp: int) -> dict[str, str]:
    """Pack the distfiles; return the Manifest line of each by its name."""
    found = {}
    place.mkdir(parents=True)
    (place / "layout.conf").write_text("[structure]\n0=filename-hash BLAKE2B 8\n")
    for top in sorted(data("distfiles").iterdir()):
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path in sorted(top.rglob("*")):
                info = tarfile.TarInfo(f"{top.name}/{path.relative_to(top)}")
                info.size, info.mtime = path.stat().st_size, timestamp
                tar.addfile(info, io.BytesIO(path.read_bytes()))
        name, content = f"{top.name}.tar", made.getvalue()
        target = place / hashlib.blake2b(name.encode()).hexdigest()[:2] / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(content)
        digests = (
            f"BLAKE2B {hashlib.blake2b(content).hexdigest()} SHA512 {hashlib.sha512(content).hexdigest()}"
        )
        found[name] = f"DIST {name} {len(content)} {digests}\n"
    return found
