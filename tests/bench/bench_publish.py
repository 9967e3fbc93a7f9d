"""How fast is an image checked, beside sha256sum, and how much of it does an update fetch? Of ``work``."""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import zstandard

from builder.errors import InputError
from builder.files import linked
from builder.outputs.checksums import SUMS, read_checksums
from builder.outputs.gpg import temporary_keyring
from builder.outputs.record import image_files, main_image
from builder.outputs.sign import sign_checksums
from builder.outputs.verify import verify_directory
from builder.project import cache_home, find_project
from builder.publish.delta import compress, expand, make_delta
from builder.tools import Tools, ensure_tools
from tests.support.gpgkeys import KeyMaker

PROFILE = "work"
CHANGED = 500_000  # bytes of the package that an update brings; random, so that nothing compresses them


def bench() -> list[tuple[str, str]]:
    tools = ensure_tools()
    image = find_project(Path(__file__)).dist / PROFILE
    if not (image / SUMS).is_file():
        raise InputError(f"there is no image of {PROFILE}", hint=f"make image PROFILE={PROFILE}")
    with tempfile.TemporaryDirectory(dir=cache_home(), prefix="bench.") as scratch:
        place = Path(scratch)
        result = place / "first" / PROFILE
        result.mkdir(parents=True)
        for name in (SUMS, *read_checksums(image / SUMS)):
            linked(image / name, result / name)
        return [*checking(result, place, tools), *updating(result, place, tools)]


def checking(result: Path, place: Path, tools: Tools) -> list[tuple[str, str]]:
    """Signature, digests and papers of a result, and the digests alone by coreutils."""
    (place / "keys").mkdir()
    with temporary_keyring(tools) as ring:
        key = KeyMaker(ring, place / "keys")("bench")
    shutil.copy(result / SUMS, result / "copy")  # signing must not change the file that the link leads to
    (result / "copy").replace(result / SUMS)
    sign_checksums(result, os.fspath(key.secret), tools=tools)
    keys = [key.public.read_bytes()]
    size = sum(p.stat().st_size for p in result.iterdir())
    ours = best(lambda: verify_directory(result, keys=keys, tools=tools).raise_for_problems())
    argv = ["sha256sum", "--quiet", "-c", SUMS]
    theirs = best(lambda: subprocess.run(argv, cwd=result, check=True))
    return [
        (f"check of a signed image, {size >> 20} MiB in all", f"{ours:.2f} s"),
        ("sha256sum of the same files", f"{theirs:.2f} s"),
        ("speed of the check ÷ speed of sha256sum", f"{theirs / ours:.0%}"),
    ]


def updating(result: Path, place: Path, tools: Tools) -> list[tuple[str, str]]:
    """The update to the same image with one package more, beside that package alone, compressed."""
    changed = os.urandom(CHANGED)
    image = main_image(image_files(result))
    second = place / "second" / PROFILE
    extra = place / "extra"
    second.mkdir(parents=True)
    extra.mkdir()
    tar = place / "new.tar"
    expand(tools, image, tar)
    with tarfile.open(tar, "a") as f:
        info = tarfile.TarInfo("./usr/lib/new/library.so")
        info.size = len(changed)
        f.addfile(info, io.BytesIO(changed))
    compress(tools, tar, second / image.name, 3)
    tar.unlink()
    began = time.monotonic()
    delta = make_delta(result, second, extra, "1", "2", tools=tools)
    took = time.monotonic() - began
    fetched = delta.size if delta else (second / image.name).stat().st_size
    least = len(zstandard.compress(changed))
    return [
        ("making an update of one package", f"{took:.0f} s"),
        ("fetched by the update ÷ what changed, compressed", f"{fetched / least:.2f} ×"),
    ]


def best(what: Callable[[], object]) -> float:
    """The shortest of three."""
    found = []
    for _ in range(3):
        began = time.monotonic()
        what()
        found.append(time.monotonic() - began)
    return min(found)
