"""What does the stand-in's ebuild tree hold? A profile like Gentoo's 23.0/systemd."""

from collections.abc import Iterable
from pathlib import Path

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


def write_tree(place: Path, categories: Iterable[str]) -> None:
    """Write the tree into the new directory ``place`` (PMS 4 and 5: repository layout, profiles)."""
    files = {
        "metadata/layout.conf": "masters =\nthin-manifests = true\ncache-formats = md5-dict\n"
        "manifest-hashes = BLAKE2B SHA512\nmanifest-required-hashes = BLAKE2B\n",
        "profiles/repo_name": "gentoo\n",
        "profiles/eapi": f"{EAPI}\n",
        "profiles/arch.list": "amd64\n",
        "profiles/categories": "".join(f"{c}\n" for c in sorted(set(categories))),
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
