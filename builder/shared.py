"""Where do many machines share what one of them fetched? At SEATSMITH_STORE, a place behind the store.

    oci://HOST/REPOSITORY    a registry: an artifact for each file, its tag the file's SHA-256
    http://, https://        any web server, to read from
    file://, s3://, …        whatever fsspec has a file system for; credentials as that says

Below a place that is no registry, files are named as in the store. Nothing there is believed: what it sends
is checked like what a mirror sends. Where something is missing, wrong or out of reach, the mirror is asked.
"""

import contextlib
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from builder import ui
from builder.errors import InputError, SeatsmithError
from builder.files import CHUNK, file_digest
from builder.lock import LockedFile

VARIABLE = "SEATSMITH_STORE"
# an object appears whole; renaming is copying
OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
ACCEPTED = "oci://, https://, file://, s3:// or another kind that fsspec knows"


class Place(Protocol):
    """One kind of place. Failures are SeatsmithError or OSError."""

    def size(self, sha256: str) -> int | None:
        """Of the file that is kept there under this digest."""

    def blocks(self, sha256: str) -> Iterator[bytes]: ...
    def put(self, sha256: str, path: Path) -> None: ...


class Shared:
    """A shared store as one run uses it: after the first failure to read or write it is not asked again."""

    def __init__(self, url: str, place: Place, *, writable: bool = True) -> None:
        self.url, self.place = url, place
        self.readable, self.writable = True, writable
        self._lock = threading.Lock()

    def take(self, file: LockedFile, part: Path) -> bool:
        """Whether ``part`` now holds the file, with the size and digest that its lock names."""
        if not self.readable:
            return False
        try:
            if self.place.size(file.sha256) is None:
                return False
            have = 0
            with part.open("wb") as f:
                for block in self.place.blocks(file.sha256):
                    f.write(block)
                    have += len(block)
                    if have > file.size:
                        break
        except (SeatsmithError, OSError) as e:
            part.unlink(missing_ok=True)
            self._give_up("read", e)
            return False
        if have == file.size and file_digest(part) == file.sha256:
            return True
        part.unlink()
        ui.current().warn(f"{self.url} holds another file as {file.title}: not used; asking the mirror")
        return False

    def give(self, file: LockedFile, path: Path) -> None:
        """Keep there, too, what has been checked; a file of another size is replaced."""
        if not self.writable:
            return
        try:
            if self.place.size(file.sha256) != file.size:
                self.place.put(file.sha256, path)
        except (SeatsmithError, OSError) as e:
            self._give_up("write", e)

    def _give_up(self, what: str, error: Exception) -> None:
        with self._lock:
            told = not (self.readable if what == "read" else self.writable)
            if what == "read":
                self.readable = False
            self.writable = False
        if not told:
            reason = error.message if isinstance(error, SeatsmithError) else str(error)
            ui.current().warn(f"the shared store {self.url} cannot be used: {reason}; going on without it")


def shared_store(url: str | None = None) -> Shared | None:
    """The place that ``url`` or the environment names. Raises InputError for one of an unknown kind."""
    url = url or os.environ.get(VARIABLE, "")
    if not url:
        return None
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme == "oci":
        return Shared(url, Registry(url))
    if scheme in ("http", "https"):
        return Shared(url, Web(url), writable=False)
    if not scheme:
        raise InputError(f"{VARIABLE}={url} is no URL", hint=f"accepted: {ACCEPTED}")
    return Shared(url, Files(url))


def place_below(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


class Files:
    """A file system of fsspec."""

    def __init__(self, url: str) -> None:
        import fsspec

        self.scheme = url.partition("://")[0]
        try:
            self.fs, self.root = fsspec.core.url_to_fs(url)
        except ValueError as e:
            raise InputError(f"{VARIABLE}={url}: {e}", hint=f"accepted: {ACCEPTED}") from e
        except ImportError as e:
            raise InputError(f"{VARIABLE}={url}: {e}", hint="into .venv, beside Seatsmith") from e

    def path(self, sha256: str) -> str:
        return f"{self.root.rstrip('/')}/{place_below(sha256)}"

    def size(self, sha256: str) -> int | None:
        try:
            with known_errors():
                found = self.fs.info(self.path(sha256))
            # whoever opens a pipe that another writer has put there waits for ever
            return int(found["size"]) if found["type"] == "file" else None
        except FileNotFoundError:
            return None

    def blocks(self, sha256: str) -> Iterator[bytes]:
        with known_errors(), self.fs.open(self.path(sha256), "rb") as f:
            while block := f.read(CHUNK):
                yield block

    def put(self, sha256: str, path: Path) -> None:
        """Nobody sees half a file, and writers do not meet: under a name of its own first, where need be."""
        target = self.path(sha256)
        if self.scheme in OBJECT_STORES:
            with known_errors():
                self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                self.fs.put_file(os.fspath(path), target)
            return
        made = f"{target}.{uuid.uuid4().hex}"
        with known_errors():
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            try:
                self.fs.put_file(os.fspath(path), made)
                self.fs.mv(made, target)
            except BaseException:
                with contextlib.suppress(Exception):
                    self.fs.rm(made)
                raise


@contextlib.contextmanager
def known_errors() -> Iterator[None]:
    """Each client of fsspec has errors of its own; without credentials or network, botocore's no OSError."""
    try:
        yield
    except (SeatsmithError, OSError):
        raise
    except Exception as e:
        raise OSError(f"{type(e).__name__}: {e}") from e


class Web:
    """A web server's directory."""

    def __init__(self, url: str) -> None:
        import httpx

        self.url = url.rstrip("/")
        self.http = httpx.Client(timeout=20.0, follow_redirects=True)

    def size(self, sha256: str) -> int | None:
        with self._asked("HEAD", sha256) as answer:
            return None if answer.status_code == 404 else int(answer.headers.get("Content-Length", 0))

    def blocks(self, sha256: str) -> Iterator[bytes]:
        with self._asked("GET", sha256) as answer:
            yield from answer.iter_raw(CHUNK)

    def put(self, sha256: str, path: Path) -> None:
        raise OSError("a web server is only read from")

    @contextlib.contextmanager
    def _asked(self, method: str, sha256: str) -> Iterator[Any]:
        import httpx

        headers = {"Accept-Encoding": "identity"}
        try:
            with self.http.stream(method, f"{self.url}/{place_below(sha256)}", headers=headers) as answer:
                if answer.status_code not in (200, 404):
                    raise OSError(f"HTTP status {answer.status_code}")
                yield answer
        except httpx.HTTPError as e:
            raise OSError(f"{type(e).__name__}: {e}") from e


class Registry:
    """A repository of a registry; each thread has a connection of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._local = threading.local()
        self.repository()  # a wrong URL is refused at once

    def repository(self) -> Any:
        from builder.registry import Repository

        if not hasattr(self._local, "repository"):
            self._local.repository = Repository(self.url)
        return self._local.repository

    def size(self, sha256: str) -> int | None:
        return self.repository().size(sha256, sha256)  # type: ignore[no-any-return]

    def blocks(self, sha256: str) -> Iterator[bytes]:
        return self.repository().blocks(sha256, sha256)  # type: ignore[no-any-return]

    def put(self, sha256: str, path: Path) -> None:
        self.repository().upload(sha256, [path])
