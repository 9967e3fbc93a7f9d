"""How does a tree of small files become the same archive on every machine?"""

import io
import tarfile
from pathlib import Path

from builder.files import atomic_path

COMPRESS_LEVEL = 3  # zstd(1); higher levels cost more than they save on an image that is read once


def pack_tree(tree: Path, final: Path, *, epoch: int) -> None:
    """Write everything below ``tree`` into ``final`` (.tar.zst): sorted, owned by root, all times ``epoch``.

    For rendered files, whose owners and times mean nothing. Modes and symbolic links are kept.
    """
    import zstandard

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(tree.rglob("*")):
            info = tar.gettarinfo(path, arcname=f"./{path.relative_to(tree).as_posix()}")
            if info.islnk():  # how the tree came to be is no input
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = epoch
            info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            if info.isfile():
                with path.open("rb") as f:
                    tar.addfile(info, f)
            else:
                tar.addfile(info)
    with atomic_path(final) as made:
        made.write_bytes(zstandard.ZstdCompressor(level=COMPRESS_LEVEL).compress(buffer.getvalue()))
