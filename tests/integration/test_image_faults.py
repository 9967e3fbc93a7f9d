"""What does `seatsmith image` do when something is wrong? One clear message, its code, nothing half done."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import pytest

from builder.files import file_digest, remove_tree
from builder.standin.server import Handler, serve
from builder.tools import Tools
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.ownrepository import Repositories
from tests.support.pacman_repo import TinyPackage
from tests.support.processes import children_in, stopped, wait_for
from tests.support.tinyproject import PROFILE, Outcome, TinyProject, make_project

mounts = pytest.mark.skipif(os.geteuid() != 0, reason="mount(2) needs root")
HELLO = TinyPackage("hello", depends=("filesystem",))


@pytest.fixture(scope="module")
def built(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyProject]:
    """A project whose image has been built; every test leaves its result as it was."""
    place = tmp_path_factory.mktemp("faults")
    tiny = make_project(place / "checkout", place / "cache", tools)
    made = tiny.run("image", "tiny")
    assert made.code == 0, made.err
    yield tiny
    remove_tree(place)


@pytest.fixture
def tiny(built: TinyProject) -> Iterator[TinyProject]:
    """The same, with a look afterwards at whether the earlier result is untouched and nothing was left."""
    before = results(built)
    profiles = {p: p.read_bytes() for p in (built.root / "profiles").iterdir()}
    yield built
    assert results(built) == before, "an earlier result was touched"
    assert built.unfinished() == []
    for path in {*(built.root / "profiles").iterdir()} - profiles.keys():
        remove_tree(path)
    for path, content in profiles.items():
        path.write_bytes(content)


def results(tiny: TinyProject) -> dict[str, str]:
    return {str(p): file_digest(p) for p in sorted((tiny.root / "dist").rglob("*")) if p.is_file()}


def refused(outcome: Outcome, code: int, *said: str) -> None:
    """One error with that exit code, which says all that (regular expressions)."""
    assert outcome.code == code, outcome.err
    assert outcome.err.count("error: ") >= 1
    assert "Traceback" not in outcome.err
    assert "defect" not in outcome.err
    for words in said:
        assert re.search(words, outcome.err), f"{words!r} is not in: {outcome.err}"


# Profiles and packages


def test_a_wrong_profile_is_refused_with_file_line_and_column(tiny: TinyProject) -> None:
    tiny.write_profile(PROFILE + "hostnme: x\n", "wrong")
    refused(tiny.run("image", "wrong"), 3, r"profiles/wrong\.yaml:7:1: .*hostnme", "hostname")
    refused(tiny.run("image", "tyny"), 3, "there is no profile 'tyny'", "hint: did you mean 'tiny'")


def test_an_unknown_package_is_named_with_its_line_and_near_names(tiny: TinyProject) -> None:
    tiny.write_profile(PROFILE.replace("[hello]", "\n    - hello\n    - helo\n    - qqqqqq"), "unknown")
    refused(
        tiny.run("image", "unknown"),
        3,
        r"profiles/unknown\.yaml:8:\d+: pacman: no package is called 'helo'; did you mean hello\?",
        r"profiles/unknown\.yaml:9:\d+: pacman: no package is called 'qqqqqq'\n",
    )
    assert not (tiny.project.locks / "unknown.standin.lock").exists()


# Signatures and keys


@pytest.fixture
def repositories(tiny: TinyProject, make_key: KeyMaker, tmp_path: Path) -> Iterator[Repositories]:
    with serve(tmp_path) as url:
        yield Repositories(tiny, make_key, tmp_path, url.replace("127.0.0.1", "localhost"))


OWN = TinyPackage("own-tool", depends=("filesystem",))


def test_a_dependency_that_nothing_provides_is_told_in_pacmans_words(
    tiny: TinyProject, repositories: Repositories, release: TestKey
) -> None:
    repositories.add("dependency", TinyPackage("broken", depends=("nothing-has-this",)), release)
    refused(tiny.run("image", "dependency"), 3, "nothing-has-this.*required by.*broken")


def test_an_expired_key_is_refused_with_its_id_and_date(
    tiny: TinyProject, repositories: Repositories, make_key: KeyMaker
) -> None:
    key = make_key.made_in_2020("expired-repo")
    repositories.add("expired", OWN, key, signed=False)
    refused(
        tiny.run("image", "expired"), 4, f"key {key.fingerprint} of repository own expired on 2020-01-02"
    )


def test_a_revoked_key_is_refused(tiny: TinyProject, repositories: Repositories, make_key: KeyMaker) -> None:
    key = make_key("revoked-repo")
    repositories.add("revoked", OWN, key, signed=False, public=make_key.revoked(key))
    refused(tiny.run("image", "revoked"), 4, f"key {key.fingerprint} of repository own has been revoked")


def test_a_key_file_with_another_key_than_the_pinned_one_is_refused(
    tiny: TinyProject, repositories: Repositories, release: TestKey
) -> None:
    repositories.add("other", OWN, release, fingerprint="A" * 40)
    refused(tiny.run("image", "other"), 4, f"does not hold the key {'A' * 40}", release.fingerprint)


def test_a_repository_signed_by_an_unknown_key_is_refused_with_the_keys_id(
    tiny: TinyProject, repositories: Repositories, make_key: KeyMaker, release: TestKey
) -> None:
    stranger = make_key("stranger")
    public = release.public.read_bytes()
    repositories.add("stranger", OWN, stranger, public=public, fingerprint=release.fingerprint)
    started = time.monotonic()
    refused(tiny.run("image", "stranger"), 4, stranger.fingerprint[-16:])
    assert time.monotonic() - started < 30, "a key server was asked"


@pytest.mark.parametrize("siglevel", ["Required", "Required DatabaseOptional"])
def test_an_unsigned_repository_is_refused(
    tiny: TinyProject, repositories: Repositories, release: TestKey, siglevel: str
) -> None:
    repositories.add("unsigned", OWN, release, signed=False, siglevel=siglevel)
    refused(tiny.run("image", "unsigned"), 4, "own")


def test_a_package_whose_signature_is_of_other_bytes_is_refused(
    tiny: TinyProject, repositories: Repositories, release: TestKey
) -> None:
    where = repositories.add("bad", OWN, release)
    signature = where / f"{OWN.filename}.sig"
    signature.write_bytes((where / "own.db.sig").read_bytes())  # by the right key, of another file
    refused(tiny.run("image", "bad"), 4, "own-tool", "signature")
    assert not tiny.dist("bad").exists()


def test_a_signed_repository_of_a_profile_is_built_from(
    tiny: TinyProject, repositories: Repositories, release: TestKey
) -> None:
    repositories.add("good", OWN, release)
    made = tiny.run("image", "good")
    assert made.code == 0, made.err
    shutil.rmtree(tiny.dist("good"))
    shutil.rmtree(tiny.project.rendered("good"))


# Mirrors and the store


def stored(tiny: TinyProject, name: str) -> Path:
    """The stored file of a mirror's file."""
    digest = file_digest(tiny.repository("extra") / name)
    return tiny.project.cache / "store" / digest[:2] / digest


