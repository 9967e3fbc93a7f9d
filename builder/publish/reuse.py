"""What of a release need not be fetched by a seat that has the one before? Of every file but the image.

A file that is the same there is copied. For one that differs a little (the UKI by its os-release, papers by
a package) the publisher has a zstd patch. Whatever goes wrong only costs the saving. The image has a way of
its own (delta.py), since it is compressed.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

from builder import ui
from builder.errors import InputError, MachineError, TrustError
from builder.files import file_digest
from builder.outputs.checksums import SUMS, read_checksums
from builder.outputs.record import role_of
from builder.outputs.verify import read_json
from builder.outputs.write import MANIFEST
from builder.publish.delta import WORTH, pack_patch, unpack_patch
from builder.publish.index import SAFE_NAME, Patch, Release
from builder.publish.transfer import Transfer
from builder.run import ProgramError
from builder.tools import Tools, ensure_tools

SUFFIX = ".patch.zst"
LIMIT = 1 << 30  # bytes of a file that a patch is made for


def make_patches(
    before: Path, after: Path, extra: Path, old: str, new: str, *, tools: Tools | None = None
) -> list[Patch]:
    """Make the patches between two releases' files, for those that changed and where a patch pays."""
    tools = tools or ensure_tools()
    had, made = read_checksums(before / SUMS), []
    for name, digest in sorted(read_checksums(after / SUMS).items()):
        source = name.replace(f"_{new}_", f"_{old}_")
        file = f"{old}_{new}.{name}{SUFFIX}"
        if role_of(name) == "image" or source not in had or digest in had.values():
            continue
        if not all(map(SAFE_NAME.fullmatch, (name, source, file))) or (after / name).stat().st_size > LIMIT:
            continue
        with tempfile.TemporaryDirectory(prefix=".patch-", dir=extra) as scratch:
            patch = Path(scratch) / file
            pack_patch(tools, before / source, after / name, patch)
            size = patch.stat().st_size
            if size < WORTH * (after / name).stat().st_size:
                patch.chmod(0o644)
                patch.rename(extra / file)
                sha256 = file_digest(extra / file)
                made.append(Patch(base=old, source=source, target=name, file=file, size=size, sha256=sha256))
    return made


def reused(transfer: Transfer, target: Path, sha256: str, *, most: int) -> bool:
    """Whether ``target`` is there now, with its digest, made of what the seat has.

    ``most`` is how many bytes it may have. A transfer that was begun already goes on instead.
    """
    current = transfer.current
    if current is None or target.exists():
        return False
    try:
        had = read_checksums(current / SUMS)
    except TrustError:
        return False
    same = next((old for old, digest in had.items() if digest == sha256), None)
    if same and copied(current / same, target, sha256):
        return True
    patch = usable(transfer.release, current, target.name)
    if patch is None or patch.source not in had:
        return False
    try:
        with tempfile.TemporaryDirectory(prefix=".patch-", dir=target.parent.parent) as scratch:
            packed, made = Path(scratch) / "packed", Path(scratch) / "made"
            transfer.fetch_patch(patch, packed)
            unpack_patch(transfer.tools, packed, current / patch.source, made, most=most)
            if copied(made, target, sha256):
                return True
        problem = "it does not give the signed file"
    except (ProgramError, MachineError, TrustError) as e:
        problem = e.message
    ui.current().warn(f"the update {patch.file} cannot be used, fetching the whole file: {problem}")
    return False


def usable(release: Release, current: Path, target: str) -> Patch | None:
    """The patch to a file that starts from the version in ``current``, if there is one."""
    with contextlib.suppress(InputError, KeyError):
        version = read_json(current / MANIFEST)["version"]
        return next((p for p in release.patches if (p.base, p.target) == (version, target)), None)
    return None


def copied(path: Path, target: Path, sha256: str) -> bool:
    """Whether ``path`` has this digest and is at ``target`` now."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        shutil.copyfile(path, target)
        if file_digest(target) == sha256:
            return True
    except OSError:
        pass
    target.unlink(missing_ok=True)
    return False
