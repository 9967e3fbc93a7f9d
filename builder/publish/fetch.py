"""How are files of a published directory fetched: whole, bounded, and resumed where a transfer broke off?"""

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, unquote, urlsplit

from builder import ui
from builder.errors import InputError, MachineError, TrustError
from builder.files import CHUNK, from_byte, no_space_named

if TYPE_CHECKING:
    import httpx

    from builder.registry import Repository

TIMEOUT = 30.0  # seconds without a byte
SLOWEST = 1000  # bytes a second, on the average, once a transfer has lasted PATIENCE
PATIENCE = 60.0  # seconds
ATTEMPTS = 3
MAX_REDIRECTS = 5


class Site:
    """A published directory behind http(s):// or file:// URLs, at a local path, or in a registry (oci://)."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
        except ValueError as e:
            raise InputError(f"{url!r} is no address: {e}") from e
        self.url = url.rstrip("/")
        self.local: Path | None = None
        self.http: httpx.Client | None = None
        self.oci: Repository | None = None
        if parts.scheme in ("", "file"):
            self.local = Path(unquote(parts.path)).absolute()
            self.url = str(self.local)
        elif parts.scheme == "oci":
            from builder import registry

            self.oci = registry.Repository(url)
        elif parts.scheme not in ("http", "https"):
            raise InputError(
                f"{url}: unknown kind of URL", hint="accepted: https://, http://, oci://, file:// or a path"
            )

    def __enter__(self) -> Self:
        if self.local is None and self.oci is None:
            import httpx

            self.http = httpx.Client(
                timeout=TIMEOUT,
                follow_redirects=True,
                max_redirects=MAX_REDIRECTS,
                headers={"Accept-Encoding": "identity"},
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.http is not None:
            self.http.close()

    def get(self, name: str, *, limit: int) -> bytes:
        """A small file. Raises TrustError if it is larger than ``limit`` bytes."""
        data = bytearray()
        for block in self.blocks(name, 0):
            data += block
            if len(data) > limit:
                raise TrustError(f"{self.url}/{name} is larger than {limit} bytes")
        return bytes(data)

    def download(
        self, name: str, path: Path, *, sha256: str, size: int | None, limit: int, meter: ui.Meter
    ) -> None:
        """Fetch ``name`` into ``path`` and check it; an interrupted transfer is resumed.

        Raises TrustError for a wrong size or digest (the file is removed then), MachineError where the
        transfer does not come to its end.
        """
        most = limit if size is None else size
        problem = ""  # of the last attempt
        for _ in range(ATTEMPTS):
            have = path.stat().st_size if path.exists() else 0
            problem = ""
            try:
                self.append(name, path, have, most, meter)
            except MachineError as e:
                problem = e.message
            have = path.stat().st_size if path.exists() else 0
            if not problem and (size is None or have == size):
                break
            problem = problem or f"the connection ended after {have} of {size} bytes"
        else:
            raise MachineError(
                f"cannot fetch {self.url}/{name}: {problem}",
                hint="run the command again: it goes on from there",
            )
        with path.open("rb") as f:
            found = hashlib.file_digest(f, "sha256").hexdigest()
        if found != sha256:
            path.unlink()
            raise TrustError(
                f"{self.url}/{name} is not the file that was signed:\n"
                f"  expected sha256 {sha256}\n  found    sha256 {found}"
            )

    def append(self, name: str, path: Path, have: int, most: int, meter: ui.Meter) -> None:
        """Fetch what ``path``, which has ``have`` bytes, lacks.

        Raises TrustError where it comes to more than ``most`` bytes (the file is removed then), MachineError
        where the transfer breaks off.
        """
        with no_space_named(path), path.open("ab") as f:
            for block in self.blocks(name, have):
                f.write(block)
                have += len(block)
                meter.advance(len(block))
                if have > most:
                    f.close()
                    path.unlink()
                    raise TrustError(
                        f"{self.url}/{name} is larger than the {most} bytes that were signed for"
                    )

    def blocks(self, name: str, offset: int) -> Iterator[bytes]:
        """The content from ``offset`` on. Raises MachineError for what cannot be read."""
        if self.local is not None:
            yield from local_blocks(self.local, name, offset)
            return
        if self.oci is not None:
            from builder.publish.oci import INDEX_TAG, place_of

            tag, title = place_of(name)
            yield from self.oci.blocks(tag, title, offset, again=tag == INDEX_TAG)
            return
        import httpx

        assert self.http is not None
        url = f"{self.url}/{quote(name)}"
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self.http.stream("GET", url, headers=headers) as answer:
                if answer.status_code == 416:  # nothing is left to fetch
                    return
                if answer.status_code not in (200, 206):
                    raise MachineError(f"{url}: HTTP status {answer.status_code}")
                # as they come: a wait for a whole chunk would be one that nothing bounds
                blocks = fast_enough(answer.iter_raw(), url)
                yield from from_byte(blocks, offset if answer.status_code == 200 else 0)
        except httpx.HTTPError as e:
            raise MachineError(f"{url}: {type(e).__name__}: {e}".rstrip(": ")) from e


def fast_enough(blocks: Iterable[bytes], url: str) -> Iterator[bytes]:
    """The blocks, as long as a mirror does not hold a seat up by sending byte after byte.

    Raises MachineError.
    """
    began, got = time.monotonic(), 0
    for block in blocks:
        got += len(block)
        took = time.monotonic() - began
        if took > PATIENCE and got < took * SLOWEST:
            raise MachineError(f"{url}: only {got} bytes came in {took:.0f} s")
        yield block


def local_blocks(root: Path, name: str, offset: int) -> Iterator[bytes]:
    """Content of a file below ``root``, which may be anybody's: a stick, a network share.

    Raises TrustError for a link that leads out of there and for what is no file, such as a pipe.
    """
    path = root / name
    try:
        real = path.resolve(strict=True)
        if not real.is_relative_to(root.resolve()) or not real.is_file():
            raise TrustError(f"{path} is no file of the published directory")
        with path.open("rb") as f:
            f.seek(offset)
            while block := f.read(CHUNK):
                yield block
    except OSError as e:
        raise MachineError(f"{path}: {e.strerror}") from e


@contextlib.contextmanager
def kept_parts(place: Path) -> Iterator[Path]:
    """A directory for one pull that survives a failure of the way there, and nothing else.

    What was fetched is checked again when it is used, so what an earlier run left is only a saving.
    """
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    except MachineError:
        raise
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    else:
        shutil.rmtree(place, ignore_errors=True)
