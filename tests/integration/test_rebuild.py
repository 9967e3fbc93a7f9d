"""Does a rebuild from an image's own papers tell the truth, and are rebuilders counted as they should be?"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import InputError, TrustError
from builder.files import file_digest, remove_tree
from builder.outputs.checksums import parse_checksums, write_checksums
from builder.outputs.sign import sign_checksums, sign_file
from builder.outputs.statement import write_statement
from builder.publish.index import now
from builder.publish.papers import signed_papers
from builder.publish.pull import Policy, pull
from builder.publish.site import Terms, publish
from builder.publish.statements import read_statements, verify_vouched
from builder.tools import Tools
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.results import CLEAN, write_result
from tests.support.tinyproject import PROFILE, TinyProject, make_project

pytestmark = pytest.mark.tools

STEM = "tiny_2026.11.01-standin_x86-64"


@pytest.fixture(scope="module")
def tiny(tools: Tools, release: TestKey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyProject]:
    """A project whose image has been built and signed."""
    place = tmp_path_factory.mktemp("rebuild")
    tiny = make_project(place / "checkout", place / "cache", tools)
    made = tiny.run("image", "tiny", env={"SIGNING_KEY": str(release.secret)})
    assert made.code == 0, made.err
    yield tiny
    remove_tree(place)


@pytest.fixture(scope="module")
def other(make_key: KeyMaker) -> TestKey:
    return make_key("rebuilder")


def test_a_published_image_is_rebuilt_vouched_for_and_pulled_because_of_that(
    tiny: TinyProject, release: TestKey, other: TestKey, tmp_path: Path, tools: Tools
) -> None:
    keys = [release.public.read_bytes()]
    terms = Terms(str(release.secret), keys, allow_standin=True)
    site, statements = tmp_path / "www", tmp_path / "statements"
    publish(site, [tiny.dist()], terms, tools=tools)
    made = tiny.run(
        "rebuild", site, "tiny", "--key", release.public, "--into", statements, "--signing-key", other.secret
    )
    assert made.code == 0, made.err
    assert "the rebuild is bit-identical" in made.out
    assert "a clock 400 days ahead" in made.out
    (statement,) = statements.glob("*.rebuild.json")
    said = json.loads(statement.read_text())
    assert {s["name"]: s["digest"]["sha256"] for s in said["subject"]} == {
        f"{STEM}{end}": file_digest(tiny.dist() / f"{STEM}{end}") for end in (".tar.zst", ".host.tar.zst")
    }
    assert said["predicate"]["lock"]["sha256"] == file_digest(tiny.dist() / f"{STEM}.lock")

    index = publish(site, [], terms, statements=read_statements([statements]), tools=tools)
    assert index.latest("tiny").rebuilds == [statement.name]

    def fetch(number: int) -> list[str]:
        policy = Policy(
            allow_standin=True,
            allow_dirty=True,
            rebuilders=number,
            rebuilder_keys=[other.public.read_bytes(), *keys],
        )
        seat, state = tmp_path / "seat/tiny", tmp_path / "state.json"
        return list(pull(str(site), "tiny", seat, keys=keys, state=state, policy=policy).rebuilders)

    with pytest.raises(TrustError, match="1 independent rebuilders"):
        fetch(2)
    assert not (tmp_path / "seat/tiny").exists()
    assert fetch(1) == [other.fingerprint]


def test_an_image_that_does_not_come_out_of_its_lock_is_not_vouched_for(
    tiny: TinyProject, release: TestKey, other: TestKey, tmp_path: Path
) -> None:
    """A publisher who signs another image than the one his papers describe."""
    result = tmp_path / "tiny"
    shutil.copytree(tiny.dist(), result)
    image = result / f"{STEM}.tar.zst"
    true = file_digest(image)
    image.write_bytes((result / f"{STEM}.host.tar.zst").read_bytes())
    for paper in ("manifest.json", "provenance.json"):
        text = (result / paper).read_text()
        (result / paper).write_text(text.replace(true, file_digest(image)))
    write_checksums(result)
    sign_checksums(result, str(release.secret))
    made = tiny.run(
        "rebuild", result, "--key", release.public, "--into", tmp_path / "out", "--signing-key", other.secret
    )
    assert made.code == 1
    assert f"{STEM}.tar.zst: published {file_digest(image)}, rebuilt {true}" in made.err
    assert "does not come out the same" in made.err
    assert not (tmp_path / "out").exists()


def test_a_checkout_with_another_profile_is_told_so_before_it_builds(
    tiny: TinyProject, release: TestKey
) -> None:
    tiny.write_profile(PROFILE + "hostname: other\n")
    try:
        made = tiny.run("rebuild", tiny.dist(), "--key", release.public)
    finally:
        tiny.write_profile()
    assert made.code == 3
    assert "was built from others than this checkout's profiles/tiny.yaml" in made.err
    assert "Building" not in made.err


def test_papers_are_read_only_below_a_good_signature(
    tmp_path: Path, release: TestKey, other: TestKey, tools: Tools
) -> None:
    keys = [release.public.read_bytes()]
    result = tmp_path / "work"
    write_result(result)
    sign_checksums(result, str(other.secret))
    with pytest.raises(TrustError, match="not one of the trusted keys"):
        signed_papers(str(result), None, tmp_path / "a", keys=keys, tools=tools)
    sign_checksums(result, str(release.secret))
    (result / "work.lock").write_text("{}")
    with pytest.raises(TrustError, match=r"work\.lock is missing or not the one"):
        signed_papers(str(result), None, tmp_path / "b", keys=keys, tools=tools)
    (result / "work.lock").unlink()
    (result / "work.lock").symlink_to("/etc/passwd")
    with pytest.raises(TrustError, match="no plain file"):
        signed_papers(str(result), None, tmp_path / "c", keys=keys, tools=tools)


def stated(place: Path, name: str, result: Path, key: TestKey, *, digest: str | None = None) -> None:
    """A statement about a result, or about another image if ``digest`` is given."""
    digests = parse_checksums((result / "SHA256SUMS").read_bytes())
    if digest:
        digests = {**digests, "work_2026.11.01_x86-64.tar.zst": digest}
    place.mkdir(exist_ok=True)
    path = place / f"{name}.rebuild.json"
    write_statement(
        path, digests, profile="work", version="2026.11.01", lock="0" * 64, git=CLEAN, when=now()
    )
    sign_file(path, place / f"{path.name}.gpg", str(key.secret))


def test_each_rebuilder_counts_once_and_only_for_the_same_bits(
    tmp_path: Path, release: TestKey, other: TestKey, make_key: KeyMaker, tools: Tools
) -> None:
    third, stranger = make_key("third"), make_key("unknown-rebuilder")
    result, place = tmp_path / "work", tmp_path / "statements"
    write_result(result)
    sign_checksums(result, str(release.secret))
    stated(place, "one", result, other)
    stated(place, "one-again", result, other)
    stated(place, "publisher", result, release)
    stated(place, "unknown", result, stranger)
    stated(place, "another-image", result, third, digest="1" * 64)

    def count(number: int) -> list[str]:
        trusted = [k.public.read_bytes() for k in (other, third, release)]
        return verify_vouched(
            result,
            keys=[release.public.read_bytes()],
            statements=[place],
            rebuilder_keys=trusted,
            number=number,
            tools=tools,
        )[1]

    assert count(1) == [other.fingerprint]
    with pytest.raises(TrustError, match="2 are required"):
        count(2)
    stated(place, "third", result, third)
    assert count(2) == sorted([other.fingerprint, third.fingerprint])


def test_a_statement_about_nothing_that_is_published_is_not_taken(
    tmp_path: Path, release: TestKey, other: TestKey, tools: Tools
) -> None:
    result = tmp_path / "work"
    write_result(result)
    sign_checksums(result, str(release.secret))
    stated(tmp_path / "statements", "other", result, other, digest="2" * 64)
    terms = Terms(str(release.secret), [release.public.read_bytes()])
    with pytest.raises(InputError, match="about no image that is published"):
        publish(
            tmp_path / "www",
            [result],
            terms,
            statements=read_statements([tmp_path / "statements"]),
            tools=tools,
        )
