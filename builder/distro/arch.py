"""How are the packages of an Arch image resolved by pacman, and laid out for an offline build?"""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from builder.distro.base import Prepared, UnknownPackages
from builder.distro.keyring import RepositoryKey, pacman_keyring, repository_keys, standin_key
from builder.distro.packagesets import initrd_packages, wanted_packages
from builder.distro.pacman import (
    SyncPackage,
    near_names,
    pacman_conf,
    read_database,
    refused,
    run_pacman,
)
from builder.distro.pin import pin_databases, pin_packages
from builder.errors import InputError
from builder.files import atomic_path, file_digest, json_digest, linked
from builder.lock import RENEW, Lock, LockedFile
from builder.profile import Profile
from builder.profile.model import Distribution, Repository
from builder.project import Project
from builder.run import ProgramError, Result
from builder.sources import Source, reachable
from builder.standin.places import STANDIN_SCHEME
from builder.store import Store
from builder.tools import Tools

ARCHIVE = "https://archive.archlinux.org"  # https://wiki.archlinux.org/title/Arch_Linux_Archive
OFFICIAL = ("core", "extra")
STANDIN_KEYS = "@standin"  # where a lock says that the stand-in's public key comes from
PACKAGE_SIGNED = "Required DatabaseOptional"  # Arch signs packages, not databases
ALL_SIGNED = "Required DatabaseRequired"


class Arch:
    """Arch Linux, from the Archive by date or from the stand-in."""

    probe_url = f"{ARCHIVE}/repos/"

    def wanted(self, profile: Profile, source: Source) -> list[str]:
        return wanted_packages(profile, source)

    def request(self, profile: Profile, project: Project, source: Source) -> str:
        repositories = [
            {**r.model_dump(mode="json"), "key": file_digest(project.profiles / r.key)}
            for r in profile.repositories
        ]
        initrd = initrd_packages(profile, project) if profile.bootable else []
        return json_digest(
            {"packages": self.wanted(profile, source), "initrd": initrd, "repositories": repositories}
        )

    def resolve(
        self,
        profile: Profile,
        *,
        source: Source,
        date: str | None,
        project: Project,
        store: Store,
        tools: Tools,
        scratch: Path,
    ) -> Lock:
        snapshot, mirrors = self.mirrors(source, date)
        mirrors |= {r.name: expanded_url(r) for r in profile.repositories}
        with reachable(mirrors) as urls:
            return resolve_with_pacman(
                profile,
                source=source,
                snapshot=snapshot,
                mirrors=mirrors,
                urls=urls,
                project=project,
                store=store,
                tools=tools,
                scratch=scratch,
            )

    def mirrors(self, source: Source, date: str | None) -> tuple[str, dict[str, str]]:
        """Snapshot date and the official repositories' URLs; the Archive has one directory a day."""
        if source is Source.STANDIN:
            from builder.standin.mirror import ensure_mirror

            slashed = ensure_mirror().date
            base = f"{STANDIN_SCHEME}repos/{slashed}"
        else:
            day = parse_day(date) if date else datetime.now(UTC) - timedelta(days=1)
            slashed = f"{day:%Y/%m/%d}"
            base = f"{ARCHIVE}/repos/{slashed}"
        return slashed.replace("/", "-"), {name: f"{base}/{name}/os/x86_64" for name in OFFICIAL}

    def prepare(
        self, profile: Profile, lock: Lock, *, store: Store, project: Project, tools: Tools, scratch: Path
    ) -> Prepared:
        cache, sandbox = scratch / "pkgcache", scratch / "sandbox"
        sync, packages = cache / "lib/pacman/sync", cache / "cache/pacman/pkg"
        # mkosi copies the state beside the sync databases but for "local", which it expects to be there
        for place in (sync, sync.parent / "local", packages, sandbox / "etc"):
            place.mkdir(parents=True)
        for file in lock.files:
            if file.kind == "key":
                continue
            place = sync if file.kind == "database" or ".db." in file.filename else packages
            if (place / file.filename).exists():
                raise InputError(f"the lock names two files {file.filename}", hint=RENEW)
            linked(store.checked(file), place / file.filename)
        standin = locked_key(lock, store) if lock.source is Source.STANDIN else None
        keyring = pacman_keyring(
            tools, repository_keys(profile, project, standin), archlinux=standin is None
        )
        conf = pacman_conf(
            {name: "file:///nowhere" for name in ordered(lock.mirrors)},
            levels=signature_levels(profile, lock.source),
            gpgdir=Path("/etc/seatsmith/gnupg"),
            docs=False,
        )
        (sandbox / "etc/pacman.conf").write_text(conf)
        return Prepared(
            {
                "Distribution": {"Distribution": ["arch"]},
                "Build": {
                    "CacheOnly": ["always"],
                    "PackageCacheDirectory": [os.fspath(cache)],
                    "SandboxTrees": [os.fspath(sandbox), f"{keyring}:/etc/seatsmith/gnupg"],
                },
                "Content": {"Packages": self.wanted(profile, lock.source)},
            }
        )


