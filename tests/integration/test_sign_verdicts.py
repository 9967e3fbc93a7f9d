"""Is a result believed exactly when a trusted key in good standing signed it?"""

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from builder.errors import InputError, TrustError
from builder.outputs.checksums import write_checksums
from builder.outputs.gpg import Keyring
from builder.outputs.sign import Verdict, check_signature, sign_checksums, sign_file
from builder.outputs.verify import Report, verify_directory
from builder.tools import Tools
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.results import record, write_result

pytestmark = pytest.mark.tools


@pytest.fixture
def signed(tmp_path: Path, release: TestKey) -> Path:
    write_result(tmp_path / "work")
    sign_checksums(tmp_path / "work", str(release.secret))
    return tmp_path / "work"


def verify(directory: Path, *keys: Path | bytes, **how: object) -> Report:
    contents = [k if isinstance(k, bytes) else k.read_bytes() for k in keys]
    return verify_directory(directory, keys=contents, **how)  # type: ignore[arg-type]


def test_a_signed_result_is_believed(signed: Path, release: TestKey) -> None:
    report = verify(signed, release.public, profile="work")
    assert report.problems == []
    assert report.signature is not None
    assert report.signature.fingerprint == release.fingerprint
    assert (report.profile, report.version, report.source) == ("work", "2026.11.01", "upstream")


def test_keys_are_read_below_a_path_that_no_socket_could_have(
    tools: Tools, release: TestKey, tmp_path: Path
) -> None:
    """107 bytes at most (unix(7)): a cache may lie deeper, and gpg wants a socket in its home."""
    home = tmp_path.joinpath(*["a-long-name-of-a-directory"] * 5)
    home.mkdir(parents=True, mode=0o700)
    ring = Keyring(tools, home, agent=False)
    ring.gpg(["--import"], stdin=release.public.read_bytes())
    ring.gpg(["--import-ownertrust"], stdin=f"{release.fingerprint}:6:\n".encode())
    ring.gpg(["--check-trustdb"])
    assert [key.fingerprint for key in ring.public_keys()] == [release.fingerprint]


def test_an_unsigned_result_is_refused_unless_asked_for(tmp_path: Path, release: TestKey) -> None:
    write_result(tmp_path / "work")
    assert verify(tmp_path / "work", release.public).problems == [
        "it is not signed: there is no SHA256SUMS.gpg"
    ]
    assert verify(tmp_path / "work", require_signature=False).ok


def test_a_changed_image_is_refused_with_both_digests(signed: Path, release: TestKey) -> None:
    (signed / "work_2026.11.01_x86-64.tar.zst").write_bytes(b"an imagE")
    (problem,) = verify(signed, release.public).problems
    assert problem.startswith("work_2026.11.01_x86-64.tar.zst: has been changed")
    assert len(re.findall(r"\b[0-9a-f]{64}\b", problem)) == 2


def test_a_truncated_image_is_refused(signed: Path, release: TestKey) -> None:
    image = signed / "work_2026.11.01_x86-64.tar.zst"
    os.truncate(image, 3)
    (problem,) = verify(signed, release.public).problems
    assert "cut short (3 bytes)" in problem


def test_changed_checksums_are_refused_before_anything_is_read(signed: Path, release: TestKey) -> None:
    (signed / "work_2026.11.01_x86-64.tar.zst").write_bytes(b"evil")
    signature = (signed / "SHA256SUMS.gpg").read_bytes()
    write_checksums(signed)
    (signed / "SHA256SUMS.gpg").write_bytes(signature)
    report = verify(signed, release.public)
    assert report.signature is not None and report.signature.verdict is Verdict.BAD
    assert report.digests == {}
    assert len(report.problems) == 1


def test_a_missing_and_an_added_file_are_named(signed: Path, release: TestKey) -> None:
    (signed / "work_2026.11.01_x86-64.host.tar.zst").unlink()
    (signed / "extra.sh").write_text("rm -rf /\n")
    problems = verify(signed, release.public).problems
    assert problems == [
        "extra.sh: is not listed in SHA256SUMS",
        "work_2026.11.01_x86-64.host.tar.zst: is listed in SHA256SUMS, but missing",
    ]


