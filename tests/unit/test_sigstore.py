"""What is said of a sigstore bundle where its library is missing, and what becomes of an old bundle?"""

import json
from pathlib import Path

import pytest

from builder.cli.publish import pull
from builder.cli.sign import verify_signature
from builder.errors import MachineError, TrustError, UsageError
from builder.outputs import sigstore
from builder.outputs.checksums import BUNDLE, write_checksums
from builder.outputs.sigstore import Identity, check_directory, write_bundle
from builder.outputs.verify import verify_directory
from tests.support.results import write_result

SIGNER = Identity("release@example.org", "https://accounts.example.org")


@pytest.fixture
def result(tmp_path: Path) -> Path:
    write_result(tmp_path / "work")
    (tmp_path / "work" / BUNDLE).write_text("{}")
    return tmp_path / "work"


def test_without_the_library_it_is_said_how_to_get_it(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sigstore, "find_spec", lambda name: None)
    for attempt in (lambda: write_bundle(result), lambda: check_directory(result, SIGNER)):
        with pytest.raises(MachineError) as refused:
            attempt()
        assert "seatsmith[sigstore]" in str(refused.value.hint)


def test_a_bundle_is_no_unlisted_file_and_new_checksums_end_it(result: Path) -> None:
    assert verify_directory(result, keys=[], require_signature=False).problems == []
    write_checksums(result)
    assert not (result / BUNDLE).exists()
    with pytest.raises(TrustError, match=f"no readable {BUNDLE}"):
        check_directory(result, SIGNER)


def test_an_identity_is_asked_for_with_its_issuer_or_not_at_all(result: Path) -> None:
    with pytest.raises(UsageError, match="--sigstore-issuer"):
        verify_signature(result, allow_unsigned=True, sigstore_identity="a@example.org")
    with pytest.raises(UsageError, match="--sigstore-issuer"):
        pull(str(result), "work", key=[result], sigstore_issuer="https://accounts.example.org")


def test_a_result_without_the_demanded_bundle_is_not_ok_for_programs_either(
    result: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (result / BUNDLE).unlink()
    whose = {"sigstore_identity": SIGNER.name, "sigstore_issuer": SIGNER.issuer}
    with pytest.raises(TrustError, match=f"no readable {BUNDLE}"):
        verify_signature(result, allow_unsigned=True, json=True, **whose)
    assert json.loads(capsys.readouterr().out)["ok"] is False
