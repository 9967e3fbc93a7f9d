"""Does real portage make a Gentoo image of the stand-in, the same one twice, and refuse another's package?

The mirror, stage3 and packages are the real stand-in's; the profile asks for few of them, to be quick.
"""

import hashlib
import shutil
from pathlib import Path

import pytest

from builder.distro.gentoo.backend import Gentoo
from builder.errors import TrustError
from builder.profile import load_profile
from builder.standin.gentoo.mirror import BINPACKAGES, ensure_gentoo_mirror
from builder.store import Store
from builder.tools import Tools
from tests.support.gentooimage import BUILT, GentooImage, make_gentoo_image, seatsmith

TRACES = (
    "etc/portage",
    "root/.gnupg",
    "target",
    "usr/lib/portage",
    "var/cache/binpkgs",
    "var/cache/edb",
    "var/log/emerge.log",
    "var/tmp/portage",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> GentooImage:
    return make_gentoo_image(
        tmp_path_factory.mktemp("gentoo"),
        "gentoo-tiny",
        add={"app-arch/cpio", "app-misc/standin-hello"},
        keep={"app-admin/sudo"},
    )


def test_an_image_has_the_stage_the_packages_and_what_the_profile_says(made: GentooImage) -> None:
    for path in ("usr/lib/systemd/systemd", "usr/bin/cpio", "etc/systemd/network/50-seat-host0.network"):
        assert path in made.members
    assert "usr/bin/lightdm" not in made.members
    named = {path.split("/")[4] for path in made.members if path.startswith("var/db/pkg/app-arch/")}
    assert any(name.startswith("cpio-") for name in named)


def test_an_image_without_portage_has_none_and_keeps_no_trace_of_the_build(made: GentooImage) -> None:
    left = [path for path in made.members if path.startswith(TRACES)]
    assert left == []


def test_a_lock_pins_every_package_by_name_and_two_digests(made: GentooImage) -> None:
    packages = made.lock.packages()
    assert {p.name for p in packages} >= {"app-arch/cpio"}
    assert all(p.sha512 and p.version and p.size for p in packages)
    kinds = {file.kind for file in made.lock.files}
    assert kinds == {"stage", "signature", "tree", "index", "key", "package", "tool", "distfile"}


def test_what_the_binhost_lacks_is_built_from_source_by_the_locked_files(made: GentooImage) -> None:
    """A package with a patch, a USE flag and two distfiles, and one that it needs, without any."""
    assert made.lock.builds == {"image": BUILT}
    distfiles = {f.filename: f for f in made.lock.by_kind("distfile")}
    assert sorted(distfiles) == ["standin-hello-1.0.tar", "standin-hello-polite-1.tar"]
    assert all(f.sha512 and (f.name, f.version) == BUILT[0] for f in distfiles.values())
    assert made.hello == {"words": "hello, world\n", "polite": "pleased to meet you\n"}
    assert made.members["usr/bin/standin-hello"].mode & 0o111
    assert "var/db/pkg/virtual/pager-1/CONTENTS" in made.members
    assert "var/db/pkg/virtual/pager-1/BINPKGMD5" not in made.members, "it is another in each build"


def test_what_only_building_takes_is_locked_and_stays_out_of_the_image(made: GentooImage) -> None:
    assert [f.name for f in made.lock.by_kind("tool")] == ["sys-devel/patch"]
    assert "usr/bin/patch" not in made.members


def test_a_binary_package_is_taken_though_the_tree_has_a_newer_ebuild(made: GentooImage) -> None:
    cpio = next(p for p in made.lock.packages() if p.name == "app-arch/cpio")
    assert f"var/db/pkg/app-arch/cpio-{cpio.version}/CONTENTS" in made.members
    assert not any(path.startswith("var/db/pkg/app-arch/cpio-99") for path in made.members)


def test_a_manifest_names_what_was_built_beside_what_was_installed(made: GentooImage) -> None:
    packages = made.manifest["packages"]
    assert isinstance(packages, list)
    named = {(p["name"], p["version"]) for p in packages}
    assert named >= {*BUILT, *((f.name, f.version) for f in made.lock.packages())}
    assert "sys-devel/patch" not in {name for name, _ in named}


def test_a_distfile_that_changed_in_the_store_is_refused(
    made: GentooImage, tools: Tools, tmp_path: Path
) -> None:
    store = copied_store(made, tmp_path / "store")
    distfile = made.lock.by_kind("distfile")[0]
    store.path(distfile.sha256).write_bytes(b"!" * distfile.size)
    profile = load_profile(made.project, "gentoo-tiny")
    with pytest.raises(TrustError, match="not what was put there"):
        Gentoo().prepare(
            profile, made.lock, store=store, project=made.project, tools=tools, scratch=tmp_path / "scratch"
        )


def copied_store(made: GentooImage, place: Path) -> Store:
    store, filled = Store(place), Store(made.project.cache / "store")
    for file in made.lock.files:
        store.path(file.sha256).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(filled.checked(file), store.path(file.sha256))
    return store


def test_a_well_signed_package_in_anothers_place_is_refused_before_portage_sees_it(
    made: GentooImage, tools: Tools, tmp_path: Path
) -> None:
    """Lock and store are told that another gpkg of the mirror is cpio: a good signature, a wrong name."""
    store = copied_store(made, tmp_path / "store")
    other = next((ensure_gentoo_mirror().root / BINPACKAGES / "sys-apps/which").glob("*.gpkg.tar"))
    data = other.read_bytes()
    digests = {"sha256": hashlib.sha256(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()}
    put = store.path(digests["sha256"])
    put.parent.mkdir(exist_ok=True)
    put.write_bytes(data)
    changed = [
        f.model_copy(update={"size": len(data), **digests}) if f.name == "app-arch/cpio" else f
        for f in made.lock.files
    ]
    lock = made.lock.model_copy(update={"files": changed})
    profile = load_profile(made.project, "gentoo-tiny")
    with pytest.raises(TrustError, match="said to be app-arch/cpio"):
        Gentoo().prepare(
            profile, lock, store=store, project=made.project, tools=tools, scratch=tmp_path / "scratch"
        )


def test_two_builds_a_year_apart_are_the_same_to_the_bit(made: GentooImage) -> None:
    result = seatsmith(made.project, "verify", "gentoo-tiny", "--source", "standin")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
