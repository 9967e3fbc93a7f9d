"""Which OpenPGP keys does pacman trust for a build? A keyring of exactly those."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from builder.distro.pacman import become_root
from builder.errors import InputError, TrustError
from builder.files import atomic_path, exclusive, file_digest, json_digest
from builder.outputs.gpg import parse_key_listing
from builder.profile import Profile
from builder.project import Project, cache_home
from builder.run import Arg
from builder.tools import Tools

GPG_OPTIONS = "disable-dirmngr\n"  # pacman would ask key servers about a key that it does not know
ARCHLINUX = "archlinux"  # name of the keyring that archlinux-keyring installs


@dataclass(frozen=True)
class RepositoryKey:
    """An OpenPGP key that signs a repository: its file, and the fingerprint it must have."""

    file: Path
    fingerprint: str
    whose: str


def standin_key() -> RepositoryKey:
    """The key of the stand-in on this machine."""
    from builder.standin.mirror import ensure_mirror

    mirror = ensure_mirror()
    return RepositoryKey(mirror.public_key, mirror.fingerprint, "the stand-in")


def repository_keys(
    profile: Profile, project: Project, standin: RepositoryKey | None
) -> list[RepositoryKey]:
    """The keys to trust beyond archlinux-keyring: the stand-in's, and those of a profile's repositories."""
    keys = [standin] if standin else []
    for repository in profile.repositories:
        file = project.profiles / repository.key
        keys.append(RepositoryKey(file, repository.fingerprint, f"repository {repository.name}"))
    return keys


def pacman_keyring(tools: Tools, keys: list[RepositoryKey], *, archlinux: bool) -> Path:
    """A GPGDir for pacman with these keys locally signed, made once for each set of keys.

    Raises TrustError for a key that is expired, revoked or not the pinned one.
    """
    for key in keys:
        check_key(tools, key)
    identity = {
        "keys": [(k.fingerprint, file_digest(k.file)) for k in keys],
        "archlinux": archlinux,
        "options": GPG_OPTIONS,
    }
    if archlinux:
        identity["archlinux"] = [file_digest(path) for path in archlinux_files(tools.root or Path("/"))]
    place = cache_home() / "keyrings" / json_digest(identity)[:16]
    with exclusive(place.with_suffix(".lock"), "the package keyring", wait=True):
        if place.is_dir():
            judge_keys_anew(tools, place)
        else:
            with atomic_path(place) as made:
                made.mkdir(mode=0o700)
                fill_keyring(tools, made, keys, archlinux=archlinux)
    return place


def archlinux_files(root: Path) -> list[Path]:
    """The files of archlinux-keyring below ``root``, where Debian or Arch itself installs them."""
    places = [root / "usr/share/keyrings", root / "usr/share/pacman/keyrings"]
    names = [f"{ARCHLINUX}{kind}" for kind in (".gpg", "-trusted", "-revoked")]
    return [path for place in places for name in names if (path := place / name).is_file()]


def judge_keys_anew(tools: Tools, home: Path) -> None:
    """Bring the trust database up to date, which gpg wants to do once a key of the keyring has expired.

    mkosi gives pacman the keyring read-only, where gpg cannot, and pacman then refuses every signature.
    """
    place, bound = tools.gnupg_home(home)
    argv: list[Arg] = ["gpg", "--homedir", place, "--batch", "--check-trustdb"]
    tools.run(argv, options=[*become_root(), *bound], network=False)


def fill_keyring(tools: Tools, home: Path, keys: list[RepositoryKey], *, archlinux: bool) -> None:
    place, bound = tools.gnupg_home(home)
    options = [*become_root(), *bound]

    def pacman_key(*argv: str | Path) -> None:
        tools.run(["pacman-key", "--gpgdir", place, *argv], options=options)

    try:
        pacman_key("--init")
        with (home / "gpg.conf").open("a") as f:
            f.write(GPG_OPTIONS)
        if archlinux:
            pacman_key("--populate", ARCHLINUX)
        for key in keys:
            pacman_key("--add", key.file)
            pacman_key("--lsign-key", key.fingerprint)
    finally:
        # the agent holds the keyring's own signing key and its sockets; neither is needed from here on
        tools.run(["gpgconf", "--homedir", place, "--kill", "all"], options=options, check=False)
    for path in home.iterdir():
        if path.is_socket() or path.name.startswith("S."):
            path.unlink()


def check_key(tools: Tools, key: RepositoryKey) -> None:
    """Refuse a key file that does not hold the pinned key, or whose key is expired or revoked."""
    if not key.file.is_file():
        raise InputError(f"{key.file}: there is no such key file ({key.whose})")
    argv: list[Arg] = ["gpg", "--batch", "--with-colons", "--show-keys", key.file]
    listing = tools.run(argv, check=False, network=False).text
    found = {public.fingerprint: public for public in parse_key_listing(listing)}
    wanted = key.fingerprint.replace(" ", "").upper()
    if wanted not in found:
        raise TrustError(
            f"{key.file} does not hold the key {wanted} that is pinned for {key.whose}; "
            f"it holds {', '.join(found) or 'no OpenPGP public key'}",
            hint="check the fingerprint with the repository's owner before you change it",
        )
    public = found[wanted]
    if public.revoked:
        raise TrustError(
            f"key {wanted} of {key.whose} has been revoked", hint="ask its owner for the new key"
        )
    if public.expires is not None and (public.expired or public.expires < datetime.now(UTC)):
        raise TrustError(
            f"key {wanted} of {key.whose} expired on {public.expires:%Y-%m-%d}",
            hint="ask its owner for the renewed key",
        )
