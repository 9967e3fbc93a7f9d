"""What is known about an image once it is built? Manifest, SBOM and provenance are written from this."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from builder.errors import InputError

ROLES = (  # by file name's end; the first that fits
    (".host.tar.zst", "host-bundle"),
    (".host.tar.gz", "host-bundle"),
    (".tar.zst", "image"),
    (".tar.gz", "image"),
    (".efi", "uki"),
)
LOCK_SUFFIX = ".lock"
IMAGE_NAME = re.compile(r"(?P<profile>[^_/]+)_(?P<version>[^_/]+)_(?P<arch>[^_./]+)\.(host\.tar|tar|efi)\b")
DIGEST_LENGTHS = {64: "sha256", 128: "sha512", 40: "sha1"}


@dataclass(frozen=True)
class Package:
    """One installed package, with size and digest of the file that it came in."""

    name: str
    version: str
    size: int
    """Bytes."""
    digest: str
    """Hexadecimal; the algorithm is told by its length (SHA-256 or SHA-512)."""
    repository: str

    @property
    def algorithm(self) -> str:
        try:
            return DIGEST_LENGTHS[len(self.digest)]
        except KeyError:
            raise InputError(f"package {self.name}: {self.digest!r} is not a SHA-256 or SHA-512") from None


@dataclass(frozen=True)
class Input:
    """A locked file that an image is made with and that is no package in it: a stage3, a tree, an index."""

    name: str
    kind: str
    sha256: str


@dataclass(frozen=True)
class ImageRecord:
    """One built image. All of it is the same for everybody who builds from the same lock and checkout."""

    profile: str
    version: str
    distribution: str
    source: str
    """``upstream`` or ``standin``."""
    epoch: int
    """SOURCE_DATE_EPOCH of the build: the only time that is written anywhere."""
    packages: Sequence[Package]
    inputs: Sequence[Input] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of the tools tree's packages."""
    architecture: str = "x86-64"

    @property
    def created(self) -> datetime:
        return datetime.fromtimestamp(self.epoch, UTC)

    @property
    def stem(self) -> str:
        """What the names of the image's files begin with."""
        return f"{self.profile}_{self.version}_{self.architecture}"

    def sorted_packages(self) -> list[Package]:
        return sorted(self.packages, key=lambda p: (p.name, p.version, p.repository))


def role_of(name: str) -> str | None:
    """What a published file is, by its name; None for one that is not part of the image."""
    return next((role for end, role in ROLES if name.endswith(end)), None)


def image_files(directory: Path) -> list[Path]:
    """The files of a result directory that make up the image, without what is said about them."""
    return sorted(p for p in directory.iterdir() if p.is_file() and role_of(p.name))


def main_image(files: Sequence[Path]) -> Path:
    """The root filesystem among an image's files. Raises InputError where there is none."""
    for path in files:
        if role_of(path.name) == "image":
            return path
    raise InputError("there is no image (PROFILE_VERSION_x86-64.tar.zst) among the files")


def package_url(record: ImageRecord, package: Package) -> str:
    """The package URL (purl) of a package: its identity in SBOM and provenance.

    Packages of the stand-in have a namespace of their own, so that no scanner takes them for the real ones.
    """
    from packageurl import PackageURL

    namespace = record.distribution if record.source == "upstream" else f"standin-{record.distribution}"
    if record.distribution == "arch":
        qualifiers = {"arch": "x86_64"}
        return PackageURL("alpm", namespace, package.name, package.version, qualifiers).to_string()
    category, _, short = package.name.rpartition("/")  # Gentoo has no purl type of its own
    return PackageURL("generic", f"{namespace}/{category}".rstrip("/"), short, package.version).to_string()