def forget_image(tiny: TinyProject) -> None:
    """Let the next run build again, from what is in the store."""
    shutil.rmtree(tiny.project.cache / "images")
    shutil.rmtree(tiny.project.cache / "state")


def test_a_package_damaged_in_the_store_is_refused_then_fetched_anew(tiny: TinyProject) -> None:
    place = stored(tiny, HELLO.filename)
    good = place.read_bytes()
    forget_image(tiny)
    place.write_bytes(good[:-1] + b"?")
    outcome = tiny.run("image", "tiny")
    refused(
        outcome, 4, "hello 1.0-1 .* in the store is not what was put there", f"expected sha256 {place.name}"
    )
    again = tiny.run("image", "tiny")
    assert again.code == 0, again.err
    assert place.read_bytes() == good


def test_a_package_cut_short_in_the_store_is_told_and_fetched_anew(tiny: TinyProject) -> None:
    place = stored(tiny, HELLO.filename)
    good = place.read_bytes()
    place.write_bytes(good[:-5])
    again = tiny.run("fetch", "tiny")
    assert again.code == 0, again.err
    assert re.search(rf"hello 1\.0-1 .*\n.*sha256 {place.name}\n.*{len(good) - 5} bytes", again.err)
    assert place.read_bytes() == good


@contextmanager
def in_mirror(path: Path, content: bytes | None) -> Iterator[None]:
    """A file of the mirror with another content, or none."""
    good = path.read_bytes()
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    yield
    path.write_bytes(good)


