"""Where are fetched files kept, and how do we know that they are what the lock names?

The store is a directory of files named by their SHA-256. What is in it has been checked on the way in, and
is checked again on the way out, since disks and people change files.
"""

import io
import re
import shutil
import tarfile
import threading
import time
from collections.abc import Set
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder import ui
from builder.errors import InputError, MachineError, TrustError
from builder.files import CHUNK, exclusive, file_digest, no_space_named
from builder.lock import MAX_LOCK, Lock, LockedFile, lock_text, parse_lock

if TYPE_CHECKING:
    import httpx

    from builder.shared import Shared

LOCK_MEMBER = "lock.json"
PARALLEL = 8
ATTEMPTS = 4
TIMEOUT = 20.0  # seconds without a byte
PAUSE = 0.5  # seconds before the second try, doubled for each further one
MAX_REDIRECTS = 5
YOUNG = 3600.0  # seconds
DIGITS = 64  # of a SHA-256
STORED = r"[0-9a-f]{64}(\.part)?"  # names of files, and of files that have not come as a whole
RANGE_REFUSED = 416
RETRY_STATUS = {408, RANGE_REFUSED, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Pruned:
    """How many files were removed from the store, and how many bytes they had."""

    files: int
    size: int


class Store:
    """Content-addressed files below ``root``, shared by all profiles; ``shared`` by other machines, too."""

    def __init__(self, root: Path, *, shared: "Shared | None" = None) -> None:
        self.root, self.shared = root, shared

    def path(self, sha256: str) -> Path:
        return self.root / sha256[:2] / sha256

    def has(self, file: LockedFile) -> bool:
        """Whether a file is there with the right size (its digest is checked when it is used)."""
        try:
            return self.path(file.sha256).stat().st_size == file.size
        except FileNotFoundError:
            return False

    def lack(self, file: LockedFile) -> str | None:
        """What is wrong with a file that is not there with the right size; None where it is."""
        if self.has(file):
            return None
        path = self.path(file.sha256)
        found = f"{path.stat().st_size} bytes, sha256 {file_digest(path)}" if path.is_file() else "nothing"
        return (
            f"{file.title} ({file.filename}):\n"
            f"  expected {file.size} bytes, sha256 {file.sha256}\n  found    {found}"
        )

    def checked(self, file: LockedFile) -> Path:
        """The path of a stored file after checking its digest; a damaged one is removed and refused."""
        path = self.path(file.sha256)
        if not path.is_file():
            raise InputError(f"{file.title} is not in the store", hint="fetch it: seatsmith fetch PROFILE")
        found = file_digest(path)
        if found != file.sha256:
            path.unlink()
            raise TrustError(
                f"{file.title} ({file.filename}) in the store is not what was put there:\n"
                f"  expected sha256 {file.sha256}\n  found    sha256 {found}",
                hint="it has been removed; run the command again to fetch it anew",
            )
        return path

    def adopt(self, source: Path, file: LockedFile) -> Path:
        """Check a finished download and move it in. Raises TrustError on a wrong size or digest."""
        size, found = source.stat().st_size, file_digest(source)
        if size != file.size or found != file.sha256:
            source.unlink()
            raise TrustError(
                f"{file.title} ({file.filename}) is not the file that the lock names:\n"
                f"  expected {file.size} bytes, sha256 {file.sha256}\n"
                f"  found    {size} bytes, sha256 {found}",
                hint="the mirror or the way to it changed the file; if the mirror is right, renew the lock",
            )
        path = self.path(file.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        source.chmod(0o644)
        source.replace(path)
        return path

    def fetch(self, lock: Lock, urls: dict[str, str]) -> None:
        """Fetch what the lock names and the store lacks, in parallel, resuming what was interrupted.

        ``urls`` gives each repository's URL now. Raises TrustError for a wrong file, MachineError for a
        mirror that cannot be used.
        """
        if all(self.has(f) for f in lock.files):
            return
        with exclusive(self.root / "fetch.lock", "the store", wait=True), no_space_named(self.root):
            missing: dict[str, LockedFile] = {}  # asked again: somebody may have fetched it meanwhile
            for file in lock.files:
                if not self.has(file) and missing.setdefault(file.sha256, file) is file:
                    self.say_cut_short(file)
            if missing:
                self.fetch_all(list(missing.values()), urls)

    def say_cut_short(self, file: LockedFile) -> None:
        if self.path(file.sha256).exists():
            ui.current().warn(
                f"the store has less than was put there, and it is fetched anew: {self.lack(file)}"
            )

    def fetch_all(self, missing: list[LockedFile], urls: dict[str, str]) -> None:
        import httpx

        stop = threading.Event()
        limits = httpx.Limits(max_connections=PARALLEL)
        with (
            ui.current().step(f"Fetching {len(missing)} files", total=sum(f.size for f in missing)) as meter,
            httpx.Client(
                timeout=TIMEOUT, limits=limits, max_redirects=MAX_REDIRECTS, follow_redirects=True
            ) as http,
            ThreadPoolExecutor(PARALLEL) as pool,
        ):
            jobs = [
                pool.submit(copy_context().run, fetch_one, self, http, f, urls[f.repository], meter, stop)
                for f in missing
            ]
            try:
                wait(jobs, return_when=FIRST_EXCEPTION)
                for job in jobs:
                    if job.done():
                        job.result()
            finally:
                stop.set()  # what still runs ends at its next block; what it has is kept for a resume
                pool.shutdown(wait=True, cancel_futures=True)

    def export(self, lock: Lock, archive: Path) -> int:
        """Write a lock and its inputs into one tar, for a machine without network; return how many files."""
        files = sorted({f.sha256: f for f in lock.files}.values(), key=lambda f: f.sha256)
        text = lock_text(lock).encode()
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            head = tarfile.TarInfo(LOCK_MEMBER)
            head.size = len(text)
            tar.addfile(head, io.BytesIO(text))
            for file in files:
                info = tarfile.TarInfo(file.sha256)
                info.size = file.size
                with self.checked(file).open("rb") as f:
                    tar.addfile(info, f)
        return len(files)

    def load(self, archive: Path) -> tuple[Lock, int]:
        """Take an exported tar in: its lock, and the files that the lock names, each checked.

        Raises InputError for anything else in the tar, TrustError for a changed file.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            with tarfile.open(archive, "r|") as tar, no_space_named(self.root):
                return self.load_members(tar, archive)
        except (tarfile.TarError, EOFError) as e:
            raise InputError(f"{archive} is not a store export: {e}") from e
        except (FileNotFoundError, IsADirectoryError) as e:
            raise InputError(f"cannot read {archive}: {e.strerror}") from e

    def load_members(self, tar: tarfile.TarFile, archive: Path) -> tuple[Lock, int]:
        lock: Lock | None = None
        named: dict[str, LockedFile] = {}
        taken = 0
        for info in tar:
            content = tar.extractfile(info) if info.isfile() else None
            if content is None or (info.name not in named and (lock or info.name != LOCK_MEMBER)):
                raise InputError(f"{archive}: {info.name!r} does not belong into a store export")
            if lock is None:
                lock = parse_lock(content.read(MAX_LOCK + 1), archive)
                named = {f.sha256: f for f in lock.files}
                continue
            part = self.root / f"{info.name}.import"
            try:
                with part.open("wb") as f:
                    shutil.copyfileobj(content, f, CHUNK)
                self.adopt(part, named[info.name])
            finally:
                part.unlink(missing_ok=True)
            taken += 1
        if lock is None:
            raise InputError(f"{archive} holds no lock")
        for file in lock.files:
            if not self.has(file):
                raise InputError(f"{archive} lacks {file.title} ({file.filename}), which its lock names")
        return lock, taken

    def prune(self, kept: Set[str], *, dry_run: bool = False) -> Pruned:
        """Remove the files, and the parts of files, whose digests are not ``kept``.

        What came within the last hour stays: somebody may be resolving a lock that will name it.
        """
        count = size = 0
        old = time.time() - YOUNG
        with exclusive(self.root / "fetch.lock", "the store", wait=True):
            for path in sorted([*self.root.glob("[0-9a-f][0-9a-f]/*"), *self.root.glob("*.part")]):
                if not re.fullmatch(STORED, path.name) or not path.is_file():
                    continue
                found = path.stat()
                if path.name[:DIGITS] in kept or found.st_mtime > old:
                    continue
                count, size = count + 1, size + found.st_size
                if not dry_run:
                    path.unlink()
        return Pruned(count, size)


class Stopped(Exception):
    """Another download has failed, or the user has had enough."""


def fetch_one(
    store: Store, http: "httpx.Client", file: LockedFile, base: str, meter: ui.Meter, stop: threading.Event
) -> Path:
    """Fetch one file, from the shared store or its mirror, trying again where that can help."""
    import httpx

    url = f"{base.rstrip('/')}/{file.path}"
    part = store.root / f"{file.sha256}.part"
    if store.shared and store.shared.take(file, shared := part.with_suffix(".shared")):
        meter.advance(file.size)
        return store.adopt(shared, file)
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt and stop.wait(PAUSE * 2 ** (attempt - 1)):
            raise Stopped
        resumed = part.exists()
        try:
            problem = download(http, url, part, file.size, meter, stop)
        except httpx.TooManyRedirects:
            part.unlink(missing_ok=True)
            raise MachineError(f"{url}: more than {MAX_REDIRECTS} redirects") from None
        except (httpx.HTTPError, httpx.InvalidURL) as e:
            problem = f"{type(e).__name__}: {e}".rstrip(": ")
        if not problem:
            try:
                path = store.adopt(part, file)
                if store.shared:
                    store.shared.give(file, path)
                return path
            except TrustError:
                if not resumed:
                    raise
                problem = "the part that was there before did not fit"  # fetched anew as a whole
        if problem.startswith("HTTP status ") and int(problem.split()[-1]) not in RETRY_STATUS:
            break
    raise MachineError(
        f"cannot fetch {file.title} from {url}: {problem}",
        hint="mirrors delete old files: renew the lock, or import the files with `seatsmith store import`",
    )


def download(
    http: "httpx.Client", url: str, part: Path, size: int, meter: ui.Meter, stop: threading.Event
) -> str:
    """Download into ``part``, going on where an earlier try stopped; return what went wrong, or nothing.

    Of a file that is longer than it should be, one block too much is kept: its digest is refused.
    """
    have = part.stat().st_size if part.exists() else 0
    if have >= size:
        part.unlink(missing_ok=True)
        have = 0
    # as it is: a transfer encoding would count other bytes than the lock does
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with http.stream("GET", url, headers=headers) as answer:
        if answer.status_code not in (200, 206):
            if answer.status_code == RANGE_REFUSED:  # what is there is no beginning of the mirror's file
                part.unlink(missing_ok=True)
            return f"HTTP status {answer.status_code}"
        if answer.status_code == 200:
            have = 0
        with part.open("ab" if have else "wb") as f:
            for block in answer.iter_raw():
                if stop.is_set():
                    raise Stopped
                have += len(block)
                f.write(block)
                meter.advance(len(block))
                if have > size:
                    return ""
    return "" if have == size else f"the connection ended after {have} of {size} bytes"
