"""How does systemd's own importctl of before version 258 pull an image? As gzip: it knows no zstd.

    PROFILE/importd/VERSION/{PROFILE_VERSION_x86-64.tar.gz, SHA256SUMS, SHA256SUMS.gpg}

The archive inside is the released one, byte for byte; the copy is signed with the key of the index.
"""

import gzip
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import zstandard

from builder import ui
from builder.files import CHUNK, atomic_path, remove_tree
from builder.outputs.checksums import write_checksums
from builder.outputs.record import image_files, main_image
from builder.outputs.sign import Signer, sign_checksums
from builder.publish.index import Release, release_place

IMPORTD = "importd"
LEVEL = 6


def add_gzip_copies(root: Path, profiles: Mapping[str, Sequence[Release]], signer: Signer) -> None:
    """Make the copies that are missing, and remove those of releases that are gone."""
    for profile, releases in profiles.items():
        place = root / profile / IMPORTD
        place.mkdir(exist_ok=True)
        versions = {release.version for release in releases}
        for old in place.iterdir():
            if old.name not in versions:
                remove_tree(old)
        for version in sorted(v for v in versions if not (place / v).exists()):
            image = main_image(image_files(release_place(root, profile, version)))
            if not image.name.endswith(".tar.zst"):
                continue
            with (
                ui.current().step(f"Compressing {profile} {version} for importctl"),
                atomic_path(place / version) as made,
            ):
                made.mkdir()
                write_gzip(image, made / f"{image.name.removesuffix('.zst')}.gz")
                write_checksums(made)
                sign_checksums(made, signer)
                made.chmod(0o755)


def write_gzip(image: Path, path: Path) -> None:
    """The same archive compressed by gzip, without a name or time in it."""
    with (
        image.open("rb") as source,
        zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True) as archive,
        path.open("wb") as sink,
        gzip.GzipFile(filename="", fileobj=sink, mode="wb", compresslevel=LEVEL, mtime=0) as packed,
    ):
        shutil.copyfileobj(archive, packed, CHUNK)
