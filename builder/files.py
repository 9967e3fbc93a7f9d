"""How do files appear whole or not at all, and how are they digested and locked?"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from builder.errors import BusyError, MachineError

CHUNK = 1 << 20


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: the key of a step's result."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def tree_digest(root: Path) -> str:
    """SHA-256 over names, modes, link targets and contents of everything below ``root`` (or of one file)."""
    digest = hashlib.sha256()
    paths = sorted(root.rglob("*")) if root.is_dir() else [root]
    for path in paths:
        if path.suffix == ".pyc" or path.name == "__pycache__":
            continue
        stat = path.lstat()
        kind = "l" if path.is_symlink() else "d" if path.is_dir() else "f"
        name = path.relative_to(root).as_posix() if path != root else ""
        digest.update(f"{kind} {stat.st_mode & 0o111:o} {name}\0".encode(errors="surrogateescape"))
        if kind == "l":
            digest.update(os.fsencode(path.readlink()))
        elif kind == "f":
            digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``final``; on success it is fsynced and renamed over it, else removed.

    What is made there may be a file or a directory; an existing directory is replaced by swapping names.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.", suffix=".part"))
    made = scratch / final.name
    try:
        with no_space_named(final):
            yield made
            if made.is_dir() and not made.is_symlink():
                if final.exists():
                    final.rename(scratch / "old")
                made.rename(final)
            else:
                with made.open("rb") as f:
                    os.fsync(f.fileno())
                made.replace(final)
    finally:
        remove_tree(scratch)


@contextlib.contextmanager
def no_space_named(where: Path) -> Iterator[None]:
    """Turn ENOSPC, EDQUOT and EROFS into one clear error that names the place."""
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise MachineError(
            f"cannot write {where}: {os.strerror(e.errno)}",
            hint="free some space or choose another place; nothing half-written was left",
        ) from e


def write_atomic(final: Path, data: str | bytes, *, mode: int = 0o644) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part."""
    with atomic_path(final) as made:
        made.write_bytes(data.encode() if isinstance(data, str) else data)
        made.chmod(mode)


def write_json(final: Path, value: Any) -> None:
    write_atomic(final, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def remove_tree(path: Path) -> None:
    """Remove a file or a whole tree, also where directories inside are read-only."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return

    def make_writable(function: Any, name: str, _: Any) -> None:
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            Path(name).chmod(0o700)
        with contextlib.suppress(FileNotFoundError):
            function(name)

    if path.exists():
        shutil.rmtree(path, onerror=make_writable)


@contextlib.contextmanager
def exclusive(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an flock(2) on ``path`` while inside; the kernel drops it with the process, however that ends.

    Raises BusyError, naming the holder's process id, where somebody else has it and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as e:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            raise BusyError(
                f"{what} is already being worked on" + (f" by process {holder}" if holder else ""),
                hint="wait for it to finish, or end that process",
            ) from e
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)
