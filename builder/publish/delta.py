"""How does an update fetch only what changed? A zstd patch from one image's archive to the next.

A patch works on the uncompressed archives, so the result is compressed again and must then have exactly the
signed digest. Whatever goes wrong on the way only costs the saving: the whole image is fetched instead.
docs/decisions/050-deltas.md compares the alternatives.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

from builder import ui
from builder.errors import InputError, MachineError, TrustError
from builder.files import file_digest
from builder.outputs.record import image_files, main_image
from builder.outputs.verify import read_json
from builder.outputs.write import MANIFEST
from builder.publish.index import Delta, Release
from builder.publish.transfer import Transfer
from builder.run import Arg, ProgramError, run
from builder.tools import Tools, ensure_tools

LEVELS = (3, 1, 19)  # how images are compressed: mkosi's default first
PATCH_LEVEL = 1  # the least said of what is the same
OUTER_LEVEL = 9  # a patch says that in tens of bytes a block, 0.3 MB an image, which look alike
LARGEST = 1 << 31  # bytes of an archive; zstd's largest window, and a patch refers to all of the old archive
WINDOW = ["--long=31", "--memory=2048MB"]
SUFFIX = ".patch.zst.zst"
WORTH = 0.7  # a patch that is larger than this part of the image is not kept


def make_delta(
    before: Path, after: Path, extra: Path, old: str, new: str, *, tools: Tools | None = None
) -> Delta | None:
    """Make the patch between two releases' images; None where it would not pay or could not be undone."""
    tools = tools or ensure_tools()
    old_image, new_image = main_image(image_files(before)), main_image(image_files(after))
    if not (old_image.name.endswith(".tar.zst") and new_image.name.endswith(".tar.zst")):
        return None
    with (
        ui.current().step(f"Making the update {old} → {new}"),
        tempfile.TemporaryDirectory(prefix=".delta-", dir=extra) as scratch,
    ):
        old_tar, new_tar = Path(scratch) / "old.tar", Path(scratch) / "new.tar"
        expand(tools, old_image, old_tar)
        expand(tools, new_image, new_tar)
        if max(old_tar.stat().st_size, new_tar.stat().st_size) > LARGEST:
            ui.current().say(
                "  zstd makes no patch of an archive of more than 2 GiB; updates fetch the whole image"
            )
            return None
        level = compression_level(tools, new_tar, new_image)
        if level is None:
            return None
        name = f"{old}_{new}.l{level}{SUFFIX}"
        patch = Path(scratch) / name
        pack_patch(tools, old_tar, new_tar, patch)
        size = patch.stat().st_size
        if size > WORTH * new_image.stat().st_size:
            return None
        patch.chmod(0o644)
        patch.rename(extra / name)
        return Delta(base=old, file=name, size=size, sha256=file_digest(extra / name))


def pack_patch(tools: Tools, old: Path, new: Path, patch: Path) -> None:
    """Write what leads from one file to another."""
    argv: list[Arg] = ["zstd", "-q", f"-{PATCH_LEVEL}", "-T1", "--long=31", f"--patch-from={old}"]
    bare = patch.with_name("bare")
    tools.run([*argv, new, "-o", bare], network=False)
    tools.run(["zstd", "-q", f"-{OUTER_LEVEL}", bare, "-o", patch], network=False)


def unpack_patch(tools: Tools, packed: Path, old: Path, new: Path, *, most: int) -> None:
    """Make ``new`` from ``old``; a patch that claims to give more than ``most`` bytes is stopped there."""
    limited: list[Arg] = ["prlimit", f"--fsize={most}", "zstd", "-q", "-d"]
    bare = packed.with_name("bare")
    tools.run([*limited, packed, "-o", bare], network=False)
    tools.run([*limited, *WINDOW, f"--patch-from={old}", bare, "-o", new], network=False)


def compression_level(tools: Tools, tar: Path, image: Path) -> int | None:
    """The level at which zstd makes exactly ``image`` of ``tar``, if one of ours does."""
    wanted = file_digest(image)
    for level in LEVELS:
        again = tar.with_suffix(".zst")
        compress(tools, tar, again, level)
        found = file_digest(again)
        again.unlink()
        if found == wanted:
            return level
    return None


def expand(tools: Tools, image: Path, tar: Path) -> None:
    tools.run(["zstd", "-q", "-d", image, "-o", tar], network=False)


def compress(tools: Tools, tar: Path, image: Path, level: int) -> None:
    """As mkosi does it: from a pipe, in jobs whose cut does not depend on the number of threads."""
    with tar.open("rb") as source, image.open("wb") as sink:
        run(
            tools.command(["zstd", "-q", f"-{level}", "-T0", "--stdout", "-"], network=False),
            stdin=source.fileno(),
            stdout=sink,
        )


def apply_delta(transfer: Transfer, target: Path, sha256: str, *, most: int) -> bool:
    """Make ``target`` from the image that the seat has and a patch; False where that does not come off.

    ``most`` is how many bytes the unpacked archive may have.
    """
    current, tools = transfer.current, transfer.tools
    delta = usable(transfer.release, current) if current else None
    if current is None or delta is None:
        return False
    try:
        with tempfile.TemporaryDirectory(prefix=".delta-", dir=target.parent.parent) as scratch:
            packed, old_tar, new_tar = (Path(scratch) / n for n in ("packed", "old", "new"))
            transfer.fetch_patch(delta, packed)
            expand(tools, main_image(image_files(current)), old_tar)
            unpack_patch(tools, packed, old_tar, new_tar, most=most)
            made = Path(scratch) / "image"
            compress(tools, new_tar, made, level_of(delta))
            if file_digest(made) == sha256:
                shutil.move(made, target)
                return True
        problem = "it does not give the signed image"
    except (ProgramError, MachineError, TrustError, InputError) as e:
        problem = e.message
    ui.current().warn(f"the update {delta.file} cannot be used, fetching the whole image: {problem}")
    return False


def usable(release: Release, current: Path) -> Delta | None:
    """The patch that starts from what ``current`` holds, if there is one."""
    with contextlib.suppress(InputError, OSError, KeyError):
        version = read_json(current / MANIFEST)["version"]
        main_image(image_files(current))
        return next((d for d in release.deltas if d.base == version and level_of(d)), None)
    return None


def level_of(delta: Delta) -> int:
    """The compression level that a patch's name tells; 0 for none of ours."""
    for level in LEVELS:
        if delta.file.endswith(f".l{level}{SUFFIX}"):
            return level
    return 0
