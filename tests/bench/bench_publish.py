"""How fast is an image checked, beside sha256sum, and how much of it does an update fetch? Of ``work``."""

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from builder.errors import InputError
from builder.files import linked, write_json
from builder.outputs.checksums import SUMS, read_checksums
from builder.outputs.gpg import temporary_keyring
from builder.outputs.provenance import GitState
from builder.outputs.record import LOCK_SUFFIX, ImageRecord, Package, image_files, role_of
from builder.outputs.sign import sign_checksums
from builder.outputs.verify import read_json, verify_directory
from builder.outputs.write import MANIFEST, write_outputs
from builder.project import cache_home, find_project
from builder.publish.delta import LEVELS, compress, expand
from builder.publish.pull import Policy, pull
from builder.publish.site import Terms, publish
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
    """What `seatsmith pull` fetches for the same image with one package more, beside that package alone."""
    changed = os.urandom(CHANGED)
    manifest = read_json(result / MANIFEST)
    old = str(manifest["version"])
    new = old[:-1] + ("1" if old.endswith("0") else "0")
    with temporary_keyring(tools) as ring:
        key = KeyMaker(ring, place / "keys")("update")
    keys, times = [key.public.read_bytes()], []
    terms = Terms(str(key.secret), keys, allow_standin=True)
    for version in (old, new):
        made = release_of(result, place / version / PROFILE, manifest, version, changed, tools)
        sign_checksums(made, os.fspath(key.secret), tools=tools)
        began = time.monotonic()
        publish(place / "www", [made], terms, tools=tools)
        times.append(time.monotonic() - began)
        shutil.rmtree(made)
        policy = Policy(allow_standin=True, allow_dirty=True)
        where = (str(place / "www"), PROFILE, place / "seat" / PROFILE)
        pulled = pull(*where, keys=keys, state=place / "state.json", policy=policy, tools=tools)
    least = len(zstandard.compress(changed))
    return [
        ("publishing an update of one package", f"{times[1]:.0f} s"),
        ("fetched by the update ÷ what changed, compressed", f"{pulled.fetched / least:.2f} ×"),
    ]


def release_of(
    result: Path, made: Path, manifest: dict[str, Any], version: str, changed: bytes, tools: Tools
) -> Path:
    """The result again under a version; where that is another, with one package more, of ``changed``."""
    old, more = str(manifest["version"]), str(manifest["version"]) != version
    made.mkdir(parents=True)
    for path in image_files(result):
        target = made / path.name.replace(old, version)
        if role_of(path.name) == "uki":  # it has the version in its os-release
            target.write_bytes(path.read_bytes().replace(old.encode(), version.encode()))
        elif more and role_of(path.name) == "image":
            tar = made / "tar"
            expand(tools, path, tar)
            with tarfile.open(tar, "a") as f:
                info = tarfile.TarInfo("./usr/lib/new/library.so")
                info.size = len(changed)
                f.addfile(info, io.BytesIO(changed))
            compress(tools, tar, target, LEVELS[0])
            tar.unlink()
        else:
            linked(path, target)
    (path,) = result.glob(f"*{LOCK_SUFFIX}")
    lock = json.loads(path.read_bytes())
    lock["files"] += [lock["files"][-1] | {"name": "new"}] if more else []
    write_json(made / path.name.replace(old, version), lock)
    packages = [
        Package(p["name"], p["version"], p["size"], p.get("sha256") or p["sha512"], p["repository"])
        for p in manifest["packages"]
    ] + [Package("new", "1.0-1", CHANGED, "0" * 64, "extra")] * more
    record = ImageRecord(
        PROFILE, version, str(manifest["distribution"]), str(manifest["source"]), 0, packages
    )
    inputs = {"lock": made / path.name.replace(old, version)}
    write_outputs(made, record, git=GitState(None, True), inputs=inputs)
    return made


def best(what: Callable[[], object]) -> float:
    """The shortest of three."""
    found = []
    for _ in range(3):
        began = time.monotonic()
        what()
        found.append(time.monotonic() - began)
    return min(found)
