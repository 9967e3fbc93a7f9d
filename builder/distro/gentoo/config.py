"""How is portage configured for a profile? The tree that becomes /etc/portage (portage(5))."""

import shutil
from pathlib import Path

from builder.errors import InputError
from builder.outputs.gpg import Keyring
from builder.profile import Profile
from builder.tools import Tools

REPOSITORY = "/var/db/repos/gentoo"
ARCH_PROFILE = "default/linux/amd64/23.0"
PROFILES = (f"{ARCH_PROFILE}/desktop/systemd", f"{ARCH_PROFILE}/systemd")  # the first that the tree has
PKGDIR = "/var/cache/binpkgs"
BINHOST = "/var/cache/binhost"
DISTDIR = "/var/cache/distfiles"
SIGNING = "/run/seatsmith-signing"  # a GnuPG home
SIGNER = "build@seatsmith.invalid"  # by name: a fingerprint would be another in each build's records
SIGNER_PARAMETERS = f"""\
%no-protection
Key-Type: eddsa
Key-Curve: ed25519
Key-Usage: sign
Name-Email: {SIGNER}
Expire-Date: 0
%commit
"""
# What portage would isolate, flush and log for a living system: mkosi's sandbox and image are neither
BUILD_FEATURES = (
    "-binpkg-logs -ebuild-locks -ipc-sandbox -merge-sync -merge-wait -mount-sandbox -multilib-strict "
    "-network-sandbox -news -pid-sandbox -qa-unresolved-soname-deps -sandbox -userfetch -userpriv "
    "-usersandbox -usersync binpkg-request-signature"
)


def write_portage(profile: Profile, place: Path, tree: Path) -> None:
    """Write /etc/portage of a profile into the new directory ``place``; ``tree`` is the ebuild tree."""
    gentoo = profile.gentoo
    found = [name for name in PROFILES if (tree / "profiles" / name).is_dir()]
    if not found:
        raise InputError(f"the ebuild tree has none of the profiles {', '.join(PROFILES)}")
    place.mkdir(parents=True)
    (place / "make.profile").symlink_to(f"../..{REPOSITORY}/profiles/{found[0]}")
    variables = {"USE": " ".join(gentoo.use), **gentoo.make_conf}
    lines = [f'{name}="{value}"' for name, value in sorted(variables.items()) if value]
    (place / "make.conf").write_text("".join(f"{line}\n" for line in lines))
    files = {
        "package.use": [f"{atom} {' '.join(flags)}" for atom, flags in gentoo.package_use.items()],
        "package.accept_keywords": [f"{atom} {' '.join(words)}" for atom, words in gentoo.keywords.items()],
        "package.mask": list(gentoo.masks),
        "package.unmask": list(gentoo.unmasks),
    }
    for name, rows in files.items():
        if rows:
            (place / name).mkdir()
            (place / name / "seatsmith").write_text("".join(f"{row}\n" for row in rows))
    for path in (place, *place.rglob("*")):
        if not path.is_symlink():  # the caller's umask is no input, and portage lets gpg run as nobody
            path.chmod(0o755 if path.is_dir() else 0o644)


def hold(place: Path, masks: str) -> None:
    """Mask what is newer than a binhost's packages, below /etc/portage/profile, which no image keeps."""
    (place / "profile").mkdir(exist_ok=True)
    (place / "profile/eapi").write_text("8\n")
    (place / "profile/package.mask").write_text(masks)


def build_environment() -> dict[str, str]:
    """What portage is told for our runs alone, and no image keeps."""
    return {
        "FEATURES": BUILD_FEATURES,
        "PKGDIR": PKGDIR,
        "DISTDIR": DISTDIR,
        "PORTAGE_TMPDIR": "/tmp",
        "MAKEOPTS": "-j1",  # portage writes down the number of processors for each package otherwise
        "PORTAGE_TRUST_HELPER": "true",
        "BINPKG_FORMAT": "gpkg",
    }


def signing_environment() -> dict[str, str]:
    """What portage is told beside that when it builds from source: to keep signed packages of it all."""
    return {
        "FEATURES": f"{BUILD_FEATURES} buildpkg binpkg-signing",
        "BINPKG_GPG_SIGNING_GPG_HOME": SIGNING,
        "BINPKG_GPG_SIGNING_KEY": SIGNER,
        "MAKEOPTS": "-j2",  # written down as well, so no number of this machine's
    }


def write_keyring(place: Path, keys: bytes, fingerprints: list[str], tools: Tools) -> None:
    """A GnuPG home that trusts the keys of these fingerprints alone, for binpkg-request-signature."""
    place.mkdir(mode=0o755)
    everything = place.with_name(f"{place.name}.all")
    everything.mkdir(mode=0o700)
    try:
        ring = Keyring(tools, everything, agent=False)
        ring.gpg(["--import"], stdin=keys)
        data = b"".join(ring.export(fingerprint) for fingerprint in sorted(set(fingerprints)))
    finally:
        shutil.rmtree(everything)
    ring = Keyring(tools, place, agent=False)
    ring.gpg(["--import"], stdin=data)
    ring.gpg(["--import-ownertrust"], stdin="".join(f"{f}:6:\n" for f in set(fingerprints)).encode())
    ring.gpg(["--check-trustdb"])
    place.chmod(0o755)
    for path in place.iterdir():
        if path.is_file():
            path.chmod(0o644)
