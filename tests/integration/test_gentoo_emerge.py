"""Does what real emerge says become one error that tells what to change, and refuses it what nobody signed?

The stage3, tree and index are the stand-in's; the tree gets a few ebuilds more that cannot be installed.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.chroot import as_root, inside
from builder.distro.base import UnknownPackages
from builder.distro.gentoo.config import PKGDIR, REPOSITORY, build_environment, write_keyring, write_portage
from builder.distro.gentoo.emerge import OPTIONS
from builder.distro.gentoo.index import parse_index
from builder.distro.gentoo.resolve import Bench, Plan, unpack_stage
from builder.errors import InputError, TrustError
from builder.imagefault import build_failure
from builder.profile import Profile, load_profile
from builder.project import find_project
from builder.run import run
from builder.standin.gentoo.mirror import (
    AUTOBUILDS,
    BINPACKAGES,
    SNAPSHOTS,
    GentooMirror,
    ensure_gentoo_mirror,
)
from builder.tools import Tools

CPIO = "app-arch/cpio"
EBUILDS: dict[str, dict[str, str]] = {
    "testing-1": {"KEYWORDS": "~amd64"},
    "polite-1": {"RDEPEND": "app-misc/standin-hello[polite]"},
    "lib-1": {},
    "lib-2": {},
    "old-1": {"RDEPEND": "<app-misc/lib-2"},
    "new-1": {"RDEPEND": ">=app-misc/lib-2"},
    "blocker-1": {"RDEPEND": "!!sys-apps/less"},
    "broken-1": {"RDEPEND": "app-misc/nowhere"},
    "choosy-1": {"IUSE": "this that", "REQUIRED_USE": "^^ ( this that )"},
    "ahead-1": {"RDEPEND": ">=app-arch/cpio-99"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stage3, a tree, and the binhost's index in a directory of its own."""
    place, mirror = tmp_path_factory.mktemp("emerge"), ensure_gentoo_mirror()
    unpack_stage(next((mirror.root / AUTOBUILDS).glob("*/*.tar.xz")), place / "stage")
    (place / "tree").mkdir()
    snapshot = next((mirror.root / SNAPSHOTS).glob("*.tar.xz"))
    run(["tar", "--extract", "--strip-components=1", f"--directory={place}/tree", f"--file={snapshot}"])
    layout = place / "tree/metadata/layout.conf"  # what is added has no digests
    layout.write_text(layout.read_text().replace("thin-manifests = false", "thin-manifests = true"))
    for name, said in EBUILDS.items():
        ebuild = place / f"tree/app-misc/{name.rpartition('-')[0]}/{name}.ebuild"
        ebuild.parent.mkdir(exist_ok=True)
        said = {"EAPI": "8", "SLOT": "0", "KEYWORDS": "amd64", "LICENSE": "metapackage", **said}
        ebuild.write_text("".join(f'{key}="{value}"\n' for key, value in said.items()))
    (place / "index").mkdir()
    index = (mirror.root / BINPACKAGES / "Packages").read_bytes()
    (place / "index/Packages").write_bytes(index)
    yield place
    run(as_root(["rm", "-rf", "--one-file-system", place / "stage"]))


def bench(place: Path, portage: Path, tools: Tools, **gentoo: object) -> Bench:
    """Portage as a profile with these settings of its section ``gentoo`` would have it."""
    loaded = load_profile(find_project(Path(__file__)), "gentoo-work").model_dump(mode="json")
    profile = Profile.model_validate({**loaded, "gentoo": {**loaded["gentoo"], **gentoo}})
    write_portage(profile, portage, place / "tree")
    own_use = bool(profile.gentoo.use or profile.gentoo.package_use)
    return Bench(place / "stage", portage, place / "tree", place / "index", tools, own_use)


@pytest.mark.parametrize(
    ("names", "gentoo", "said", "hint"),
    [
        ([CPIO], {"masks": [CPIO]}, "app-arch/cpio-2.15-r2: package.mask", "gentoo.masks"),
        (["app-misc/testing"], {}, "app-misc/testing-1: ~amd64 keyword", "{app-misc/testing: ['~amd64']}"),
        (["app-misc/polite"], {}, "standin-hello: polite", "{app-misc/standin-hello: [polite]}"),
        (
            ["app-misc/old", "app-misc/new"],
            {},
            "app-misc/new-1 needs >=app-misc/lib-2\n  app-misc/old-1 needs <app-misc/lib-2",
            "remove one",
        ),
        (["app-misc/blocker"], {}, "sys-apps/less and app-misc/blocker-1", "packages.remove"),
        (["app-misc/broken"], {}, "app-misc/broken-1 needs app-misc/nowhere", "packages.add"),
        (["app-misc/choosy"], {}, "exactly-one-of ( this that )", "for app-misc/choosy"),
        (["app-misc/ahead"], {}, "which app-misc/ahead-1 needs, is masked", "newer than the binhost's"),
    ],
)
def test_what_emerge_cannot_do_is_said_with_what_to_change(
    place: Path,
    tools: Tools,
    tmp_path: Path,
    names: list[str],
    gentoo: dict[str, object],
    said: str,
    hint: str,
) -> None:
    with pytest.raises(InputError) as caught:
        bench(place, tmp_path / "portage", tools, **gentoo).plan(names, empty=False)
    assert said in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_name_that_nobody_knows_is_named(place: Path, tools: Tools, tmp_path: Path) -> None:
    with pytest.raises(UnknownPackages) as caught:
        bench(place, tmp_path / "portage", tools).plan(["app-misc/nosuch", CPIO], empty=False)
    assert list(caught.value.answers) == ["app-misc/nosuch"]
    assert "there is no package 'app-misc/nosuch'" in caught.value.message


