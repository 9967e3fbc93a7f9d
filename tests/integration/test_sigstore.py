"""Is a bundle of the real Fulcio and Rekor believed, by whom it is and for what? (make test-registry)

It lies among the test data of pypi-attestations; the release job of a project at GitHub made it.
"""

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.errors import InputError, MachineError, TrustError
from builder.files import atomic_path
from builder.outputs.sigstore import Identity, check_bundle, check_directory, write_bundle
from builder.project import cache_home
from tests.support.extras import extra_packages
from tests.support.gpgkeys import TestKey
from tests.support.publisher import FIRST, Publisher
from tests.support.results import write_result

pytestmark = pytest.mark.registry

WANTED = ("sigstore>=4",)
SOURCE = "pypi-attestations==0.0.30"
SHA256 = "14ff13c76bbef02a483c2b77532da02bfd746b5141b881f355e06b9807434423"
SIGNED = "pypi_attestation_models-0.0.4a2.tar.gz"
SIGNER = Identity(
    "https://github.com/trailofbits/pypi-attestation-models/.github/workflows/release.yml@refs/tags/v0.0.4a2",
    "https://token.actions.githubusercontent.com",
)
NOBODY = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Real:
    data: bytes
    bundle: bytes


@pytest.fixture(scope="module")
def library() -> Iterator[Path]:
    with extra_packages("sigstore-for-tests", WANTED) as place:
        yield place


@pytest.fixture(scope="module")
def real(library: Path) -> Real:
    place = cache_home() / "bundle-for-tests"
    if not place.is_dir():
        with atomic_path(place) as made:
            made.mkdir(parents=True)
            argv = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
            subprocess.run([*argv, "-d", made, SOURCE], check=True)
    (source,) = place.glob("*.tar.gz")
    assert hashlib.sha256(source.read_bytes()).hexdigest() == SHA256
    with tarfile.open(source) as tar:
        folder = f"{source.name.removesuffix('.tar.gz')}/test/assets"
        found = [tar.extractfile(f"{folder}/{SIGNED}{suffix}") for suffix in ("", ".sigstore")]
        data, bundle = (member.read() for member in found if member)
    return Real(data, bundle)


def test_a_bundle_is_believed_for_what_it_signs_and_by_whom(real: Real, tmp_path: Path) -> None:
    check_bundle(real.data, real.bundle, SIGNER)
    (tmp_path / "SHA256SUMS").write_bytes(real.data)
    (tmp_path / "SHA256SUMS.sigstore.json").write_bytes(real.bundle)
    check_directory(tmp_path, SIGNER)


@pytest.mark.parametrize(
    "other",
    [
        Identity(SIGNER.name.replace("v0.0.4a2", "v0.0.4a3"), SIGNER.issuer),
        Identity(SIGNER.name, "https://accounts.example.org"),
        Identity("trailofbits", SIGNER.issuer),
    ],
    ids=["tag", "issuer", "part"],
)
def test_a_bundle_of_somebody_else_is_refused(real: Real, other: Identity) -> None:
    with pytest.raises(TrustError, match=r"SHA256SUMS\.sigstore\.json"):
        check_bundle(real.data, real.bundle, other)


def test_a_bundle_of_something_else_is_refused(real: Real) -> None:
    with pytest.raises(TrustError, match="not about this SHA256SUMS"):
        check_bundle(real.data + b"\n", real.bundle, SIGNER)


def test_a_changed_bundle_is_refused(real: Real) -> None:
    """The statement in it names other data now; its signature and its place in the log are as they were."""
    changed = json.loads(real.bundle)
    statement = json.loads(base64.b64decode(changed["dsseEnvelope"]["payload"]))
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(b"evil").hexdigest()
    changed["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    with pytest.raises(TrustError):
        check_bundle(b"evil", json.dumps(changed).encode(), SIGNER)


@pytest.mark.parametrize("bundle", [b"", b"{}", b"[]", b"null", b"\xff", b'{"dsseEnvelope": 1}'])
def test_what_is_no_bundle_is_refused(real: Real, bundle: bytes) -> None:
    with pytest.raises(TrustError):
        check_bundle(real.data, bundle, SIGNER)
    with pytest.raises(TrustError):
        check_bundle(real.data, real.bundle[: len(real.bundle) // 2], SIGNER)


def test_a_release_whose_bundle_is_of_something_else_is_not_pulled(
    real: Real, release: TestKey, tmp_path: Path
) -> None:
    publisher = Publisher(tmp_path, release)
    publisher.publish(FIRST)
    (publisher.release() / "SHA256SUMS.sigstore.json").write_bytes(real.bundle)
    publisher.refused("not about this SHA256SUMS", identity=SIGNER)
    assert publisher.pull().release.version == FIRST


def test_outside_of_a_ci_job_there_is_nobody_to_sign_as(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GITHUB_ACTIONS", "GITLAB_CI", "CIRCLECI", "BUILDKITE", "GOOGLE_SERVICE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    write_result(tmp_path / "work")
    with pytest.raises(InputError, match="identity"):
        write_bundle(tmp_path / "work")


def test_a_sigstore_out_of_reach_is_said_and_leaves_nothing(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigstore.models import ClientTrustConfig

    now = int(time.time())
    claims = {"iss": "https://gitlab.com", "sub": "job", "aud": "sigstore", "iat": now, "exp": now + 60}
    parts = [{"alg": "none", "typ": "JWT"}, claims]
    token = ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts)
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", f"{token}.")
    monkeypatch.setattr(
        ClientTrustConfig, "production", lambda: ClientTrustConfig.from_tuf(NOBODY, offline=False)
    )
    write_result(tmp_path / "work")
    with pytest.raises(MachineError, match="made no bundle"):
        write_bundle(tmp_path / "work")
    assert not (tmp_path / "work/SHA256SUMS.sigstore.json").exists()
