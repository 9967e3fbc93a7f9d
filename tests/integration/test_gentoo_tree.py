"""Is an ebuild tree taken only where its signed Manifests name all of it, file by file?"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.distro.gentoo.releases import Trust
from builder.distro.gentoo.treecheck import check_tree
from builder.errors import TrustError
from builder.run import run
from builder.tools import Tools
from tests.support.gpgkeys import KeyMaker, TestKey

EBUILD = "app-misc/hello/hello-1.0.ebuild"
FILES = {
    "profiles/repo_name": "gentoo\n",
    "metadata/layout.conf": "masters =\n",
    EBUILD: "EAPI=8\nSLOT=0\n",
    "app-misc/hello/files/fix.patch": "--- a/x\n+++ b/x\n",
}


def clearsign(path: Path, keys: KeyMaker, key: TestKey) -> None:
    text = path.with_name("Manifest.text")
    path.rename(text)
    keys.gpg(["--local-user", key.fingerprint, "--output", str(path), "--clearsign", str(text)])
    text.unlink()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, make_key: KeyMaker, release: TestKey) -> Path:
    """A tree with Manifests as gemato makes them, the topmost signed by the release key."""
    place = tmp_path_factory.mktemp("signed") / "tree"
    for name, text in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    words = [sys.executable, "-m", "gemato", "create", "--no-sign", "--profile=old-ebuild"]
    run([*words, "--hashes=BLAKE2B SHA512", place])
    clearsign(place / "Manifest", make_key, release)
    return place


@pytest.fixture
def tree(signed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(signed, tmp_path / "tree")


def trust_in(key: TestKey, *others: TestKey) -> Trust:
    keys = b"".join(k.public.read_bytes() for k in (key, *others))
    return Trust(keys, "0" * 40, key.fingerprint)


def test_a_tree_that_is_what_its_manifests_say_is_taken(tree: Path, release: TestKey, tools: Tools) -> None:
    check_tree(tree, trust_in(release), tools)


def alter_an_ebuild(tree: Path) -> None:
    (tree / EBUILD).write_text("EAPI=8\nSLOT=1\n")


def add_an_ebuild(tree: Path) -> None:
    (tree / EBUILD).with_name("hello-2.0.ebuild").write_text("EAPI=8\nSLOT=0\n")


def remove_a_patch(tree: Path) -> None:
    (tree / "app-misc/hello/files/fix.patch").unlink()


def alter_the_manifest_of_a_package(tree: Path) -> None:
    alter_an_ebuild(tree)
    run([sys.executable, "-m", "gemato", "create", "--no-sign", "--hashes=SHA512", tree / "app-misc/hello"])


def alter_the_top_manifest(tree: Path) -> None:
    top = tree / "Manifest"
    top.write_text(top.read_text().replace("IGNORE local", "IGNORE app-misc"))


def put_text_before_the_signed(tree: Path) -> None:
    """gpgv ignores it, and nobody must read it."""
    alter_an_ebuild(tree)
    top = tree / "Manifest"
    top.write_text(f"IGNORE app-misc\n\n{top.read_text()}")


def leave_it_unsigned(tree: Path) -> None:
    text = (tree / "Manifest").read_text().partition("\n\n")[2].partition("-----BEGIN PGP SIGNATURE")[0]
    (tree / "Manifest").write_text(text)


def leave_it_out(tree: Path) -> None:
    (tree / "Manifest").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (alter_an_ebuild, "hello-1.0.ebuild"),
        (add_an_ebuild, "hello-2.0.ebuild"),
        (remove_a_patch, "fix.patch"),
        (alter_the_manifest_of_a_package, "app-misc/hello/Manifest"),
        (alter_the_top_manifest, "not signed by the key that is pinned"),
        (put_text_before_the_signed, "hello-1.0.ebuild"),
        (leave_it_unsigned, "not signed by the key that is pinned"),
        (leave_it_out, "has no Manifest"),
    ],
)
def test_a_tree_that_is_not_what_was_signed_is_refused_with_what_is_wrong(
    tree: Path, release: TestKey, tools: Tools, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(tree)
    with pytest.raises(TrustError) as caught:
        check_tree(tree, trust_in(release), tools)
    assert said in caught.value.message
    assert "Traceback" not in caught.value.message


def test_a_tree_signed_by_another_key_than_the_pinned_is_refused(
    tree: Path, make_key: KeyMaker, release: TestKey, tools: Tools
) -> None:
    """The other key is in the keyring as well, as Gentoo's stage key is."""
    other = make_key("snapshots")
    with pytest.raises(TrustError, match="not signed by the key that is pinned"):
        check_tree(tree, trust_in(other, release), tools)