def test_what_was_masked_is_taken_once_the_profile_says_what_the_hint_says(
    place: Path, tools: Tools, tmp_path: Path
) -> None:
    settings = {
        "keywords": {"app-misc/testing": ["~amd64"]},
        "package_use": {"app-misc/standin-hello": ["polite"]},
    }
    made = bench(place, tmp_path / "portage", tools, **settings)
    plan = made.plan(["app-misc/testing", "app-misc/polite", CPIO], empty=True)
    names = ["polite-1", "standin-hello-1.0", "testing-1"]
    assert plan.builds == (*(f"app-misc/{name}" for name in names), "virtual/pager-1")
    assert (f"{CPIO}-2.15-r2", "1") in plan.binaries
    assert not any(cpv.startswith("sys-devel/patch") for cpv, _ in plan.binaries)
    tool = ("sys-devel/patch-2.8-r2", "1")
    assert made.plan_builds(plan.builds) == Plan(frozenset({tool}), plan.builds)


def without_signatures(name: str, data: bytes) -> bytes | None:
    if name.endswith("/Manifest"):
        text = data.decode().partition("\n\n")[2].partition("-----BEGIN PGP SIGNATURE")[0]
        data = "".join(line for line in text.splitlines(True) if ".sig " not in line).encode()
    return None if name.endswith(".sig") else data


def with_another_image(name: str, data: bytes) -> bytes | None:
    return data[:-9] + b"!" + data[-8:] if "/image.tar" in name and not name.endswith(".sig") else data


def binhost(mirror: GentooMirror, place: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """A binhost of one package whose members ``change`` changes or drops, and an index that fits it."""
    source = next((mirror.root / BINPACKAGES / CPIO).glob("*.gpkg.tar"))
    target = place / CPIO / source.name
    target.parent.mkdir(parents=True)
    with tarfile.open(source) as old, tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as new:
        for member in old:
            stream = old.extractfile(member)
            data = change(member.name, stream.read() if stream else b"")
            if data is not None:
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    made = target.read_bytes()
    text = parse_index((mirror.root / BINPACKAGES / "Packages").read_bytes(), "Packages").only(
        {f"{CPIO}/{source.name}"}
    )
    fields = {
        "SIZE": str(len(made)),
        "SHA1": hashlib.sha1(made, usedforsecurity=False).hexdigest(),
        "MD5": hashlib.md5(made, usedforsecurity=False).hexdigest(),
    }
    for key, value in fields.items():
        text = re.sub(rf"(?m)^{key}: .*$", f"{key}: {value}", text)
    (place / "Packages").write_text(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [(without_signatures, "binpkg appears unsigned"), (with_another_image, "GnuPG verification failed")],
)
def test_a_package_without_a_good_signature_is_refused_by_portage_and_named(
    place: Path,
    tools: Tools,
    tmp_path: Path,
    change: Callable[[str, bytes], bytes | None],
    said: str,
) -> None:
    made = bench(place, tmp_path / "portage", tools)
    pkgdir, log = tmp_path / "pkgdir", tmp_path / "mkosi.log"
    mirror = ensure_gentoo_mirror()
    write_keyring(made.portage / "gnupg", mirror.public_key.read_bytes(), [mirror.fingerprint], tools)
    binhost(mirror, pkgdir, change)
    run(as_root(["mkdir", "-p", f"{made.root}{PKGDIR}", f"{made.root}{REPOSITORY}"]))
    result = inside(
        made.root,
        ["emerge", *OPTIONS, CPIO],
        tools=tools,
        binds={made.portage: "/etc/portage", pkgdir: PKGDIR},
        readable={made.tree: REPOSITORY},
        environment=build_environment(),
        check=False,
    )
    assert result.returncode != 0
    log.write_bytes(result.stdout + result.stderr)
    error = build_failure("gentoo-tiny", log, log)
    assert isinstance(error, TrustError)
    assert said in error.message
    assert "cpio-2.15-r2-1.gpkg.tar" in error.message
    assert not (made.root / "usr/bin/cpio").exists()
