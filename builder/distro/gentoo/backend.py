"""How are the packages of a Gentoo image resolved by portage, and laid out for an offline build?"""

import json
import os
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from builder import ui
from builder.chroot import as_root
from builder.distro.base import Prepared
from builder.distro.gentoo.config import (
    DISTDIR,
    PKGDIR,
    REPOSITORY,
    SIGNER_PARAMETERS,
    SIGNING,
    build_environment,
    signing_environment,
    write_keyring,
    write_portage,
)
from builder.distro.gentoo.distfiles import distfiles_of, pin_distfile
from builder.distro.gentoo.index import check_inner_name, parse_index, split_cpv
from builder.distro.gentoo.releases import (
    AUTOBUILDS,
    BINPACKAGES,
    DISTFILES,
    MIRROR,
    SNAPSHOTS,
    Trust,
    download,
    keep,
    kept_of,
    latest_stage,
    pin_stage,
    pin_tree,
    trust_of,
)
from builder.distro.gentoo.resolve import ASK, Bench, chosen, pin_binaries, unpack_stage
from builder.distro.gentoo.treecheck import check_tree
from builder.distro.packagesets import package_sets, wanted_packages
from builder.errors import InputError, TrustError
from builder.files import atomic_path, file_digest, json_digest, linked
from builder.lock import RENEW, Lock, LockedFile
from builder.profile import Profile
from builder.profile.model import Distribution
from builder.project import Project
from builder.run import run
from builder.sources import Source, reachable
from builder.standin.keys import ensure_key
from builder.standin.places import GENTOO, STANDIN_SCHEME
from builder.store import Store
from builder.tools import Tools

PLACES = {
    "autobuilds": AUTOBUILDS,
    "snapshots": SNAPSHOTS,
    "binhost": BINPACKAGES,
    "distfiles": DISTFILES,
}
SCRIPT = Path(__file__).with_name("emerge.py")
PORTAGE = "sys-apps/portage"
SHAPING = (SCRIPT.name, ASK.name, "request.json")
TIMEOUT = 30.0  # seconds without a byte


