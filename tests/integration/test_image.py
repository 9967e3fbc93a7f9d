"""Does `seatsmith image` turn a profile into the whole result, once, and the same everywhere?"""

import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import pytest
import zstandard

from builder.files import file_digest, remove_tree
from builder.tools import Tools, tree_key
from tests.support.pacman_repo import TinyPackage
from tests.support.tinyproject import PROFILE, TinyProject, copy_checkout, make_project

STEM = "tiny_2026.11.01-standin_x86-64"


@pytest.fixture(scope="module")
def tiny(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyProject]:
    """A project whose image has been built once, below a path with spaces and non-ASCII letters."""
    place = tmp_path_factory.mktemp("prüf stand 100%")
    tiny = make_project(place / "mein Häuschen", place / "Zwischen speicher", tools)
    made = tiny.run("image", "tiny")
    assert made.code == 0, made.err
    yield tiny
    remove_tree(place)


def members(archive: Path) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    found = {}
    with (
        archive.open("rb") as f,
        zstandard.ZstdDecompressor().stream_reader(f) as stream,
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar,
    ):
        for info in tar:
            content = tar.extractfile(info) if info.isfile() else None
            found[info.name] = (info, content.read() if content else b"")
    return found


def stored_hello(tiny: TinyProject) -> Path:
    lock = json.loads((tiny.project.locks / "tiny.standin.lock").read_text())
    digest: str = next(
        f["sha256"] for f in lock["files"] if f["path"].startswith("hello") and f["kind"] == "package"
    )
    return tiny.project.cache / "store" / digest[:2] / digest


def results(tiny: TinyProject) -> dict[str, str]:
    return {p.name: file_digest(p) for p in tiny.dist().iterdir()}


def test_the_result_is_complete_and_under_its_published_names(tiny: TinyProject) -> None:
    assert set(results(tiny)) == {
        "SHA256SUMS",
        "manifest.json",
        "provenance.json",
        "sbom.cdx.json",
        "sbom.spdx.json",
        f"{STEM}.host.tar.zst",
        f"{STEM}.lock",
        f"{STEM}.tar.zst",
    }
    assert tiny.unfinished() == []


def test_the_image_holds_packages_rendered_files_and_shared_files(tiny: TinyProject) -> None:
    inside = members(tiny.dist() / f"{STEM}.tar.zst")
    assert "./var/lib/pacman/local/hello-1.0-1/desc" in inside
    assert b"VARIANT_ID=standin" in inside["./usr/lib/os-release"][1]
    assert "./usr/lib/seatsmith/status" in inside, "a file of mkosi.extra"
    assert "./usr/lib/sysusers.d/seatsmith-users.conf" in inside, "a rendered file"
    assert inside["./home/user/.kept"][0].uid == 1000, "not all belongs to root, whoever builds"
    epoch = 1793491200
    assert max(info.mtime for info, _ in inside.values()) <= epoch
    assert {(i.uname, i.gname) for i, _ in inside.values()} == {("", "")}
    assert not [name for name in inside if "pacman.log" in name or "pacman.d/gnupg" in name]
    assert {i.mode & 0o022 for i, _ in inside.values() if i.isfile()} == {0}


def test_the_host_bundle_is_a_tree_for_the_hosts_root(tiny: TinyProject) -> None:
    inside = members(tiny.dist() / f"{STEM}.host.tar.zst")
    assert "./etc/systemd/nspawn/tiny.nspawn" in inside
    assert {(i.uid, i.gid, i.mtime) for i, _ in inside.values()} == {(0, 0, 1793491200)}


@pytest.mark.parametrize(
    ("users", "whose"),
    [("[]", "root"), ("[{name: first}, {name: second}]\ndisplay: {autologin: second}", "second")],
)
def test_the_bundle_of_whatever_users_is_the_one_that_render_shows(
    tiny: TinyProject, users: str, whose: str
) -> None:
    tiny.write_profile(f"users: {users}\npackages: {{remove: [alsa-utils, libpulse]}}\n", "people")
    made = tiny.run("image", "people")
    assert made.code == 0, made.err
    inside = members(tiny.dist("people") / f"{STEM.replace('tiny', 'people')}.host.tar.zst")
    sound = "etc/tmpfiles.d/seatsmith-sound-people.conf"
    assert f"0700 {whose} {whose}".encode() in inside[f"./{sound}"][1]
    assert inside[f"./{sound}"][1] == (tiny.project.rendered("people") / "host" / sound).read_bytes()