def test_a_package_replaced_in_the_mirror_is_refused_by_name_and_digest(tiny: TinyProject) -> None:
    package = tiny.repository("extra") / HELLO.filename
    place = stored(tiny, HELLO.filename)
    place.unlink()
    evil = TinyPackage("hello", files={"usr/bin/evil": "evil"}).content()
    with in_mirror(package, evil):
        outcome = tiny.run("fetch", "tiny")
    refused(outcome, 4, "hello 1.0-1 .* is not the file that the lock names", f"sha256 {place.name}")
    with in_mirror(package, None):
        refused(
            tiny.run("fetch", "tiny"),
            6,
            f"cannot fetch hello 1.0-1 from .*{HELLO.filename}: HTTP status 404",
        )
    assert tiny.run("fetch", "tiny").code == 0


def test_a_database_signed_by_nobody_is_refused(tiny: TinyProject) -> None:
    for name, content in (("core.db.sig", b"no signature"), ("core.db", b"no database")):
        with in_mirror(tiny.repository("core") / name, content):
            refused(tiny.run("lock", "tiny"), 4, "cannot read the package databases", "core")
    with in_mirror(tiny.repository("core") / "core.db", None):
        refused(tiny.run("lock", "tiny"), 6, "core.db", "404")


class BadMirror(Handler):
    """Answers for databases as broken mirrors do, by a word in the path."""

    def do_GET(self) -> None:
        if ".db" not in self.path:
            super().do_GET()
            return
        if "/loop/" in self.path:
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
        else:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Length", "5000")
            self.close_connection = True
        self.end_headers()
        if "/silent/" in self.path:
            time.sleep(15)
        elif "/cut/" in self.path:
            self.wfile.write(b"x" * 1000)


@pytest.mark.parametrize("fault", ["loop", "cut", pytest.param("silent", marks=pytest.mark.long)])
def test_a_mirror_that_leads_in_circles_or_breaks_off_ends_the_making_of_a_lock(
    fault: str, tiny: TinyProject, make_key: KeyMaker, release: TestKey, tmp_path: Path
) -> None:
    with serve(tmp_path, handler=BadMirror) as url:
        repositories = Repositories(tiny, make_key, tmp_path, url.replace("127.0.0.1", "localhost"))
        repositories.add(fault, OWN, release)
        told = f"is {repositories.url}/{fault}/.* right"
        refused(tiny.run("lock", fault), 6, "cannot read the package databases", told)
    assert not (tiny.project.locks / f"{fault}.standin.lock").exists()


# Interrupted, two at once (killed: test_image_killed.py)


