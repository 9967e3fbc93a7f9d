"""What was signed about an image, without the image: its checksums, manifest, provenance and lock."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import ui
from builder.errors import InputError, TrustError
from builder.files import file_digest
from builder.lock import Lock, read_lock
from builder.outputs.checksums import SIGNATURE, SUMS, read_checksums
from builder.outputs.record import LOCK_SUFFIX, role_of
from builder.outputs.verify import Report, check_documents, check_signed, read_json
from builder.outputs.write import MANIFEST, PROVENANCE
from builder.publish.fetch import Site
from builder.publish.freshness import check_freshness
from builder.publish.pull import fetch_index, fetch_papers
from builder.publish.transfer import Transfer
from builder.tools import Tools


@dataclass(frozen=True)
class Papers:
    """What is known of a signed image. All of it was checked against the signature."""

    report: Report
    lock: Lock
    lock_digest: str
    provenance: dict[str, Any]

    @property
    def images(self) -> dict[str, str]:
        """Digests of the image's files by name."""
        return {name: digest for name, digest in self.report.digests.items() if role_of(name)}


def signed_papers(
    where: str,
    name: str | None,
    place: Path,
    *,
    keys: Sequence[bytes],
    tools: Tools,
    version: str | None = None,
) -> Papers:
    """Fetch the papers of a published image (or of a result directory) into ``place`` and check them.

    ``name`` and ``version`` choose from a published directory. Raises TrustError for what is not as it was
    signed, InputError for what is not there.
    """
    here = Path(where)
    if here.is_dir() and (here / SUMS).exists():
        copy_papers(here, place)
    elif name is None:
        raise InputError(
            f"{where} holds no result ({SUMS})", hint="of a published directory, say which profile: … NAME"
        )
    else:
        with Site(where) as site, ui.current().step(f"Fetching what is said of {name}") as meter:
            index = fetch_index(site, keys, tools)
            check_freshness(index)
            release = index.find(name, version)
            fetch_papers(Transfer(site, release, name, None, meter, tools), place, keys)
    report = checked_papers(place, name, keys, tools)
    locks = [n for n in report.digests if n.endswith(LOCK_SUFFIX)]
    if len(locks) != 1:
        raise InputError(f"{where}: there must be one lock to rebuild from, not {len(locks)}")
    lock = read_lock(place / locks[0])
    if (lock.profile, lock.source) != (report.profile, report.source):
        raise TrustError(f"{where}: the lock is of {lock.profile} from {lock.source}, {MANIFEST} is not")
    return Papers(report, lock, report.digests[locks[0]], read_json(place / PROVENANCE))


def copy_papers(result: Path, place: Path) -> list[str]:
    """Copy what a signature needs of a result, and what a rebuild does: everything but the image's files.

    Only names that SHA256SUMS lists are copied, and no links are followed.
    """
    if not result.is_dir():
        raise InputError(f"there is no directory {result}", hint="name a result, such as dist/work")
    listed = read_checksums(result / SUMS)
    place.mkdir(parents=True, exist_ok=True)
    copied = []
    for name in [SUMS, SIGNATURE, *sorted(n for n in listed if not role_of(n))]:
        path = result / name
        if path.is_symlink() or not path.is_file():
            if name == SIGNATURE:
                continue
            raise TrustError(f"{path} is missing or no plain file")
        shutil.copyfile(path, place / name)
        copied.append(name)
    return copied


def checked_papers(place: Path, name: str | None, keys: Sequence[bytes], tools: Tools) -> Report:
    """What papers say, once the signature over them is good. Raises TrustError listing every problem."""
    report = Report(place)
    check_signed(report, keys, require_signature=True, tools=tools)
    report.raise_for_problems()
    report.digests = read_checksums(place / SUMS, what=SUMS)
    for paper in sorted(n for n in report.digests if not role_of(n)):
        if not (place / paper).is_file() or file_digest(place / paper) != report.digests[paper]:
            report.problems.append(f"{paper} is missing or not the one that {SUMS} lists")
    if report.ok:
        check_documents(report, name)
    report.raise_for_problems()
    return report