def test_what_nothing_brings_is_named_with_its_line_and_names_like_it(tiny: TinyProject) -> None:
    units = tiny.root / "profiles/extra/usr/lib/systemd/system"
    units.mkdir(parents=True)
    for name in ("backup@.timer", "sshd.service"):
        (units / name).write_text("")
    keymaps = tiny.root / "profiles/extra/usr/share/kbd/keymaps"
    keymaps.mkdir(parents=True)
    (keymaps / "de-latin1.map").write_text("")
    asked = (
        "services: {enable: [backup@home.timer,\n  sshdd.service,\n  qqqqqq.socket]}\nkeymap: de-latin2\n"
    )
    tiny.write_profile(f"{PROFILE}files: extra\n{asked}", "units")
    refused = tiny.run("image", "units")
    assert refused.code == 3
    assert "units.yaml:9:3: the image has no unit sshdd.service; did you mean sshd.service?\n" in refused.err
    assert "units.yaml:10:3: the image has no unit qqqqqq.socket\n" in refused.err
    assert "units.yaml:11:9: keymap: the image has no keymap de-latin2; did you mean" in refused.err
    assert "backup" not in refused.err


def test_the_papers_name_the_packages_and_every_input(tiny: TinyProject) -> None:
    manifest = json.loads((tiny.dist() / "manifest.json").read_text())
    assert "hello" in {p["name"] for p in manifest["packages"]}
    lock = json.loads((tiny.dist() / f"{STEM}.lock").read_text())
    locked = {f["name"]: f["sha256"] for f in lock["files"] if f["kind"] == "package"}
    made_with = {f["sha256"] for f in lock["files"] if f["kind"] != "signature"}
    provenance = json.loads((tiny.dist() / "provenance.json").read_text())
    named = provenance["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {d["name"]: d.get("digest", {}).get("sha256") for d in named}
    assert digests["hello"] == locked["hello"]
    assert made_with <= {digest for d in named for digest in d.get("digest", {}).values()}
    assert digests["profiles/tiny.yaml"] == file_digest(tiny.root / "profiles/tiny.yaml")
    assert digests["lock"] == file_digest(tiny.dist() / f"{STEM}.lock")


def test_the_checksums_hold_for_every_file(tiny: TinyProject) -> None:
    lines = (tiny.dist() / "SHA256SUMS").read_text().splitlines()
    listed = {line[66:]: line[:64] for line in lines}
    assert {k: v for k, v in results(tiny).items() if k != "SHA256SUMS"} == listed


def test_nothing_changed_means_that_nothing_is_run(tiny: TinyProject) -> None:
    before = {p: p.stat().st_mtime_ns for p in tiny.dist().iterdir()}
    # without mkosi, pacman and gpg any attempt to run one would fail
    again = tiny.run("image", "tiny", "--json", env={"PATH": "/nowhere"})
    assert again.code == 0, again.err
    assert json.loads(again.out)["built"] is False
    assert {p: p.stat().st_mtime_ns for p in tiny.dist().iterdir()} == before


def test_nothing_changed_is_told_without_loading_what_a_build_needs(tiny: TinyProject) -> None:
    assert tiny.run("image", "tiny").code == 0  # where the answer was not noted yet, it is now
    again = tiny.run("image", "tiny", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert again.code == 0
    assert "nothing changed" in again.out
    assert "builder.uptodate" in again.err
    loaded = {line.rsplit("|", 1)[-1].strip() for line in again.err.splitlines()}
    assert not loaded & {"pydantic", "typer", "yaml", "builder.deliver"}


def test_a_changed_profile_is_not_called_up_to_date(tiny: TinyProject) -> None:
    assert tiny.run("image", "tiny").code == 0
    tiny.write_profile(PROFILE.replace("hello", "hullo"))
    try:
        refused = tiny.run("image", "tiny")
        assert refused.code == 3, refused.out
        assert "hullo" in refused.err
    finally:
        tiny.write_profile()


def test_a_diff_of_renderings_begins_with_what_was_built(tiny: TinyProject) -> None:
    assert "nothing differs" in tiny.run("render", "tiny", "--diff").out
    tiny.write_profile(PROFILE + "keymap: de\n")
    try:
        changed = json.loads(tiny.run("render", "tiny", "--diff", "--json").out)["changed"]
    finally:
        tiny.write_profile()
    assert changed == ["image/etc/X11/xorg.conf.d/00-keyboard.conf", "mkosi.conf"]


def test_a_removed_result_comes_back_from_the_cache(tiny: TinyProject) -> None:
    before = results(tiny)
    shutil.rmtree(tiny.dist())
    again = tiny.run("image", "tiny")
    assert again.code == 0, again.err
    assert "mkosi" not in again.err
    assert results(tiny) == before


def test_a_second_build_elsewhere_with_another_umask_gives_the_same_bits(
    tiny: TinyProject, tmp_path: Path
) -> None:
    """Another checkout, made with another umask, another cache; the same mirror."""
    old = os.umask(0o077)
    try:
        other = TinyProject(tmp_path / "other", tmp_path / "cache", tiny.tools)
        copy_checkout(other.root)
        for path in other.root.rglob("*"):  # as git leaves it under this umask
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)
        shutil.copytree(tiny.root / "profiles", other.root / "profiles", dirs_exist_ok=True)
        cache = tiny.project.cache
        for name in ("standin", "tools", "locks"):
            shutil.copytree(cache / name, other.project.cache / name, symlinks=True)
        made = other.run("image", "tiny", "--locked", env={"TZ": "Asia/Tokyo", "LANG": "C"})
    finally:
        os.umask(old)
    assert made.code == 0, made.err
    assert results(other) == results(tiny)


def test_changing_a_file_does_not_install_the_packages_again(tiny: TinyProject) -> None:
    extra = tiny.root / "profiles/tiny.files"
    (extra / "etc").mkdir(parents=True)
    (extra / "etc/motd").write_text("hello\n")
    before = results(tiny)
    tiny.write_profile(PROFILE + "files: tiny.files\n")
    try:
        made = tiny.run("--debug", "image", "tiny")
        assert made.code == 0, made.err
        assert "Resolving" not in made.err
        assert "Fetching" not in made.err
        assert members(tiny.dist() / f"{STEM}.tar.zst")["./etc/motd"][1] == b"hello\n"
        caches = list((tiny.project.cache / "incremental/tiny").iterdir())
        assert len(caches) == 1, "the packages that were installed before are used"
        (extra / "etc/motd").write_text("changed\n")
        assert tiny.run("image", "tiny").code == 0
        assert members(tiny.dist() / f"{STEM}.tar.zst")["./etc/motd"][1] == b"changed\n"
    finally:
        tiny.write_profile()
        shutil.rmtree(extra)
    again = tiny.run("image", "tiny")
    assert again.code == 0
    assert results(tiny) == before
    assert "mkosi" not in again.err, "the first image is still in the cache"


def test_verify_names_what_depends_on_clock_host_name_and_cpus_and_nothing_else(tiny: TinyProject) -> None:
    before = results(tiny)
    script = tiny.root / "mkosi.postoutput"
    good = script.read_text()
    leaks = "".join(
        f'{command} > "$tree/{name}"\ntouch --date=@0 "$tree/{name}"\n'
        for name, command in {"year": "date +%Y", "host": "uname -n", "cpus": "nproc", "id": "id -u"}.items()
    )
    start = "tree=$OUTPUTDIR/$name\n"
    assert start in good
    script.write_text(good.replace(start, f'{start}{leaks}touch --date=@0 "$tree"\n'))
    try:
        outcome = tiny.run("verify", "tiny")
    finally:
        script.write_text(good)
    assert outcome.code == 1, outcome.err
    named = [line.split(":")[0].strip() for line in outcome.err.splitlines() if line.startswith("  ./")]
    effective = {"./year": True, "./host": os.geteuid() == 0, "./cpus": len(os.sched_getaffinity(0)) > 1}
    assert named == sorted(name for name, so in effective.items() if so)
    assert results(tiny) == before
    assert tiny.unfinished() == []


def test_the_inputs_of_a_lock_can_be_carried_to_another_store(tiny: TinyProject, tmp_path: Path) -> None:
    archive = tmp_path / "inputs.tar"
    written = tiny.run("store", "export", "tiny", archive)
    assert written.code == 0, written.err
    other = TinyProject(tiny.root, tmp_path / "cache", tiny.tools)
    taken = other.run("store", "import", archive)
    assert taken.code == 0, taken.err
    assert "the lock of tiny taken in" in taken.out
    mine, its = (p.project.locks / "tiny.standin.lock" for p in (tiny, other))
    assert its.read_bytes() == mine.read_bytes()
    fetched = other.run("fetch", "tiny", "--locked", "--json")
    assert fetched.code == 0, fetched.err
    assert json.loads(fetched.out)["profile"] == "tiny"
    assert "Fetching" not in fetched.err


def test_a_carried_lock_is_built_without_network_and_without_a_stand_in(
    tiny: TinyProject, tmp_path: Path
) -> None:
    archive, dist = tmp_path / "inputs.tar", tmp_path / "dist"
    assert tiny.run("store", "export", "tiny", archive).code == 0
    other = TinyProject(tiny.root, tmp_path / "cache", tiny.tools, {"SEATSMITH_DIST": os.fspath(dist)})
    (other.project.cache / "tools").mkdir(parents=True)
    (other.project.cache / "tools" / tree_key()).symlink_to(tiny.project.cache / "tools" / tree_key())
    taken = other.run("store", "import", archive)
    assert taken.code == 0, taken.err
    cut_off = ["unshare", "--net", "--"] if os.geteuid() == 0 else []  # a user would lose newuidmap by it
    argv = [*cut_off, *other.argv("image", "tiny", "--locked")]
    made = subprocess.run(argv, cwd=tiny.root, env=other.env(), capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr
    assert not (other.project.cache / "standin").exists(), "no stand-in was needed"
    assert {p.name: file_digest(p) for p in (dist / "tiny").iterdir()} == results(tiny)

    shutil.rmtree(other.project.cache / "images")
    shutil.rmtree(other.project.cache / "state")
    place = stored_hello(other)
    place.write_bytes(place.read_bytes()[:-5])
    for found in (r"\d+ bytes, sha256 [0-9a-f]{64}", "nothing"):
        made = subprocess.run(
            argv, cwd=tiny.root, env=other.env(), capture_output=True, text=True, timeout=300
        )
        assert made.returncode == 3, made.stderr
        said = (
            r"is of another machine's stand-in, and the store lacks hello 1\.0-1 .*\n"
            rf"  expected \d+ bytes, sha256 {place.name}\n  found    {found}\nhint: .*store import\n"
        )
        assert re.search(said, made.stderr), made.stderr
        place.unlink(missing_ok=True)
    assert not (other.project.cache / "standin").exists(), "and none was begun"


def test_what_no_lock_names_is_pruned_from_the_store(tiny: TinyProject) -> None:
    store = tiny.project.cache / "store"
    stranger = store / "aa" / ("aa" * 32)
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(b"forgotten")
    os.utime(stranger, (0, 0))
    there = {p for p in store.rglob("*") if p.is_file()}
    assert json.loads(tiny.run("store", "prune", "--dry-run", "--json").out)["files"] == 1
    assert stranger.exists()
    assert tiny.run("store", "prune").out == "1 files, 9 B, removed from the store\n"
    assert {p for p in store.rglob("*") if p.is_file()} == there - {stranger}


def test_nothing_is_pruned_while_a_lock_cannot_be_read(tiny: TinyProject) -> None:
    stranger = tiny.project.cache / "store/bb" / ("bb" * 32)
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(b"forgotten")
    os.utime(stranger, (0, 0))
    damaged = tiny.project.locks / "other.standin.lock"
    damaged.write_text("{")
    try:
        refused = tiny.run("store", "prune")
        assert refused.code == 3
        assert "other.standin.lock" in refused.err
        assert stranger.exists()
    finally:
        damaged.unlink()
        stranger.unlink()


def test_a_damaged_image_in_the_cache_is_built_anew(tiny: TinyProject) -> None:
    before = results(tiny)
    with (tiny.dist() / f"{STEM}.tar.zst").open("r+b") as f:  # dist and cache share the file
        f.write(b"damaged")
    again = tiny.run("image", "tiny")
    assert again.code == 0, again.err
    assert "Building the image" in again.err
    assert results(tiny) == before


def test_locked_refuses_to_make_a_lock(tiny: TinyProject) -> None:
    tiny.write_profile(PROFILE.replace("hello", "hello, bash"), "other")
    refused = tiny.run("image", "other", "--locked")
    assert refused.code == 3
    assert "locks/other.standin.lock does not exist" in refused.err
    assert "hint: make it: seatsmith lock other" in refused.err
    assert not tiny.dist("other").exists()


def test_a_version_that_is_none_is_refused(tiny: TinyProject) -> None:
    for version in ("../evil", "a_b", "1/2", "", "Ü"):
        refused = tiny.run("image", "tiny", "--image-version", version)
        assert refused.code == (0 if not version else 3), version


def test_the_stand_in_made_anew_makes_the_lock_stale(tiny: TinyProject) -> None:
    tiny.publish("extra", [TinyPackage("hello", "1.1-1", depends=("filesystem",)), *others(tiny)])
    refused = tiny.run("image", "tiny", "--locked")
    assert refused.code == 3
    assert "was made for an earlier stand-in" in refused.err
    assert tiny.run("lock", "tiny").code == 0
    assert tiny.run("image", "tiny", "--locked").code == 0
    manifest = json.loads((tiny.dist() / "manifest.json").read_text())
    assert {p["name"]: p["version"] for p in manifest["packages"]}["hello"] == "1.1-1"


def others(tiny: TinyProject) -> list[TinyPackage]:
    """The other packages that the mirror has."""
    names = {p.name.removesuffix("-1.0-1-any.pkg.tar.zst") for p in tiny.repository("extra").glob("*.zst")}
    return [
        TinyPackage(name, depends=("filesystem",)) for name in sorted(names - {"hello"}) if "1.1" not in name
    ]