def building(tiny: TinyProject) -> Callable[[], bool]:
    """Whether mkosi is at work."""
    return lambda: bool(list((tiny.project.cache / "work/tiny.image").glob("workspace/*")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_leaves_nothing_and_no_process(tiny: TinyProject, number: int) -> None:
    with tiny.start("image", "tiny", "--force") as process:
        wait_for(building(tiny))
        with_time = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in err
    assert time.monotonic() - with_time < 15
    wait_for(lambda: not children_in(tiny.caches), 5)
    assert tiny.unfinished() == []


def test_a_build_that_was_killed_can_be_run_again_at_once(tiny: TinyProject) -> None:
    with tiny.start("image", "tiny", "--force") as process:
        wait_for(lambda: len(children_in(tiny.project.cache / "work/tiny.image")) > 2)  # mkosi's worker, too
        process.kill()
    again = tiny.run("image", "tiny", "--force")
    assert again.code == 0, again.err
    assert children_in(tiny.project.cache / "work") == []


def test_a_second_build_of_the_same_profile_is_busy(tiny: TinyProject) -> None:
    with tiny.start("image", "tiny", "--force") as process:
        wait_for(building(tiny))
        with stopped(process):
            refused(tiny.run("image", "tiny", "--force"), 7, f"the image of tiny.* by process {process.pid}")
            refused(tiny.run("lock", "tiny"), 7, f"process {process.pid}")
        assert process.wait(120) == 0


# Disks and permissions


@mounts
def test_a_full_disk_is_named_and_nothing_is_left(tiny: TinyProject, tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "small", mounted], check=True)
    try:
        environment = {"SEATSMITH_DIST": str(mounted / "dist")}
        (mounted / "filler").write_bytes(b"x" * 250_000)
        refused(tiny.run("image", "tiny", env=environment), 6, "No space left on device")
        assert [p.name for p in (mounted / "dist").iterdir()] == []
    finally:
        subprocess.run(["umount", mounted], check=True)


@mounts
def test_a_full_cache_is_named(tiny: TinyProject, tmp_path: Path) -> None:
    mounted = tmp_path / "small"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "small", mounted], check=True)
    try:
        cache = mounted / "seatsmith"
        cache.mkdir()
        for name in ("tools", "standin", "locks", "store", "keyrings"):
            (cache / name).symlink_to(tiny.project.cache / name)
        refused(
            tiny.run("image", "tiny", "--force", env={"XDG_CACHE_HOME": str(mounted)}),
            6,
            "No space left on device",
        )
        assert not (cache / "work/tiny.image").exists()
        assert list(cache.glob("images/tiny/*")) == []
    finally:
        subprocess.run(["umount", mounted], check=True)


@mounts
def test_a_read_only_checkout_is_built_from_when_the_result_goes_elsewhere(
    tiny: TinyProject, tmp_path: Path
) -> None:
    subprocess.run(["mount", "--bind", tiny.root, tiny.root], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", tiny.root], check=True)
        refused(tiny.run("image", "tiny", "--force"), 6, "cannot write .*dist.*: Read-only file system")
        made = tiny.run("image", "tiny", "--force", env={"SEATSMITH_DIST": str(tmp_path / "dist")})
        assert made.code == 0, made.err
        assert (tmp_path / "dist/tiny/manifest.json").is_file()
    finally:
        subprocess.run(["umount", tiny.root], check=True)


# Failures of a build


def test_a_failed_build_keeps_the_earlier_result_and_its_log(tiny: TinyProject) -> None:
    script = tiny.root / "mkosi.postoutput"
    good = script.read_text()
    script.write_text("#!/bin/bash\necho this went wrong >&2\nexit 3\n")
    try:
        outcome = tiny.run("image", "tiny")
    finally:
        script.write_text(good)
    refused(outcome, 5, "mkosi could not build tiny", "this went wrong", r"hint: log: .*tiny\.mkosi\.log")
    assert "this went wrong" in (tiny.project.cache / "logs/tiny.mkosi.log").read_text()


def test_a_signing_key_that_is_none_leaves_the_earlier_result(tiny: TinyProject) -> None:
    outcome = tiny.run("image", "tiny", env={"SIGNING_KEY": "/nowhere/key.asc"})
    assert outcome.code in (3, 4), outcome.err
    refused(outcome, outcome.code, "/nowhere/key.asc")


def test_a_path_that_mkosi_would_misread_is_refused(tiny: TinyProject, tmp_path: Path) -> None:
    cache = tmp_path / "a:b"
    (cache / "seatsmith").mkdir(parents=True)
    for name in ("tools", "standin", "locks", "store", "keyrings"):
        (cache / "seatsmith" / name).symlink_to(tiny.project.cache / name)
    refused(
        tiny.run("image", "tiny", "--force", env={"XDG_CACHE_HOME": str(cache)}), 3, "path with ':' in it"
    )
