"""Which built image goes into an environment, and may it be used?"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from builder.errors import InputError, TrustError
from builder.project import Project
from builder.seat.tree import Edit, Kept, changed, write_tree
from builder.tools import Tools


@dataclass(frozen=True)
class Image:
    """The files of a built image that a seat is made from."""

    profile: str
    version: str
    tar: Path
    uki: Path | None
    epoch: int
    signed: bool
    testing: str = ""
    """Why it is only to be tried, as its provenance says; known once it was checked."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by the names of its files, once it was checked: of the bytes that may be used."""

    def write_tree(
        self,
        overlay: Path,
        out: BinaryIO,
        *,
        edits: Mapping[str, Edit] | None = None,
        kept: Kept | None = None,
    ) -> None:
        """``builder.seat.tree.write_tree`` of this image, compared with what was checked."""
        known = self.digests.get(self.tar.name, "")
        write_tree(self.tar, overlay, out, epoch=self.epoch, kept=kept, edits=edits, sha256=known)

    def kernel_in(self, scratch: Path) -> Path:
        """A copy of the kernel (UKI). Raises TrustError where it is not what was checked.

        It lies perhaps on a stick, which may answer otherwise when it is read again.
        """
        assert self.uki is not None
        copy, data = scratch / self.uki.name, self.uki.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if self.digests.get(self.uki.name, found) != found:
            raise changed(self.uki)
        copy.write_bytes(data)
        return copy

    @property
    def standin(self) -> bool:
        return "standin" in self.version


def find_image(project: Project, profile: str) -> Image | None:
    """The image in ``dist/PROFILE``, unchecked; None where there is none."""
    place = project.dist / profile
    try:
        manifest = json.loads((place / "manifest.json").read_text())
        files = {f["role"]: place / f["name"] for f in manifest["files"]}
        return Image(
            profile=manifest["profile"],
            version=manifest["version"],
            tar=files["image"],
            uki=files.get("uki"),
            epoch=int(datetime.fromisoformat(manifest["created"]).timestamp()),
            signed=(place / "SHA256SUMS.gpg").exists(),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(
            f"{place}/manifest.json cannot be used: {e}", hint=f"make image PROFILE={profile}"
        ) from e


def build_it(profile: str) -> str:
    return f"run: make image PROFILE={profile}"


def checked_image(project: Project, profile: str, keys: Sequence[Path], tools: Tools) -> Image:
    """The image of a profile, after its checksums and, where it has one, its signature were found good.

    ``keys`` are the files of the keys to trust. An image without any signature is taken (one's own images
    have none) and says so by ``signed``. Raises InputError where there is no image, TrustError where
    anything does not agree.
    """
    from builder.outputs.release import for_testing
    from builder.outputs.sign import trusted_keys
    from builder.outputs.verify import verify_directory

    image = find_image(project, profile)
    if image is None:
        raise InputError(
            f"there is no image of {profile} in {project.dist / profile}",
            hint=f"make image PROFILE={profile}",
        )
    if not image.tar.is_file():
        raise TrustError(f"{image.tar} is missing", hint=build_it(profile))
    trusted = trusted_keys(keys) if image.signed else []
    report = verify_directory(
        project.dist / profile, keys=trusted, require_signature=image.signed, profile=profile, tools=tools
    )
    report.raise_for_problems()
    if find_image(project, profile) != image:  # the manifest was read before it was known to be good
        raise TrustError(f"{project.dist / profile} was changed while it was checked", hint="run it again")
    return replace(image, testing=for_testing(report), digests=report.digests)
