"""Which software is in an image? The answer as CycloneDX and as SPDX, for scanners.

Both are deterministic: their ids come from the image's digest and their time is SOURCE_DATE_EPOCH.
"""

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from builder import __version__
from builder.files import file_digest, write_atomic, write_json
from builder.outputs.record import ImageRecord, Package, package_url

NAMESPACE = UUID("6ee9f7a5-4a4c-5f3c-9d0e-7f1c7d8a9b42")  # of the ids below; any constant does
SPDX_ALGORITHMS = {"sha256": "SHA256", "sha512": "SHA512", "sha1": "SHA1"}
SPDX_UNSAID = {  # the specification's words for "we make no claim"
    "downloadLocation": "NOASSERTION",
    "filesAnalyzed": False,
    "licenseConcluded": "NOASSERTION",
    "licenseDeclared": "NOASSERTION",
    "copyrightText": "NOASSERTION",
}


def write_sbom(path: Path, record: ImageRecord, image: Path) -> Path:
    """Write the CycloneDX 1.6 SBOM of ``image``.

    Tests check it with the library's strict validator; here that would cost three seconds a build.
    """
    from cyclonedx.output.json import JsonV1Dot6

    text = JsonV1Dot6(cyclonedx_bom(record, image.name, file_digest(image))).output_as_string()
    # the library orders what it holds as sets by itself; sorting the keys fixes the rest
    write_atomic(path, json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return path


def cyclonedx_bom(record: ImageRecord, image_name: str, image_digest: str) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from packageurl import PackageURL

    algorithms = {
        "sha256": HashAlgorithm.SHA_256,
        "sha512": HashAlgorithm.SHA_512,
        "sha1": HashAlgorithm.SHA_1,
    }

    def component(package: Package) -> Component:
        url = package_url(record, package)
        return Component(
            name=package.name,
            version=package.version,
            type=ComponentType.LIBRARY,
            bom_ref=url,
            purl=PackageURL.from_string(url),
            hashes=[HashType(alg=algorithms[package.algorithm], content=package.digest)],
            properties=[Property(name="seatsmith:repository", value=package.repository)],
        )

    root = Component(
        name=record.profile,
        version=record.version,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref=image_name,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image_digest)],
        properties=[
            Property(name="seatsmith:distribution", value=record.distribution),
            Property(name="seatsmith:source", value=record.source),
        ],
    )
    builder = Component(name="seatsmith", version=__version__, type=ComponentType.APPLICATION)
    bom = Bom(
        components=[component(p) for p in record.sorted_packages()],
        serial_number=uuid5(NAMESPACE, f"cyclonedx:{image_digest}"),
        metadata=BomMetaData(
            component=root, timestamp=record.created, tools=ToolRepository(components=[builder])
        ),
    )
    bom.register_dependency(root, list(bom.components))
    return bom


def write_spdx(path: Path, record: ImageRecord, image: Path) -> Path:
    """Write the SPDX 2.3 SBOM of ``image`` (tests check it with the SPDX project's own validator)."""
    digest = file_digest(image)
    packages = record.sorted_packages()
    ids = [f"SPDXRef-Package-{n}" for n in range(1, len(packages) + 1)]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image.name,
        "documentNamespace": f"urn:uuid:{uuid5(NAMESPACE, f'spdx:{digest}')}",
        "creationInfo": {
            "created": record.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: seatsmith-{__version__}"],
        },
        "documentDescribes": ["SPDXRef-Image"],
        "packages": [
            {
                "SPDXID": "SPDXRef-Image",
                "name": record.profile,
                "versionInfo": record.version,
                "packageFileName": image.name,
                "primaryPackagePurpose": "OPERATING-SYSTEM",
                "comment": f"{record.distribution}, packages from {record.source}",
                **SPDX_UNSAID,
                "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
            },
            *(spdx_package(record, p, i) for p, i in zip(packages, ids, strict=True)),
        ],
        "relationships": [
            {"spdxElementId": "SPDXRef-Image", "relationshipType": "CONTAINS", "relatedSpdxElement": i}
            for i in ids
        ],
    }
    write_json(path, document)
    return path


def spdx_package(record: ImageRecord, package: Package, spdx_id: str) -> dict[str, Any]:
    return {
        "SPDXID": spdx_id,
        "name": package.name,
        "versionInfo": package.version,
        "sourceInfo": f"repository {package.repository}",
        **SPDX_UNSAID,
        "checksums": [
            {"algorithm": SPDX_ALGORITHMS[package.algorithm], "checksumValue": package.digest},
        ],
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": package_url(record, package),
            }
        ],
    }