def test_a_link_in_place_of_a_file_is_refused(signed: Path, release: TestKey) -> None:
    image = signed / "work_2026.11.01_x86-64.tar.zst"
    image.rename(signed.parent / "elsewhere")
    image.symlink_to("../elsewhere")
    assert "is not a plain file" in verify(signed, release.public).problems[0]


def test_a_key_that_nobody_named_is_refused_with_its_fingerprint(signed: Path, make_key: KeyMaker) -> None:
    stranger = make_key("stranger")
    report = verify(signed, stranger.public)
    assert report.signature is not None and report.signature.verdict is Verdict.UNKNOWN_KEY
    assert report.signature.fingerprint
    assert "not one of the trusted keys" in report.problems[0]


def test_an_expired_key_is_refused_with_id_and_date(tmp_path: Path, make_key: KeyMaker) -> None:
    old = make_key.made_in_2020("old")
    write_result(tmp_path)
    make_key.sign_in_2020(old, tmp_path / "SHA256SUMS", tmp_path / "SHA256SUMS.gpg")
    (problem,) = verify(tmp_path, old.public).problems
    assert old.fingerprint in problem
    assert "a key that expired on 2020-01-02" in problem


def test_an_expired_key_cannot_sign(tmp_path: Path, make_key: KeyMaker) -> None:
    old = make_key.made_in_2020("older")
    write_result(tmp_path)
    with pytest.raises(InputError, match="cannot sign"):
        sign_checksums(tmp_path, str(old.secret))
    assert not (tmp_path / "SHA256SUMS.gpg").exists()


def test_a_revoked_key_is_refused_even_beside_its_unrevoked_copy(tmp_path: Path, make_key: KeyMaker) -> None:
    leaked = make_key("leaked")
    write_result(tmp_path / "work")
    sign_checksums(tmp_path / "work", str(leaked.secret))
    assert verify(tmp_path / "work", leaked.public).ok
    revoked = make_key.revoked(leaked)
    for keys in ([revoked], [leaked.public, revoked], [revoked, leaked.public]):
        (problem,) = verify(tmp_path / "work", *keys).problems
        assert leaked.fingerprint in problem
        assert re.search(r"a key that was revoked on \d{4}-\d\d-\d\d", problem)


def test_during_a_rotation_either_key_is_good(signed: Path, release: TestKey, make_key: KeyMaker) -> None:
    following = make_key("following")
    assert verify(signed, following.public, release.public).ok
    sign_checksums(signed, str(following.secret))
    assert verify(signed, release.public, following.public).ok
    assert not verify(signed, release.public).ok


def test_another_image_under_this_name_is_refused(signed: Path, release: TestKey, tmp_path: Path) -> None:
    private = tmp_path / "private"
    write_result(private, record("private"))
    sign_checksums(private, str(release.secret))
    assert verify(private, release.public).ok
    assert verify(private, release.public, profile="work").problems == [
        "it is an image of 'private', not of 'work'"
    ]
    for end in ("tar.zst", "host.tar.zst"):
        shutil.copy(private / f"private_2026.11.01_x86-64.{end}", signed / f"work_2026.11.01_x86-64.{end}")
    shutil.copy(private / "SHA256SUMS", signed)
    shutil.copy(private / "SHA256SUMS.gpg", signed)
    assert (
        "work_2026.11.01_x86-64.tar.zst: is not listed in SHA256SUMS"
        in verify(signed, release.public).problems
    )


def test_a_renamed_image_of_another_version_is_refused(tmp_path: Path, release: TestKey) -> None:
    write_result(tmp_path)
    (tmp_path / "work_2026.11.01_x86-64.tar.zst").rename(tmp_path / "work_2027.01.01_x86-64.tar.zst")
    write_checksums(tmp_path)
    sign_checksums(tmp_path, str(release.secret))
    problems = verify(tmp_path, release.public).problems
    assert "work_2027.01.01_x86-64.tar.zst: manifest.json says work 2026.11.01" in problems


def test_a_provenance_naming_another_lock_is_refused(tmp_path: Path, release: TestKey) -> None:
    write_result(tmp_path)
    (tmp_path / "work.lock").write_text('{"profile": "work"}\n')
    write_checksums(tmp_path)
    sign_checksums(tmp_path, str(release.secret))
    assert verify(tmp_path, release.public).problems == [
        "provenance.json names another lock than the one here"
    ]