def expanded_url(repository: Repository) -> str:
    """The URL with pacman's variables put in (pacman.conf(5)): others than pacman fetch from it, too."""
    return repository.url.replace("$repo", repository.name).replace("$arch", "x86_64")


def parse_day(date: str) -> datetime:
    try:
        return datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as e:
        raise InputError(f"{date!r} is not a date", hint="accepted: YYYY-MM-DD") from e


def ordered(mirrors: dict[str, str]) -> list[str]:
    """Repositories in pacman's order of preference: a profile's own first."""
    own = [name for name in mirrors if name not in (*OFFICIAL, STANDIN_KEYS)]
    return own + [name for name in OFFICIAL if name in mirrors]


def pin_key(key: RepositoryKey, store: Store) -> LockedFile:
    """Pin and keep the stand-in's public key: without it nobody else could check what it signed."""
    sha256 = file_digest(key.file)
    with atomic_path(store.path(sha256)) as made:
        shutil.copyfile(key.file, made)
    return LockedFile(
        kind="key",
        repository=STANDIN_KEYS,
        path=key.file.name,
        size=key.file.stat().st_size,
        sha256=sha256,
        name="standin-key",
        version=key.fingerprint,
    )


def locked_key(lock: Lock, store: Store) -> RepositoryKey:
    """The key of the stand-in that a lock was made from; older locks do not name it."""
    for file in lock.by_kind("key"):
        return RepositoryKey(store.checked(file), file.version, "the stand-in")
    return standin_key()


def signature_levels(profile: Profile, source: Source) -> dict[str, str]:
    official = ALL_SIGNED if source is Source.STANDIN else PACKAGE_SIGNED
    return dict.fromkeys(OFFICIAL, official) | {r.name: r.siglevel for r in profile.repositories}


def resolve_with_pacman(
    profile: Profile,
    *,
    source: Source,
    snapshot: str,
    mirrors: dict[str, str],
    urls: dict[str, str],
    project: Project,
    store: Store,
    tools: Tools,
    scratch: Path,
) -> Lock:
    """Let pacman sync its databases and print what it would install; pin all of it."""
    standin = standin_key() if source is Source.STANDIN else None
    keyring = pacman_keyring(tools, repository_keys(profile, project, standin), archlinux=standin is None)
    names = ordered(mirrors)
    levels = signature_levels(profile, source)
    conf = scratch / "pacman.conf"
    conf.write_text(pacman_conf({n: urls[n] for n in names}, levels=levels, gpgdir=keyring, docs=False))
    try:
        run_pacman(tools, scratch, conf, ["--sync", "--refresh"])
    except ProgramError as e:
        raise refused(e, "cannot read the package databases", urls) from e

    sync = scratch / "db/sync"
    available = {name: read_database(sync / f"{name}.db") for name in names}
    targets = sorted({"filesystem", *wanted_packages(profile, source)})
    chosen = print_targets(tools, scratch, conf, targets, available)
    if profile.bootable:
        # the initrd is an image of its own; its packages are resolved by themselves, as mkosi will do
        chosen += print_targets(
            tools, scratch, conf, sorted({"filesystem", *initrd_packages(profile, project)}), available
        )

    found = [available[repository][name] for repository, name in sorted(set(chosen))]
    files = pin_databases(sync, names, store) + pin_packages(found, urls, store)
    pinned = {name: mirrors[name] for name in names}
    if standin is not None:
        files.append(pin_key(standin, store))
        pinned[STANDIN_KEYS] = STANDIN_SCHEME
    return Lock(
        profile=profile.name,
        distribution=Distribution.ARCH,
        source=source,
        snapshot=snapshot,
        request=Arch().request(profile, project, source),
        mirrors=pinned,
        files=files,
    )


def print_targets(
    tools: Tools, scratch: Path, conf: Path, targets: list[str], available: dict[str, dict[str, SyncPackage]]
) -> list[tuple[str, str]]:
    """Repository and name of each package that pacman would install for ``targets``."""
    argv = [
        "--sync",
        "--print",
        "--print-format",
        "%r %n",
        "--assume-installed",
        "initramfs",
        "--",
        *targets,
    ]
    result = run_pacman(tools, scratch, conf, argv, check=False)
    if result.returncode != 0:
        raise not_installable(result, {name for packages in available.values() for name in packages})
    said = result.text
    rows = [line.split(" ") for line in said.splitlines() if line.count(" ") == 1]
    return [(repository, name) for repository, name in rows if repository in available]


def not_installable(result: Result, known: set[str]) -> InputError:
    """Pacman's answer to a request that it cannot fulfil: unknown names, or dependencies and conflicts."""
    said = [*result.stderr.decode(errors="replace").splitlines(), *result.text.splitlines()]
    if unknown := [line.rsplit(": ", 1)[-1] for line in said if "target not found" in line]:
        return UnknownPackages(
            {name: f"pacman: no package is called {name!r}{near_names(name, known)}" for name in unknown}
        )
    lines = [f"  pacman: {line}" for line in dict.fromkeys(said) if line.startswith(("error:", "::"))]
    return InputError(
        "these packages cannot be installed together:\n" + "\n".join(lines),
        hint="see packages.add and packages.remove in the profile",
    )
