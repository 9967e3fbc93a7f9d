"""Does a seat take exactly what was published, and nothing that a mirror or an attacker makes of it?"""

import json
import os
import re
import shutil
import tarfile
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from builder.errors import InputError, MachineError, SeatsmithError, TrustError
from builder.outputs import sigstore
from builder.outputs.checksums import BUNDLE, SUMS, write_checksums
from builder.outputs.provenance import GitState
from builder.outputs.release import mark_test_release
from builder.outputs.sign import sign_checksums, sign_file
from builder.outputs.sigstore import Identity
from builder.outputs.verify import Report
from builder.publish import freshness, index, site
from builder.publish.index import index_text, parse_index
from builder.publish.site import Terms, publish
from builder.standin.server import serve
from builder.tools import Tools
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.publisher import FIRST, SECOND, Publisher
from tests.support.results import bomb, entry, pack, record, tree, write_result

pytestmark = pytest.mark.tools


@pytest.fixture
def publisher(tmp_path: Path, release: TestKey, tools: Tools) -> Publisher:
    made = Publisher(tmp_path, release)
    made.publish(FIRST)
    return made


def test_what_is_published_arrives_over_http_as_it_was_signed(publisher: Publisher) -> None:
    with serve(publisher.root) as url:
        pulled = publisher.pull(url)
    names = sorted(p.name for p in publisher.seat.iterdir())
    assert names == sorted(p.name for p in publisher.release().iterdir())
    for name in names:
        assert (publisher.seat / name).read_bytes() == (publisher.release() / name).read_bytes()
    assert (pulled.release.version, pulled.release.release) == (FIRST, 1)
    assert not list(publisher.seat.parent.glob(".*.part"))


