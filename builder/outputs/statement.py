"""Who else came to the same bits? A rebuild statement: an in-toto statement, signed by whoever rebuilt."""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from builder import __version__
from builder.errors import TrustError
from builder.files import write_json
from builder.outputs.provenance import STATEMENT, GitState
from builder.outputs.record import role_of
from builder.outputs.sign import check_signature
from builder.tools import Tools

PREDICATE = "urn:seatsmith:rebuild:1"
STATEMENT_SUFFIX = ".rebuild.json"
LIMIT = 1 << 20  # bytes of a statement


@dataclass(frozen=True)
class SignedStatement:
    """A statement and its detached signature, as fetched."""

    name: str
    data: bytes
    signature: bytes


def write_statement(
    path: Path,
    digests: Mapping[str, str],
    *,
    profile: str,
    version: str,
    lock: str,
    git: GitState,
    when: datetime,
) -> Path:
    """Write that a rebuild gave exactly the files with these digests (sign it with sign.sign_file)."""
    statement = {
        "_type": STATEMENT,
        "subject": [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in sorted(digests.items())
            if role_of(name)
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "result": "identical",
            "profile": profile,
            "version": version,
            "lock": {"sha256": lock},
            "checkout": {"gitCommit": git.commit, "dirty": git.dirty},
            "seatsmith": __version__,
            "finished": when.isoformat(),
        },
    }
    write_json(path, statement)
    return path


def rebuilders(
    statements: Iterable[SignedStatement],
    digests: Mapping[str, str],
    *,
    keys: Sequence[bytes],
    publisher: str,
    tools: Tools | None = None,
) -> list[str]:
    """Fingerprints of those whose valid statement names exactly these files; each counts once.

    ``publisher`` is the fingerprint of the release key, whose own word is not an independent one.
    """
    wanted = {name: digest for name, digest in digests.items() if role_of(name)}
    found = set()
    for statement in statements:
        signer = statement_signer(statement, keys, tools=tools)
        if signer and signer != publisher and subjects(statement.data) == wanted:
            found.add(signer)
    return sorted(found)


def require_rebuilders(found: Sequence[str], number: int) -> None:
    """Raises TrustError where fewer than ``number`` others rebuilt the image."""
    if len(found) < number:
        raise TrustError(
            f"{len(found)} independent rebuilders vouch for this image; {number} are required"
            + "".join(f"\n  {fingerprint}" for fingerprint in found),
            hint="rebuild it yourself: seatsmith rebuild, or ask for fewer with --require-rebuilders",
        )


def statement_signer(
    statement: SignedStatement, keys: Sequence[bytes], *, tools: Tools | None
) -> str | None:
    """Fingerprint of the trusted key that signed a statement; None where none of ``keys`` did."""
    if len(statement.data) > LIMIT or not keys:
        return None
    with tempfile.TemporaryDirectory(prefix="seatsmith-statement-") as place:
        data = Path(place) / "statement"
        data.write_bytes(statement.data)
        signature = check_signature(data, statement.signature, keys, tools=tools)
    return signature.fingerprint if signature.good else None


def subjects(data: bytes) -> dict[str, str] | None:
    """The files that a statement is about, if it says that a rebuild of them was identical."""
    try:
        statement: dict[str, Any] = json.loads(data)
        if (statement["_type"], statement["predicateType"]) != (STATEMENT, PREDICATE):
            return None
        if statement["predicate"]["result"] != "identical":
            return None
        return {str(s["name"]): str(s["digest"]["sha256"]) for s in statement["subject"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
