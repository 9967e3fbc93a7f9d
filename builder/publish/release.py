"""How do built images become a release: all of them allowed, signed by a known key, and published?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import ui
from builder.errors import InputError, TrustError
from builder.outputs.checksums import SUMS
from builder.outputs.gpg import trusted_keyring
from builder.outputs.provenance import git_state
from builder.outputs.release import check_release, mark_test_release
from builder.outputs.sign import Signature, Signer, open_signer, sign_checksums
from builder.outputs.verify import verify_directory
from builder.project import Project
from builder.tools import Tools, ensure_tools


@dataclass(frozen=True)
class Demands:
    """What a release is measured by."""

    trusted: Sequence[bytes]
    """Contents of the release keys' files: what others will check the signature with."""
    second: Path | None
    """A second builder's SHA256SUMS, or a directory with one for each profile."""
    test: bool = False
    """Allow the stand-in and any key, and mark the release as one for testing."""


def release(
    project: Project, names: Sequence[str], key: str, demands: Demands, *, tools: Tools | None = None
) -> dict[str, Signature]:
    """Check dist/NAME of all profiles, then sign all; none is signed if one must not be released.

    Raises TrustError with every objection: the stand-in, a checkout with changes, another commit, no or
    other bits of a second builder, damaged files, a key that nobody was told of.
    """
    tools = tools or ensure_tools()
    places = {name: project.dist / name for name in names}
    if missing := [name for name, place in places.items() if not (place / SUMS).is_file()]:
        raise InputError(f"{missing[0]} has not been built", hint=f"build it: seatsmith image {missing[0]}")
    git = git_state(project.root)
    if git.commit is None or git.dirty:
        what = "is no git checkout" if git.commit is None else "has changes that are in no commit"
        raise TrustError(
            f"{project.root} {what}",
            hint="commit what belongs to it (keys in ci/keys/ as well), and build again",
        )
    for name, place in places.items():
        with ui.current().step(f"Checking {name}"):
            check_release(place, second_for(name, demands.second), test=demands.test, commit=git.commit)
            report = verify_directory(place, keys=[], require_signature=False, profile=name, tools=tools)
            report.raise_for_problems()
    with open_signer(key, tools=tools) as signer:
        if not demands.test:
            check_known(signer, demands.trusted, tools)
        return {name: sign_release(place, signer, test=demands.test) for name, place in places.items()}


def second_for(name: str, second: Path | None) -> Path | None:
    """Where the second builder's checksums of a profile are."""
    if second is None or second.is_file() or (second / SUMS).is_file():
        return second
    return second / name / SUMS


def check_known(signer: Signer, trusted: Sequence[bytes], tools: Tools) -> None:
    with trusted_keyring(tools, trusted) as (ring, _):
        known = {key.fingerprint for key in ring.public_keys() if not (key.expired or key.revoked)}
    if signer.fingerprint.upper().removeprefix("0X").rstrip("!") not in known:
        raise TrustError(
            f"the signing key {signer.fingerprint} is not among the release keys",
            hint="gpg --armor --export it into ci/keys/, or name its public key with --key",
        )


def sign_release(place: Path, signer: Signer, *, test: bool) -> Signature:
    if test:
        mark_test_release(place)
    return sign_checksums(place, signer)
