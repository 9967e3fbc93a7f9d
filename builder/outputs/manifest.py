"""Which files and packages does an image consist of? ``manifest.json`` answers, for people and programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from builder import __version__
from builder.files import file_digest, write_json
from builder.outputs.record import ImageRecord, role_of

SCHEMA = "seatsmith-manifest/1"


def write_manifest(path: Path, record: ImageRecord, files: Sequence[Path]) -> Path:
    """Write the manifest of an image made of ``files``; the same record and files give the same bytes."""
    write_json(path, manifest(record, files))
    return path


def manifest(record: ImageRecord, files: Sequence[Path]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "profile": record.profile,
        "version": record.version,
        "architecture": record.architecture,
        "distribution": record.distribution,
        "source": record.source,
        "created": record.created.isoformat(),
        "seatsmith": __version__,
        "files": [
            {
                "name": f.name,
                "role": role_of(f.name) or "other",
                "size": f.stat().st_size,
                "sha256": file_digest(f),
            }
            for f in sorted(files)
        ],
        "packages": [
            {
                "name": p.name,
                "version": p.version,
                "size": p.size,
                p.algorithm: p.digest,
                "repository": p.repository,
            }
            for p in record.sorted_packages()
        ],
        "tools": dict(sorted(record.tools.items())),
    }
