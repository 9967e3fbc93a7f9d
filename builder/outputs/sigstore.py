"""Who else vouches for a result? By a sigstore bundle, whoever can sign in at an OpenID issuer as so-and-so.

The key of such a signature lives for minutes. Fulcio certifies whose it was, by a token that the issuer gave
to a CI job, and Rekor keeps the signature in a public log. The library is the extra ``sigstore``.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from builder.errors import InputError, MachineError, TrustError, UsageError
from builder.files import write_atomic
from builder.outputs.checksums import BUNDLE, SUMS, read_checksums

LIMIT = 1 << 20  # bytes of a bundle
HOW = "GitHub: permissions: id-token: write; GitLab: id_tokens with SIGSTORE_ID_TOKEN"
STATEMENT = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Identity:
    """Whom a bundle has to be of: an address, or a workflow's URL, as the issuer calls it."""

    name: str
    issuer: str


def identity_of(name: str, issuer: str) -> Identity | None:
    """Whose bundle is demanded by the options of a command; None where none is. Raises UsageError."""
    if bool(name) != bool(issuer):
        raise UsageError(
            "--sigstore-identity and --sigstore-issuer say only together whose bundle it must be"
        )
    return Identity(name, issuer) if name else None


def need_library() -> None:
    """Raises MachineError where the extra is not installed."""
    if find_spec("sigstore") is None:
        raise MachineError(
            "sigstore bundles need a library that is not installed",
            hint="run: .venv/bin/pip install 'seatsmith[sigstore]'",
        )


def write_bundle(directory: Path) -> Path:
    """Sign a directory's SHA256SUMS as the identity that this CI job has.

    Raises InputError where it has none, MachineError where sigstore cannot be reached or refuses.
    """
    need_library()
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken, detect_credential
    from sigstore.sign import SigningContext

    sums = directory / SUMS
    read_checksums(sums)
    try:
        token = detect_credential()
    except Exception as e:
        raise InputError(f"this job's identity cannot be had: {e}", hint=HOW) from e
    if token is None:
        raise InputError("this is no CI job that has an identity to sign as", hint=HOW)
    try:
        context = SigningContext.from_trust_config(ClientTrustConfig.production())
        with context.signer(IdentityToken(token)) as signer:
            made = signer.sign_artifact(sums.read_bytes())
    except Exception as e:  # each of its parts (TUF, Fulcio, Rekor, HTTP) has errors of its own
        raise MachineError(f"sigstore made no bundle: {e}", hint="are Fulcio and Rekor reachable?") from e
    write_atomic(directory / BUNDLE, made.to_json())
    return directory / BUNDLE


def check_directory(directory: Path, expected: Identity) -> None:
    """Check the bundle that lies beside a directory's SHA256SUMS. Raises TrustError."""
    try:
        with (directory / BUNDLE).open("rb") as f:
            bundle = f.read(LIMIT + 1)
    except OSError as e:
        raise TrustError(f"{directory} has no readable {BUNDLE}: {e.strerror}") from e
    check_bundle((directory / SUMS).read_bytes(), bundle, expected)


def check_bundle(data: bytes, bundle: bytes, expected: Identity) -> None:
    """Check that a bundle is the expected one's, and of ``data``: offline, by the library's own roots.

    It may sign the data (as `cosign sign-blob` does), or a statement that names their digest (as GitHub's
    attestations). Raises TrustError.
    """
    need_library()
    from sigstore.errors import Error
    from sigstore.models import Bundle
    from sigstore.verify import Verifier, policy

    if len(bundle) > LIMIT:
        raise TrustError(f"{BUNDLE} is larger than {LIMIT} bytes")
    whose = policy.Identity(identity=expected.name, issuer=expected.issuer)
    try:
        found, verifier = Bundle.from_json(bundle), Verifier.production(offline=True)
        if "dsseEnvelope" in json.loads(bundle):
            check_statement(data, *verifier.verify_dsse(found, whose))
        else:
            verifier.verify_artifact(data, found, whose)
    except (Error, ValueError, KeyError, TypeError) as e:
        raise TrustError(f"{BUNDLE}: {e}") from e


def check_statement(data: bytes, kind: str, payload: bytes) -> None:
    """Raises ValueError unless a signed in-toto statement is about ``data``."""
    statement: dict[str, Any] = json.loads(payload) if kind == STATEMENT else {}
    digests = [subject["digest"].get("sha256") for subject in statement.get("subject", [])]
    if hashlib.sha256(data).hexdigest() not in digests:
        raise ValueError(f"signs a statement that is not about this {SUMS}")