def test_a_demanded_sigstore_bundle_is_checked_before_the_image_and_kept(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who the bundle is of, sigstore's library says in test_sigstore.py."""
    asked: list[tuple[bytes, bytes, Identity]] = []
    monkeypatch.setattr(sigstore, "find_spec", lambda name: True)
    monkeypatch.setattr(sigstore, "check_bundle", lambda *given: asked.append(given))
    signer = Identity("release@example.org", "https://accounts.example.org")
    with pytest.raises(MachineError, match=r"sigstore bundle of release@example\.org cannot be fetched"):
        publisher.pull(identity=signer)
    assert not publisher.seat.exists() and not asked
    (publisher.release() / BUNDLE).write_bytes(b"{}")
    publisher.pull(identity=signer)
    assert asked == [((publisher.release() / SUMS).read_bytes(), b"{}", signer)]
    assert (publisher.seat / BUNDLE).read_bytes() == b"{}"


def test_a_second_release_is_the_current_one_and_comes_with_a_diff(publisher: Publisher) -> None:
    made = publisher.publish(SECOND)
    assert [r.version for r in made.profiles["work"]] == [SECOND, FIRST]
    newest = made.profiles["work"][0]
    assert (publisher.root / "work" / newest.diff).read_text().startswith("<!")
    assert publisher.pull().release.version == SECOND


def test_every_link_of_the_pages_leads_somewhere(publisher: Publisher, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    picture = '<a href="pictures/a.png"><img src="data:image/png;base64,AAAA"></a>'
    report.write_text(f'<a href="https://example.org/">about</a><a href="#boot">boot</a>{picture}')
    publisher.publish(FIRST)
    publisher.publish(SECOND, report=report)
    for html in publisher.root.rglob("*.html"):
        links = re.findall(r'href="([^"#:]+)"', html.read_text())
        assert [link for link in links if not (html.parent / link).is_file()] == [], html
    page = (publisher.root / "index.html").read_text()
    (shown,) = (publisher.root / link for link in re.findall(r'href="([^"]+report.html)"', page))
    assert shown.read_text() == report.read_text().replace('<a href="pictures/a.png">', "<a>")
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "what changed · boot test · packages · SPDX · CycloneDX · provenance · checksums" in words
    assert "signature · lock" in words
    assert re.search(r"root filesystem \d+ B ?host bundle \d+ B", words)
    assert publisher.key.fingerprint in words
    assert (SECOND in words, FIRST in words) == (True, True)


def test_a_published_version_never_changes(publisher: Publisher) -> None:
    with pytest.raises(InputError, match="already published with other files"):
        publisher.publish(FIRST, image=tree("./etc/other"))


def test_only_as_many_releases_stay_as_were_asked_for(publisher: Publisher) -> None:
    publisher.publish(SECOND)
    publish(publisher.root, [], publisher.terms(keep=1))
    assert not publisher.release(FIRST).exists()
    assert publisher.release(SECOND).is_dir()


def test_a_result_signed_by_a_stranger_is_not_published(publisher: Publisher, make_key: KeyMaker) -> None:
    with pytest.raises(TrustError):
        publisher.publish(SECOND, key=make_key("stranger-publisher"))
    assert not publisher.release(SECOND).exists()


def test_an_index_is_signed_by_no_key_that_nobody_was_told_of(
    publisher: Publisher, make_key: KeyMaker
) -> None:
    """No seat would believe it, nor would the next run carry it on."""
    before = (publisher.root / "index.json").read_bytes()
    terms = Terms(str(make_key("unknown-index").secret), [publisher.key.public.read_bytes()])
    with pytest.raises(TrustError, match="is not among the release keys"):
        publish(publisher.root, [], terms)
    assert (publisher.root / "index.json").read_bytes() == before


def test_a_directory_of_another_publisher_is_not_carried_on(
    publisher: Publisher, make_key: KeyMaker
) -> None:
    other = Publisher(publisher.place, make_key("other-publisher"))
    with pytest.raises(TrustError, match="is not ours"):
        publish(publisher.root, [], other.terms())


def test_an_image_changed_on_the_mirror_is_refused(publisher: Publisher) -> None:
    image = publisher.release() / f"work_{FIRST}_x86-64.tar.zst"
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    publisher.refused(image.name)


def test_an_image_cut_short_is_refused(publisher: Publisher) -> None:
    image = publisher.release() / f"work_{FIRST}_x86-64.tar.zst"
    image.write_bytes(image.read_bytes()[:-5])
    with pytest.raises(SeatsmithError, match="bytes"):
        publisher.pull()
    assert not publisher.seat.exists()


def test_an_index_without_its_signature_is_refused(publisher: Publisher) -> None:
    found = parse_index((publisher.root / "index.json").read_bytes())
    longer = found.model_copy(update={"expires": found.expires + timedelta(days=999)})
    (publisher.root / "index.json").write_text(index_text(longer))
    publisher.refused("index.json")


def test_an_index_signed_by_a_stranger_is_refused(publisher: Publisher, make_key: KeyMaker) -> None:
    sign_file(
        publisher.root / "index.json",
        publisher.root / "index.json.gpg",
        str(make_key("index-stranger").secret),
    )
    publisher.refused("index.json")


def test_an_index_by_a_key_that_was_revoked_since_is_refused(
    tmp_path: Path, make_key: KeyMaker, tools: Tools
) -> None:
    key = make_key("index-leaked")
    leaked = Publisher(tmp_path, key)
    leaked.publish(FIRST)
    assert leaked.pull().release.version == FIRST
    key.public.write_bytes(make_key.revoked(key))
    leaked.refused("a key that was revoked")


def test_an_expired_index_is_refused(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    late = index.now() + timedelta(days=31)
    monkeypatch.setattr(freshness, "now", lambda: late)
    publisher.refused("expired on")
    monkeypatch.undo()
    assert publisher.pull().release.version == FIRST


def test_an_index_of_the_future_is_refused(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    def tomorrow() -> datetime:
        return index.now() + timedelta(days=3)

    monkeypatch.setattr(site, "now", tomorrow)
    publisher.publish(None)
    publisher.refused("in the future")


def test_a_mirror_that_goes_back_in_time_is_found_out(publisher: Publisher) -> None:
    old = publisher.place / "old"
    shutil.copytree(publisher.root, old)
    publisher.publish(SECOND)
    publisher.pull()
    shutil.rmtree(publisher.root)
    old.rename(publisher.root)
    publisher.refused("has been seen before")
    assert publisher.pull(allow_older=True).release.version == FIRST


def test_an_older_release_of_a_current_index_needs_to_be_meant(publisher: Publisher) -> None:
    publisher.publish(SECOND)
    publisher.pull()
    publisher.refused("is older than 2026.11.08 (release 2), which was pulled before", version=FIRST)
    assert publisher.pull(version=FIRST, allow_older=True).release.version == FIRST


def test_a_release_under_the_number_of_another_is_refused(publisher: Publisher) -> None:
    publisher.pull()
    shutil.rmtree(publisher.root)
    publisher.publish(FIRST, image=tree("./etc/evil"))
    publisher.publish(None)
    publisher.refused("is not what was published under that number before")


def test_checksums_that_the_index_does_not_name_are_refused(publisher: Publisher) -> None:
    publisher.publish(SECOND)
    for name in ("SHA256SUMS", "SHA256SUMS.gpg"):
        shutil.copy(publisher.release(FIRST) / name, publisher.release(SECOND) / name)
    publisher.refused("not the one that the index names")


def test_a_standin_image_needs_consent_on_both_sides(publisher: Publisher) -> None:
    result = publisher.place / "standin"
    write_result(result, record(version="2026.11.09-standin", source="standin"))
    sign_checksums(result, str(publisher.key.secret))
    with pytest.raises(TrustError, match="built from the standin"):
        publish(publisher.root, [result], publisher.terms())
    publish(publisher.root, [result], publisher.terms(allow_standin=True))
    publisher.refused("built from the standin")
    assert publisher.pull(allow_standin=True).release.source == "standin"


def test_a_test_release_needs_the_same_consent(publisher: Publisher) -> None:
    result = publisher.place / "test"
    write_result(result, record(version=SECOND))
    mark_test_release(result)
    sign_checksums(result, str(publisher.key.secret))
    with pytest.raises(TrustError, match="is a test release"):
        publish(publisher.root, [result], publisher.terms())
    publish(publisher.root, [result], publisher.terms(allow_standin=True))
    publisher.refused("is a test release")
    assert publisher.pull(allow_standin=True).release.version == SECOND


def test_an_image_of_a_dirty_checkout_needs_consent(publisher: Publisher) -> None:
    publisher.publish(SECOND, git=replace(GitState("0" * 40, False), dirty=True))
    publisher.refused("uncommitted changes")
    assert publisher.pull(allow_dirty=True).release.version == SECOND


def test_rebuilders_are_counted_before_an_image_is_taken(publisher: Publisher) -> None:
    publisher.refused("rebuil", rebuilders=1)


@pytest.mark.parametrize(
    "member",
    [
        entry("../../etc/passwd"),
        entry("/etc/passwd"),
        entry("./etc/link/../../../passwd"),
        entry("./etc/out", tarfile.SYMTYPE, target="../../etc/shadow"),
        entry("./etc/out", tarfile.LNKTYPE, target="/etc/shadow"),
        entry("./etc/sda", tarfile.BLKTYPE),
        entry("./etc/mem", tarfile.CHRTYPE),
    ],
    ids=["dots", "absolute", "dots inside", "link", "hard link", "disk", "memory"],
)
def test_a_signed_archive_that_reaches_outside_is_still_refused(
    publisher: Publisher, member: tarfile.TarInfo
) -> None:
    publisher.publish(SECOND, image=pack(entry("./etc/os-release"), member))
    publisher.refused(member.name)


def test_a_signed_decompression_bomb_is_refused_by_the_seat_and_by_a_publisher_who_compares(
    tmp_path: Path, release: TestKey, tools: Tools, publisher: Publisher
) -> None:
    with pytest.raises(TrustError, match="no plausible image"):
        publisher.publish(SECOND, image=bomb())
    evil = Publisher(tmp_path / "evil", release)
    evil.publish(FIRST, image=bomb())
    evil.refused("no plausible image")


def test_a_broken_transfer_leaves_what_was_there(publisher: Publisher) -> None:
    publisher.pull()
    before = {p.name: p.read_bytes() for p in publisher.seat.iterdir()}
    publisher.publish(SECOND)
    (publisher.release(SECOND) / f"work_{SECOND}_x86-64.tar.zst").unlink()
    with pytest.raises(SeatsmithError):
        publisher.pull()
    assert {p.name: p.read_bytes() for p in publisher.seat.iterdir()} == before


def test_a_lost_memory_of_what_was_seen_is_an_error_and_not_a_first_time(publisher: Publisher) -> None:
    publisher.pull()
    publisher.state.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        publisher.pull()


def test_the_memory_names_release_and_publisher(publisher: Publisher) -> None:
    publisher.pull()
    (known,) = json.loads(publisher.state.read_text()).values()
    assert known["url"] == str(publisher.root)
    assert known["releases"]["work"]["version"] == FIRST


def test_an_index_that_is_a_link_out_of_a_local_mirror_is_not_followed(
    publisher: Publisher, tmp_path: Path
) -> None:
    index = publisher.root / "index.json"
    secret = tmp_path / "secret"
    index.rename(secret)
    index.symlink_to(secret)
    publisher.refused("is no file of the published directory")
    index.unlink()
    index.symlink_to("/dev/zero")
    publisher.refused("is no file of the published directory")


def test_a_pipe_in_a_local_mirror_does_not_keep_a_seat_waiting(publisher: Publisher) -> None:
    image = publisher.release() / f"work_{FIRST}_x86-64.tar.zst"
    image.unlink()
    os.mkfifo(image)
    publisher.refused("is no file of the published directory")


def test_a_publisher_replaces_a_link_for_an_index_and_not_what_it_points_to(
    publisher: Publisher, tmp_path: Path
) -> None:
    index, other = publisher.root / "index.json", tmp_path / "other"
    index.rename(other)
    before = other.read_bytes()
    index.symlink_to(other)
    publisher.publish(SECOND)
    assert other.read_bytes() == before
    assert not index.is_symlink()


def test_a_signed_release_whose_provenance_names_another_lock_is_refused(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the publisher, and if he was made to publish it, by the seat."""
    result = publisher.place / "dist" / SECOND
    write_result(result, record(version=SECOND))
    (result / "work.lock").write_text('{"profile": "work"}\n')
    write_checksums(result)
    sign_checksums(result, str(publisher.key.secret))
    with pytest.raises(TrustError, match="names another lock"):
        publish(publisher.root, [result], publisher.terms())
    forced = Report(result, profile="work", version=SECOND, source="upstream")
    monkeypatch.setattr(site, "verified", lambda *_: forced)
    publish(publisher.root, [result], publisher.terms())
    publisher.refused("names another lock than the one here")


def test_a_frozen_mirror_is_noticed_when_its_index_runs_out(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror that shows the first release for ever, while the publisher has long gone on."""
    frozen = tmp_path / "frozen"
    shutil.copytree(publisher.root, frozen)
    publisher.publish(SECOND)
    assert publisher.pull(str(frozen)).release.version == FIRST, "it cannot be told yet"
    monkeypatch.setattr(freshness, "now", lambda: index.now() + timedelta(days=31))
    with pytest.raises(TrustError, match="the mirror may be holding updates back"):
        publisher.pull(str(frozen))
