"""How does a directory with a fresh image become a result that others can check?"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.outputs.checksums import write_checksums
from builder.outputs.manifest import write_manifest
from builder.outputs.provenance import LOCAL_BUILDER, GitState, write_provenance
from builder.outputs.record import ImageRecord, image_files, main_image
from builder.outputs.sbom import write_sbom, write_spdx

MANIFEST = "manifest.json"
PROVENANCE = "provenance.json"
SBOM = "sbom.cdx.json"
SPDX = "sbom.spdx.json"


def write_outputs(
    directory: Path,
    record: ImageRecord,
    *,
    git: GitState,
    inputs: Mapping[str, Path],
    parameters: Mapping[str, Any] | None = None,
    builder_id: str = LOCAL_BUILDER,
) -> list[Path]:
    """Write manifest, both SBOMs, provenance and SHA256SUMS for the image files in ``directory``.

    ``directory`` holds the image, the host bundle, the UKI and the lock under their published names. Nothing
    is signed here: see builder.outputs.sign.
    """
    files = image_files(directory)
    image = main_image(files)
    return [
        write_manifest(directory / MANIFEST, record, files),
        write_sbom(directory / SBOM, record, image),
        write_spdx(directory / SPDX, record, image),
        write_provenance(
            directory / PROVENANCE,
            record,
            files,
            git=git,
            inputs=inputs,
            parameters=parameters,
            builder_id=builder_id,
        ),
        write_checksums(directory),
    ]
