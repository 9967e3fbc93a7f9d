"""In which files do two images differ, and how?"""

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from builder.run import run

SHOWN = 10  # differing files that are named
DIFFOSCOPE_LINES = 40


def describe_difference(first: Path, second: Path) -> list[str]:
    """A few lines that name the first differing files of two archives; by diffoscope where there is one."""
    import zstandard

    if shutil.which("diffoscope"):
        result = run(["diffoscope", "--max-report-size", "20000", first, second], check=False)
        if result.text:
            return result.text.splitlines()[:DIFFOSCOPE_LINES]
    if not first.name.endswith(".tar.zst"):
        return [first_byte(first, second)]
    try:
        one, two = dict(members(first)), dict(members(second))
    except (tarfile.TarError, EOFError, OSError, zstandard.ZstdError):
        return [first_byte(first, second)]
    lines = []
    for name in sorted(one.keys() | two.keys()):
        if one.get(name) != two.get(name):
            lines.append(f"{name}: {difference(one.get(name), two.get(name))}")
    shown = lines[:SHOWN]
    if len(lines) > SHOWN:
        shown.append(f"… and {len(lines) - SHOWN} more")
    return shown or ["the same files, packed differently (order, padding or compression)"]


def difference(one: dict[str, object] | None, two: dict[str, object] | None) -> str:
    if one is None or two is None:
        return f"only in the {'second' if one is None else 'first'} build"
    changed = [f"{key} {one[key]} → {two[key]}" for key in one if one[key] != two[key] and key != "content"]
    if one["content"] != two["content"]:
        changed.append("content")
    return ", ".join(changed)


def members(archive: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Every member of a .tar.zst with what is recorded of it; contents as digests."""
    import zstandard

    with (
        archive.open("rb") as f,
        zstandard.ZstdDecompressor().stream_reader(f) as stream,
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as tar,
    ):
        for info in tar:
            content = ""
            if info.isfile() and (data := tar.extractfile(info)) is not None:
                content = hashlib.file_digest(data, "sha256").hexdigest()  # type: ignore[arg-type]
            yield (
                info.name,
                {
                    "type": info.type.decode(),
                    "mode": f"{info.mode:o}",
                    "owner": f"{info.uid}:{info.gid}",
                    "time": int(info.mtime),
                    "size": info.size,
                    "target": info.linkname,
                    "attributes": sorted(f"{k}={v!r}" for k, v in info.pax_headers.items() if "xattr" in k),
                    "content": content,
                },
            )


def first_byte(first: Path, second: Path) -> str:
    """Where two files part."""
    position = 0
    with first.open("rb") as a, second.open("rb") as b:
        while True:
            one, two = a.read(1 << 16), b.read(1 << 16)
            if one != two:
                common = next((i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), None)
                return f"from byte {position + (min(len(one), len(two)) if common is None else common)} on"
            if not one:
                return "no difference"
            position += len(one)
