"""Is a profile's result still what the checkout would make? Told by stat(2), before anything heavy loads.

What `seatsmith image` has worked out at length is noted with the state of every file that it depends on. A
file that was written, replaced, added or removed since changes that state (nobody can set a ctime back), and
then the question is worked out anew: a wrong "changed" costs a second, a wrong "up to date" never comes.
"""

import hashlib
import json
import os
import socket
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from builder.project import Project
from builder.sources import PROBE_TIMEOUT, Source, warn_of_standin

SETTLED = 2_000_000_000  # ns; a file may change again within one tick of a file system's clock (FAT: 2 s)
SKIPPED = "__pycache__"
HTTPS_PORT = 443

State = dict[str, list[int] | None]


@dataclass(frozen=True)
class Request:
    """What was asked for, as far as it decides about the result."""

    profile: str
    source: str
    """``auto``, ``upstream`` or ``standin``."""
    version: str | None
    signing: str
    """The value of SIGNING_KEY."""

    def digest(self, project: Project) -> str:
        words = [self.profile, self.source, self.version, self.signing, sys.version]
        words += [os.fspath(p) for p in (project.root, project.cache, project.dist)]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()


@dataclass(frozen=True)
class Delivery:
    """What ``seatsmith image`` left in dist/NAME."""

    place: Path
    files: list[Path]
    version: str
    source: str
    signed: bool
    fresh: bool
    """False where dist/NAME already held this very result."""


def recall(project: Project, request: Request) -> Delivery | None:
    """The result that is there, where it is known to be the one that was asked for; else None."""
    try:
        noted: dict[str, Any] = json.loads(memory(project, request.profile).read_text())
        if noted["request"] != request.digest(project):
            return None
        roots = [Path(path) for path in noted["inputs"]]
        place = project.dist / request.profile
        if digest_of(inputs_state(project, roots), state_of([place])) != noted["state"]:
            return None
        delivery = Delivery(
            place, published(place), noted["version"], noted["source"], noted["signed"], fresh=False
        )
        probe_url = noted["probe_url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if request.source == "auto":
        if delivery.source != Source.STANDIN or answers(probe_url):
            return None
        warn_of_standin(probe_url)
    return delivery


def remember(
    project: Project,
    request: Request,
    delivery: Delivery,
    *,
    inputs: Sequence[Path],
    probe_url: str,
    before: Mapping[str, list[int] | None],
    began: int,
) -> None:
    """Note that ``delivery`` answers ``request`` while nothing changes.

    ``before`` is the inputs' state when that began to be worked out, at ``began`` (nanoseconds since 1970).
    What has changed since, or so shortly before that a clock's tick could hide it, is not noted.
    """
    from builder.files import write_json

    state = inputs_state(project, inputs)
    if state != before or any(stamp and stamp[-1] > began - SETTLED for stamp in state.values()):
        memory(project, request.profile).unlink(missing_ok=True)
        return
    noted = {
        "request": request.digest(project),
        "inputs": [os.fspath(path) for path in inputs],
        "state": digest_of(state, state_of([delivery.place])),
        "version": delivery.version,
        "source": delivery.source,
        "signed": delivery.signed,
        "probe_url": probe_url,
    }
    write_json(memory(project, request.profile), noted)


def memory(project: Project, name: str) -> Path:
    place = hashlib.sha256(os.fsencode(project.dist / name)).hexdigest()
    return project.cache / "state" / f"{name}-{place[:16]}.known.json"


def published(place: Path) -> list[Path]:
    """The files of a result."""
    return sorted(path for path in place.iterdir() if path.is_file())


def inputs_state(project: Project, inputs: Iterable[Path]) -> State:
    """The state of ``inputs``, of mkosi's settings and of all of our own code."""
    package = Path(__file__).parent
    return state_of([package, *sorted(project.root.glob("mkosi.*")), *inputs])


def state_of(roots: Iterable[Path]) -> State:
    """What stat(2) says about each file, by path; of what is not there, None."""
    state: State = {}
    for root in roots:
        try:
            found = root.stat()  # of a symbolic link, what it leads to
        except OSError:
            state[os.fspath(root)] = None
            continue
        state[os.fspath(root)] = stamp(found)
        if root.is_symlink():
            state[f"{root}\0link"] = stamp(root.lstat())
        state.update(below(os.fspath(root)))
    return state


def below(place: str) -> Iterator[tuple[str, list[int]]]:
    if not os.path.isdir(place):  # noqa: PTH112 - a Path each would double the time
        return
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name == SKIPPED:
                continue
            yield entry.path, stamp(entry.stat(follow_symlinks=False))
            if entry.is_dir(follow_symlinks=False):
                yield from below(entry.path)


def stamp(found: os.stat_result) -> list[int]:
    """Changes whenever a file's content or mode does; a directory's times tell of temporary files only."""
    if stat.S_ISDIR(found.st_mode):
        return [found.st_mode, 0]
    times = [found.st_mtime_ns, found.st_ctime_ns]
    return [found.st_mode, found.st_dev, found.st_ino, found.st_size, *times]


def digest_of(*states: State) -> str:
    return hashlib.sha256(json.dumps(states, sort_keys=True).encode()).hexdigest()


def answers(url: str) -> bool:
    """Whether ``url`` may answer: only a server that cannot be connected to surely does not."""
    if any(name.lower().endswith("_proxy") for name in os.environ):
        return True
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or HTTPS_PORT), PROBE_TIMEOUT):
            return True
    except OSError:
        return False