class Gentoo:
    """Gentoo Linux from its official binhost, or from the stand-in."""

    probe_url = f"{MIRROR}/{BINPACKAGES}/Packages"

    def wanted(self, profile: Profile) -> list[str]:
        names = wanted_packages(profile)
        kept = profile.gentoo.slim and profile.gentoo.keep_portage
        return sorted({*names, PORTAGE}) if kept else names

    def initrd(self, profile: Profile) -> list[str]:
        return package_sets(Distribution.GENTOO)["initrd"] if profile.bootable else []

    def request(self, profile: Profile, project: Project, source: Source) -> str:
        return json_digest(
            {
                "packages": self.wanted(profile),
                "initrd": self.initrd(profile),
                "gentoo": profile.gentoo.model_dump(mode="json"),
            }
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
        import httpx

        base = f"{STANDIN_SCHEME}{GENTOO}" if source is Source.STANDIN else f"{MIRROR}/"
        mirrors = {name: f"{base}{path}" for name, path in PLACES.items()}
        with (
            reachable(mirrors) as urls,
            httpx.Client(timeout=TIMEOUT, follow_redirects=True) as http,
        ):
            trust = trust_of(source, http)
            path, size = latest_stage(http, urls["autobuilds"], trust, tools)
            day = tree_day(source, date)
            files = pin_stage(http, urls["autobuilds"], path, size, trust, store=store, tools=tools)
            files += pin_tree(http, urls["snapshots"], day, trust, store=store, tools=tools)
            packages = download_index(http, urls["binhost"])
            index = parse_index(packages, f"{urls['binhost']}/Packages")
            named = keep(
                store, packages, kind="index", repository="binhost", path="Packages", name="Packages"
            )
            files.append(named.model_copy(update={"version": str(index.timestamp)}))
            files.append(
                keep(
                    store, trust.keys, kind="key", repository="autobuilds", path="keys.pgp", name=pins(trust)
                )
            )
            bench = self.bench(profile, files, packages, trust, store=store, tools=tools, scratch=scratch)
            plans = {"image": bench.plan(self.wanted(profile), empty=profile.gentoo.slim)}
            if profile.bootable:
                plans["initrd"] = bench.plan(self.initrd(profile), empty=True)
            builds = {image: bench.plan_builds(plan.builds) for image, plan in plans.items() if plan.builds}
            needed = bench.distfiles(sorted({cpv for plan in builds.values() for cpv in plan.builds}))
            sources = distfiles_of(bench.tree, needed)
            run(as_root(["rm", "-rf", "--one-file-system", bench.root]))
            found = chosen(index, list(plans.values()))
            tools_of = [b for b in chosen(index, list(builds.values())) if b not in found]
            files += pin_binaries(http, urls["binhost"], found, store, scratch / "gpkgs")
            files += [
                file.model_copy(update={"kind": "tool"})
                for file in pin_binaries(http, urls["binhost"], tools_of, store, scratch / "tools")
            ]
            files += [pin_distfile(http, urls["distfiles"], cpv, f, store) for cpv, f in sources]
        return Lock(
            profile=profile.name,
            distribution=Distribution.GENTOO,
            source=source,
            snapshot=f"{day[:4]}-{day[4:6]}-{day[6:]}",
            request=self.request(profile, project, source),
            mirrors=mirrors,
            files=files,
            builds={image: [split_cpv(cpv) for cpv in plan.builds] for image, plan in builds.items()},
        )

    def bench(
        self,
        profile: Profile,
        files: list[LockedFile],
        packages: bytes,
        trust: Trust,
        *,
        store: Store,
        tools: Tools,
        scratch: Path,
    ) -> Bench:
        """Unpack what it takes to ask portage."""
        unpack_stage(store.checked(kept_of(files, "stage")), scratch / "stage")
        tree = unpacked_tree(kept_of(files, "tree"), store, scratch)
        check_tree(tree, trust, tools)
        portage, offered = scratch / "portage", scratch / "binhost"
        write_portage(profile, portage, tree)
        write_keyring(portage / "gnupg", trust.keys, [trust.stage], tools)
        offered.mkdir()
        (offered / "Packages").write_bytes(packages)
        own_use = bool(profile.gentoo.use or profile.gentoo.package_use)
        return Bench(scratch / "stage", portage, tree, offered, tools, own_use)

    def prepare(
        self, profile: Profile, lock: Lock, *, store: Store, project: Project, tools: Tools, scratch: Path
    ) -> Prepared:
        place = scratch / "gentoo"
        pkgdir = place / "pkgdir"
        index = kept_of(lock.files, "index")
        packages = lock.by_kind("package", "tool")
        for file in packages:
            lay_out(file, store, pkgdir / file.path)
            check_inner_name(pkgdir / file.path, f"{file.name}-{file.version}")
        for file in lock.by_kind("distfile"):
            lay_out(file, store, place / "distfiles" / file.filename)
        offered = parse_index(store.checked(index).read_bytes(), "the locked index")
        (pkgdir / "Packages").write_text(offered.only({f.path for f in packages}))
        key = kept_of(lock.files, "key")
        tree = unpacked_tree(kept_of(lock.files, "tree"), store, project.cache / "gentoo")
        write_portage(profile, place / "portage", tree)
        keys, trusted = store.checked(key).read_bytes(), trusted_by(key, lock.source)
        if lock.builds:  # portage takes no package without a signature, and so none that it built itself
            (place / "distfiles").mkdir(exist_ok=True)
            own = ensure_key(place / "signing", tools, parameters=SIGNER_PARAMETERS)
            keys, trusted = keys + own.public.read_bytes(), [*trusted, own.fingerprint]
        write_keyring(place / "portage/gnupg", keys, trusted, tools)
        linked(store.checked(kept_of(lock.files, "stage")), place / "stage3.tar.xz")
        for script in (SCRIPT, ASK):
            shutil.copyfile(script, place / script.name)
        gentoo = profile.gentoo
        requests = {"image": asked(self.wanted(profile), slim=gentoo.slim, keep=gentoo.keep_portage)}
        if profile.bootable:
            requests["initrd"] = asked(self.initrd(profile), slim=True, keep=False)
        for image, built in lock.builds.items():
            requests[image]["builds"] = [f"={name}-{version}" for name, version in built]
        (place / "request.json").write_text(json.dumps(requests))
        (scratch / "pkgcache").mkdir()
        everywhere = {
            "Distribution": {"Distribution": ["custom"], "Architecture": ["x86-64"]},
            "Build": {
                "BuildSources": [f"{place}:gentoo", f"{tree}:gentoo-tree"],
                "BuildSourcesEphemeral": ["yes"],
                "PackageCacheDirectory": [os.fspath(scratch / "pkgcache")],
            },
        }
        contents = {name: image_content(place, name) for name in requests}
        initrd = {"Content": contents["initrd"]} if "initrd" in contents else {}
        return Prepared({**everywhere, "Content": contents["image"]}, initrd=initrd)


def lay_out(file: LockedFile, store: Store, target: Path) -> None:
    """Put a locked file where portage looks for it, with its second digest checked."""
    if target.exists():
        raise InputError(f"the lock names two files {file.path}", hint=RENEW)
    target.parent.mkdir(parents=True, exist_ok=True)
    checked = store.checked(file)
    if file_digest(checked, "sha512") != file.sha512:
        raise TrustError(f"{file.title} does not have the SHA-512 that the lock names", hint=RENEW)
    linked(checked, target)


def asked(atoms: list[str], *, slim: bool, keep: bool) -> dict[str, Any]:
    """What emerge.py reads: the packages, and what of $SRCDIR lies where for portage."""
    return {
        "atoms": atoms,
        "unwanted": [] if keep or slim else [PORTAGE],
        "slim": slim,
        "keep_portage": keep,
        "builds": [],
        "environment": build_environment(),
        "build_environment": signing_environment(),
        "build_binds": {"gentoo/distfiles": DISTDIR, "gentoo/signing": SIGNING},
        "pkgdir": PKGDIR,
        "signing": SIGNING,
        "binds": {
            "gentoo/portage": "/etc/portage",
            "gentoo/pkgdir": PKGDIR,
            "gentoo-tree": REPOSITORY,
        },
    }


def image_content(place: Path, image: str) -> dict[str, list[str]]:
    """mkosi's [Content] of one image: the script that installs it."""
    script = place / f"{image}.prepare"
    # mkosi keeps what a prepare script made for as long as its text is the same
    inputs = "\n".join(f"# {file_digest(place / name)} {name}" for name in SHAPING)
    script.write_text(f'#!/bin/sh\n{inputs}\nexec python3 "$SRCDIR/gentoo/{SCRIPT.name}" {image}\n')
    script.chmod(0o755)
    return {"PrepareScripts": [os.fspath(script)]}


def tree_day(source: Source, date: str | None) -> str:
    """YYYYMMDD of the tree's snapshot: the day asked for, or yesterday, whose snapshot is there by now."""
    if source is Source.STANDIN:
        from builder.standin.gentoo.mirror import ensure_gentoo_mirror

        return ensure_gentoo_mirror().date.replace("-", "")
    if date is None:
        return f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise InputError(f"{date!r} is not a date", hint="accepted: YYYY-MM-DD")
    return date.replace("-", "")


def download_index(http: Any, base: str) -> bytes:
    """The binhost's index; it is larger than what `download` takes for a signed text."""
    return download(http, f"{base}/Packages", limit=64 << 20)


def pins(trust: Trust) -> str:
    """The pinned fingerprints, as the lock keeps them beside the keys."""
    return f"{trust.stage},{trust.tree}"


def trusted_by(key: LockedFile, source: Source) -> list[str]:
    """The fingerprints whose packages are installed. Raises TrustError for a lock that names others."""
    from builder.distro.gentoo.releases import STAGE_KEY, TREE_KEY

    fingerprints = key.name.split(",")
    if source is Source.UPSTREAM and set(fingerprints) != {STAGE_KEY, TREE_KEY}:
        raise TrustError("the lock was made with other release keys than Gentoo's", hint=RENEW)
    return fingerprints[:1]


def unpacked_tree(file: LockedFile, store: Store, parent: Path) -> Path:
    """The ebuild tree of a snapshot, unpacked below ``parent`` under its digest."""
    place = parent / f"tree-{file.sha256[:16]}"
    if not place.is_dir():
        parent.mkdir(parents=True, exist_ok=True)
        with ui.current().step("Unpacking the ebuild tree"), atomic_path(place) as made:
            made.mkdir()
            argv = ["tar", "--extract", "--no-same-owner", "--strip-components=1"]
            run([*argv, f"--directory={made}", f"--file={store.checked(file)}"])
    return place
