"""What does a small result directory look like? One made as `seatsmith image` makes it, with tiny files."""

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import zstandard

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


def pack(*members: tarfile.TarInfo, content: Callable[[str], bytes] = str.encode, level: int = 3) -> bytes:
    """A .tar.zst of these members; a file's content is made from its name unless told otherwise."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            if member.isreg() and not member.size:
                member.size = len(content(member.name))
            tar.addfile(member, io.BytesIO(content(member.name)) if member.isreg() else None)
    return zstandard.ZstdCompressor(level=level).compress(buffer.getvalue())


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, *, target: str = "", mode: int = 0o644
) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, mode
    return info


def tree(*names: str, content: Callable[[str], bytes] = str.encode) -> bytes:
    """An archive of plain files."""
    return pack(*(entry(name) for name in names), content=content)


def bomb() -> bytes:
    """512 MiB of zeros in a few kilobytes."""
    member = entry("./zeros")
    member.size = 512 << 20
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    block = bytes(1 << 20)
    head = packer.compress(member.tobuf(tarfile.PAX_FORMAT))
    return head + b"".join(packer.compress(block) for _ in range(512)) + packer.flush()


def write_result(
    directory: Path,
    what: ImageRecord | None = None,
    *,
    image: bytes | None = None,
    bundle: bytes | None = None,
    uki: bytes | None = None,
    git: GitState = CLEAN,
) -> ImageRecord:
    """A complete, unsigned result directory with archives of a few small files."""
    what = what or record()
    image = image or tree(
        "./etc/os-release", "./usr/bin/true", content=lambda name: f"{what.stem} {name}".encode()
    )
    bundle = bundle or tree(f"./etc/systemd/nspawn/{what.profile}.nspawn")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{what.stem}.tar.zst").write_bytes(image)
    (directory / f"{what.stem}.host.tar.zst").write_bytes(bundle)
    if uki is not None:
        (directory / f"{what.stem}.efi").write_bytes(uki)
    lock = directory / f"{what.profile}.lock"
    lock.write_text(f'{{"profile": "{what.profile}", "image": "{hashlib.sha256(image).hexdigest()}"}}\n')
    write_outputs(directory, what, git=git, inputs={"lock": lock})
    return what
