"""How do files appear whole or not at all, and how are they digested and locked?"""

import contextlib
import ctypes
import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from builder import ui
from builder.errors import BusyError, InputError, MachineError

CHUNK = 1 << 20
PART = ".part"  # how the names of unfinished directories end
OLD = "old"
KINDS = {stat.S_IFREG: "f", stat.S_IFDIR: "d", stat.S_IFLNK: "l"}
AT_FDCWD = -100  # fcntl.h
RENAME_EXCHANGE = 2  # linux/fs.h
NO_SPACE_HINT = "free some space or choose another place; nothing half-written was left"


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, algorithm).hexdigest()


def json_digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON: the key of a step's result."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def tree_digest(root: Path) -> str:
    """SHA-256 over names, executable bits, link targets and contents below ``root`` (or of one file)."""
    digest = hashlib.sha256()
    paths = sorted(root.rglob("*")) if root.is_dir() else [root]
    for path in paths:
        if path.suffix == ".pyc" or path.name == "__pycache__":
            continue
        mode = path.lstat().st_mode
        if (kind := KINDS.get(stat.S_IFMT(mode))) is None:
            raise InputError(f"{path} is neither a file nor a directory nor a link")
        # of a file's mode, the executable bit alone: the rest follows the umask of the checkout
        executable = mode & stat.S_IXUSR if kind == "f" else 0
        name = path.relative_to(root).as_posix() if path != root else ""
        digest.update(f"{kind} {executable:o} {name}\0".encode(errors="surrogateescape"))
        if kind == "l":
            digest.update(os.fsencode(path.readlink()))
        elif kind == "f":
            digest.update(bytes.fromhex(file_digest(path)))
    return digest.hexdigest()


@contextlib.contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``final``; on success it is fsynced and renamed over it, else removed.

    What is made there may be a file or a directory; an existing directory is replaced by swapping names.
    What a killed run left beside ``final`` is removed first. Raises InputError where ``final`` is no name of
    its own (``.``, ``/``), or is a device, pipe or socket: renaming over one would take it away.
    """
    with no_space_named(final):
        refuse_special(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(final)
        scratch, held = held_scratch(final)
    made = scratch / final.name
    try:
        with no_space_named(final):
            yield made
            if made.is_dir() and not made.is_symlink():
                move_directory(made, final)
            elif final.is_dir() and not final.is_symlink():
                raise InputError(f"{final} is a directory; the result is a file")
            else:
                with made.open("rb") as f:
                    os.fsync(f.fileno())
                made.replace(final)
    finally:
        remove_tree(scratch)
        os.close(held)


def refuse_special(final: Path) -> None:
    """Raise InputError where a path names no file or directory of its own, or a thing that is neither."""
    if final.name in ("", ".."):
        raise InputError(f"{final} cannot be replaced", hint="give the result a name of its own")
    if final.exists() and not (final.is_file() or final.is_dir() or final.is_symlink()):
        raise InputError(f"{final} is a device, pipe or socket; results are files and directories")


def held_scratch(final: Path) -> tuple[Path, int]:
    """A new directory beside ``final``, with an flock(2) on it that says that somebody is at work there."""
    while True:
        scratch = Path(tempfile.mkdtemp(dir=final.parent, prefix=f".{final.name}.", suffix=PART))
        held = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(held, fcntl.LOCK_EX)
        if scratch.is_dir():  # else somebody took it for a leftover before we held it
            return scratch, held
        os.close(held)


def remove_leftovers(final: Path) -> None:
    """Remove what runs that were killed left beside ``final``; a live run holds its own by flock(2)."""
    for scratch in final.parent.glob(f".{glob.escape(final.name)}.*{PART}"):
        try:
            held = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (scratch / OLD).exists() and not final.exists():  # killed between two renames
                (scratch / OLD).rename(final)
            remove_tree(scratch)
        except BlockingIOError:
            pass
        finally:
            os.close(held)


def sync_directory(path: Path) -> None:
    """Return when the names in a directory are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move_directory(made: Path, final: Path) -> None:
    """Put a directory into its place, in one step where the file system can swap two names.

    Raises InputError where a file is in that place.
    """
    if not final.exists():
        made.rename(final)
    elif not final.is_dir():
        raise InputError(f"{final} is a file; the result is a directory")
    elif not exchanged(made, final):
        final.rename(made.parent / OLD)
        made.rename(final)


