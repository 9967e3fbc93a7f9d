"""How are a pacman repository's databases, packages and signatures pinned by size and digest?"""

import hashlib
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from builder.distro.pacman import SyncPackage
from builder.errors import MachineError, TrustError
from builder.files import atomic_path, file_digest
from builder.lock import LockedFile
from builder.store import ATTEMPTS, PAUSE, RETRY_STATUS, Store

if TYPE_CHECKING:
    import httpx

MAX_SIGNATURE = 65536  # bytes


def pin_databases(sync: Path, names: Sequence[str], store: Store) -> list[LockedFile]:
    """Pin and keep the databases that pacman has just checked, with their signatures where there are any."""
    files = []
    for name in names:
        for path in (sync / f"{name}.db", sync / f"{name}.db.sig"):
            if not path.exists():
                continue
            file = LockedFile(
                kind="signature" if path.suffix == ".sig" else "database",
                repository=name,
                path=path.name,
                size=path.stat().st_size,
                sha256=file_digest(path),
            )
            with atomic_path(store.path(file.sha256)) as made:
                shutil.copyfile(path, made)
            files.append(file)
    return files


def pin_packages(packages: Sequence[SyncPackage], urls: dict[str, str], store: Store) -> list[LockedFile]:
    """Pin packages by the database's digests, and their detached signatures by what they are now.

    Raises TrustError for a package that nobody signed.
    """
    import httpx

    files: list[LockedFile] = []
    try:
        with httpx.Client(timeout=20, follow_redirects=True) as http, ThreadPoolExecutor(8) as pool:
            signatures = pool.map(lambda p: pin_signature(http, p, urls[p.repository], store), packages)
            for package, signature in zip(packages, signatures, strict=True):
                if signature is None and not package.signature:
                    raise TrustError(
                        f"package {package.name} {package.version} of repository "
                        f"{package.repository} is not signed",
                        hint="only signed packages are installed; ask whoever runs the repository",
                    )
                files.append(
                    LockedFile(
                        kind="package",
                        repository=package.repository,
                        path=package.filename,
                        size=package.size,
                        sha256=package.sha256,
                        name=package.name,
                        version=package.version,
                    )
                )
                files += [signature] if signature else []
    except httpx.HTTPError as e:
        raise MachineError(f"cannot fetch a package's signature: {e}") from e
    return files


def pin_signature(http: "httpx.Client", package: SyncPackage, base: str, store: Store) -> LockedFile | None:
    """Fetch and keep one detached signature; None where the mirror has none."""
    data = fetch_signature(http, f"{base.rstrip('/')}/{package.filename}.sig")
    if data is None:
        return None
    sha256 = hashlib.sha256(data).hexdigest()
    with atomic_path(store.path(sha256)) as made:
        made.write_bytes(data)
    return LockedFile(
        kind="signature",
        repository=package.repository,
        path=f"{package.filename}.sig",
        size=len(data),
        sha256=sha256,
        name=package.name,
        version=package.version,
    )


def fetch_signature(http: "httpx.Client", url: str) -> bytes | None:
    """The bytes of a signature, None for 404. A busy mirror or a lost connection is asked again."""
    import httpx

    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        last = attempt + 1 == ATTEMPTS
        try:
            with http.stream("GET", url) as answer:
                if answer.status_code == 404:
                    return None
                if answer.status_code in RETRY_STATUS and not last:
                    continue
                answer.raise_for_status()
                data = b""
                for block in answer.iter_bytes():
                    data += block
                    if len(data) > MAX_SIGNATURE:
                        raise TrustError(f"{url} is too long to be a signature")
                return data
        except httpx.TransportError:
            if last:
                raise
    raise AssertionError("the last attempt returns or raises")
