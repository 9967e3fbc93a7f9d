"""What does a small result directory look like? One made as `seatsmith image` makes it, with tiny files."""

import hashlib
from pathlib import Path

from builder.outputs.provenance import GitState
from builder.outputs.record import ImageRecord, Package
from builder.outputs.write import write_outputs

EPOCH = 1793491200  # 2026-11-01
CLEAN = GitState("0123456789abcdef0123456789abcdef01234567", False)


def package(name: str, version: str = "1.0-1", repository: str = "extra") -> Package:
    digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()
    return Package(name, version, 1000 + len(name), digest, repository)


def record(
    profile: str = "work",
    version: str = "2026.11.01",
    *,
    source: str = "upstream",
    distribution: str = "arch",
    packages: list[Package] | None = None,
) -> ImageRecord:
    return ImageRecord(
        profile=profile,
        version=version,
        distribution=distribution,
        source=source,
        epoch=EPOCH,
        packages=packages or [package("i3-wm", "4.24-1"), package("bash", "1:5.2-1", "core")],
        tools={"mkosi": "25.3-1", "zstd": "1.5.7"},
    )


def write_result(
    directory: Path,
    what: ImageRecord | None = None,
    *,
    image: bytes = b"an image",
    git: GitState = CLEAN,
) -> ImageRecord:
    """A complete, unsigned result directory."""
    what = what or record()
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{what.stem}.tar.zst").write_bytes(image)
    (directory / f"{what.stem}.host.tar.zst").write_bytes(b"a host bundle")
    lock = directory / f"{what.profile}.lock"
    lock.write_text(f'{{"profile": "{what.profile}", "image": "{hashlib.sha256(image).hexdigest()}"}}\n')
    write_outputs(directory, what, git=git, inputs={"lock": lock})
    return what