def exchanged(one: Path, other: Path) -> bool:
    """Swap two names atomically (renameat2(2), RENAME_EXCHANGE); whether this system could."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    paths = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
    return rename is not None and rename(*paths, RENAME_EXCHANGE) == 0


def refuse_foreign(place: Path, marks: tuple[str, ...], what: str) -> None:
    """Raise InputError where ``place`` is a directory with something in it, but none of ``marks``.

    For commands that replace a directory which a person names: a slip must not cost a home directory.
    """
    if place.is_dir() and any(place.iterdir()) and not any((place / mark).exists() for mark in marks):
        raise InputError(
            f"{place} has files in it and is not {what}, so it is not replaced",
            hint="name a new or empty directory",
        )


@contextlib.contextmanager
def no_space_named(where: Path) -> Iterator[None]:
    """Turn a full or read-only disk and missing permission into one clear error that names the place."""
    try:
        yield
    except OSError as e:
        if (error := machine_error(e, where)) is None:
            raise
        raise error from e


def no_space_left(where: Path) -> MachineError:
    """The error a person is shown where a program found the disk full on which ``where`` lies."""
    return MachineError(f"cannot write {where}: {os.strerror(errno.ENOSPC)}", hint=NO_SPACE_HINT)


def says_no_space(output: str) -> bool:
    """Whether a program's output says that the file system it wrote to is full (ENOSPC or EDQUOT)."""
    return any(os.strerror(n).lower() in output.lower() for n in (errno.ENOSPC, errno.EDQUOT))


def machine_error(error: OSError, where: Path | None = None) -> MachineError | None:
    """The error a person is shown where the machine, and not we, is why a file operation failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return MachineError(
            f"cannot write {where or error.filename or 'a file'}: {os.strerror(error.errno)}",
            hint=NO_SPACE_HINT,
        )
    if error.errno in (errno.EACCES, errno.EPERM) and (error.filename or where):
        return MachineError(
            f"{error.filename or where}: {os.strerror(error.errno)}",
            hint="run as the user whom it belongs to, or choose another place",
        )
    return None


def write_atomic(final: Path, data: str | bytes, *, mode: int = 0o644) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part."""
    with atomic_path(final) as made:
        made.write_bytes(data.encode() if isinstance(data, str) else data)
        made.chmod(mode)


def write_json(final: Path, value: Any) -> None:
    write_atomic(final, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def linked(source: Path, target: Path) -> None:
    """A hard link where the file systems allow it, else a copy."""
    try:
        os.link(source, target)
    except OSError as e:
        if e.errno == errno.EEXIST:
            raise
        shutil.copyfile(source, target)


def remove_tree(path: Path) -> None:
    """Remove a file or a whole tree, also where directories inside are read-only or closed to us."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
        return

    def make_writable(function: Any, name: str, failure: Any) -> None:
        closed = not os.access(name, os.R_OK | os.X_OK)
        with contextlib.suppress(OSError):
            Path(name).parent.chmod(0o700)
            Path(name).chmod(0o700)
        if function in (os.rmdir, os.unlink):
            with contextlib.suppress(FileNotFoundError):
                function(name)
        elif closed and os.access(name, os.R_OK | os.X_OK):  # it could not be opened, and now it can
            remove_tree(Path(name))
        elif not isinstance(failure[1], FileNotFoundError):
            raise failure[1]

    if path.exists():
        shutil.rmtree(path, onerror=make_writable)


def from_byte(blocks: Iterable[bytes], offset: int) -> Iterator[bytes]:
    """What blocks hold from a byte offset on: for servers that send all of a file instead of its rest."""
    for block in blocks:
        if offset < len(block):
            yield block[offset:]
        offset = max(0, offset - len(block))


@contextlib.contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """An empty directory for its owner alone, removed at the end; what an earlier run left there is lost."""
    remove_tree(path)
    path.mkdir(mode=0o700, parents=True)
    try:
        yield path
    finally:
        remove_tree(path)


def is_running(pid: str) -> bool:
    """Whether there is such a process, and not only its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not pid.isdigit()  # who has just taken a lock may not have written who it is


@contextlib.contextmanager
def unchanged(path: Path) -> Iterator[None]:
    """Hold a shared flock(2) on a file that others may read, too, but nobody may write in meanwhile.

    Raises BusyError where somebody does.
    """
    with path.open("rb") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise BusyError(f"{path} is being written", hint="wait for it to finish") from e
        yield


@contextlib.contextmanager
def exclusive(path: Path, what: str, *, wait: bool = False) -> Iterator[int]:
    """Hold an flock(2) on ``path`` while inside; the kernel drops it with the process, however that ends.

    Yields its descriptor, for programs that must have ended before the lock is free (builder.run.run).
    Raises BusyError, naming the holder's process id, where somebody else has it and ``wait`` is false.
    """
    with no_space_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            by = f" by process {holder}" if holder else ""
            if not wait and is_running(holder):  # else its programs are ending just now
                raise BusyError(
                    f"{what} is already being worked on{by}",
                    hint="wait for it to finish, or end that process",
                ) from e
            ui.current().say(f"Waiting: {what} is being worked on{by}.")
            fcntl.flock(fd, fcntl.LOCK_EX)
        with no_space_named(path):
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield fd
    finally:
        os.close(fd)