def test_an_empty_or_foreign_signature_file_is_refused(signed: Path, release: TestKey) -> None:
    for data in (b"", b"hello", release.public.read_bytes(), b"\x00" * 1000):
        (signed / "SHA256SUMS.gpg").write_bytes(data)
        assert "no readable OpenPGP signature" in verify(signed, release.public).problems[0]


def test_two_signatures_in_one_file_are_refused(signed: Path, release: TestKey) -> None:
    signature = signed / "SHA256SUMS.gpg"
    signature.write_bytes(signature.read_bytes() * 2)
    assert not verify(signed, release.public).ok


def test_a_file_without_a_key_is_not_a_trusted_key(signed: Path) -> None:
    with pytest.raises(TrustError, match="no usable OpenPGP key"):
        verify(signed, b"not a key")


def test_a_key_is_read_from_a_file_descriptor(tmp_path: Path, release: TestKey) -> None:
    write_result(tmp_path)
    with release.secret.open("rb") as f:
        made = sign_checksums(tmp_path, f"fd:{f.fileno()}")
    assert made.fingerprint == release.fingerprint


def test_a_secret_key_that_others_can_read_is_warned_of(
    signed: Path, release: TestKey, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key.asc"
    key.write_bytes(release.secret.read_bytes())
    for mode, warned in ((0o600, False), (0o644, True)):
        key.chmod(mode)
        sign_checksums(signed, str(key))
        assert ("others can read the secret in" in capfd.readouterr().err) == warned


def test_a_passphrase_comes_from_a_file(
    tmp_path: Path, make_key: KeyMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = make_key("locked", passphrase="open sesame")
    write_result(tmp_path / "work")
    with pytest.raises(InputError, match="cannot sign"):
        sign_checksums(tmp_path / "work", str(locked.secret))
    (tmp_path / "passphrase").write_text("open sesame\n")
    monkeypatch.setenv("SIGNING_PASSPHRASE", str(tmp_path / "passphrase"))
    assert sign_checksums(tmp_path / "work", str(locked.secret)).good


def test_a_fingerprint_means_a_key_of_the_users_agent(
    tmp_path: Path, make_key: KeyMaker, release: TestKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(make_key.ring.home))
    write_result(tmp_path)
    assert sign_checksums(tmp_path, release.fingerprint).fingerprint == release.fingerprint


def test_a_file_with_two_secret_keys_is_refused(
    tmp_path: Path, make_key: KeyMaker, release: TestKey
) -> None:
    other = make_key("second")
    both = tmp_path / "both.asc"
    both.write_bytes(release.secret.read_bytes() + other.secret.read_bytes())
    (tmp_path / "data").write_text("x")
    with pytest.raises(InputError, match="holds 2 secret keys"):
        sign_file(tmp_path / "data", tmp_path / "sig", str(both))


def test_a_public_key_is_no_signing_key(tmp_path: Path, release: TestKey) -> None:
    (tmp_path / "data").write_text("x")
    with pytest.raises(InputError, match="holds 0 secret keys"):
        sign_file(tmp_path / "data", tmp_path / "sig", str(release.public))


def test_signing_leaves_no_agent_and_no_key_behind(
    tmp_path: Path,
    release: TestKey,
    caplog: pytest.LogCaptureFixture,
    tools: Tools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    homes: list[str] = []

    def recorded(*args: Any, **kwargs: Any) -> str:
        homes.append(mkdtemp(*args, **kwargs))
        return homes[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", recorded)
    caplog.set_level("DEBUG")
    write_result(tmp_path)
    sign_checksums(tmp_path, str(release.secret))
    assert homes
    assert not [home for home in homes if Path(home).exists() or named_by_processes(home)]
    secret = release.secret.read_text().split("\n\n")[1].splitlines()[0]
    assert caplog.text and secret not in caplog.text


def test_a_good_signature_of_other_data_is_bad(tmp_path: Path, release: TestKey, tools: Tools) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    sign_file(tmp_path / "a", tmp_path / "a.sig", str(release.secret))
    found = check_signature(tmp_path / "b", (tmp_path / "a.sig").read_bytes(), [release.public.read_bytes()])
    assert found.verdict is Verdict.BAD


def named_by_processes(home: str) -> bool:
    """Whether a process, such as an agent, was started for that directory."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(home) in process.read_bytes():
                return True
    return False
