"""Where do packages come from: the distribution's mirrors, or the embedded stand-in?"""

import contextlib
from collections.abc import Iterator
from enum import StrEnum

from builder import ui
from builder.errors import MachineError, UsageError
from builder.standin.places import STANDIN_SCHEME, standin_root

AUTO = "auto"  # upstream where it answers, else the stand-in
PROBE_TIMEOUT = 4.0  # seconds; "auto" must not keep a person waiting


class Source(StrEnum):
    UPSTREAM = "upstream"
    STANDIN = "standin"


def choose_source(wanted: str, probe_url: str) -> Source:
    """Resolve ``auto``: upstream when it answers, else the stand-in, with a plain warning.

    A source that is named is not asked: its lock and the store may have all that is needed.
    Raises UsageError for an unknown word.
    """
    if wanted in list(Source):
        return Source(wanted)
    if wanted != AUTO:
        raise UsageError(f"unknown source {wanted!r}", hint="accepted: auto, upstream, standin")
    if probe(probe_url) is None:
        return Source.UPSTREAM
    warn_of_standin(probe_url)
    return Source.STANDIN


def refuse_silent(probe_url: str) -> None:
    """Raise MachineError where upstream does not answer."""
    if problem := probe(probe_url):
        raise MachineError(
            f"{probe_url} does not answer: {problem}",
            hint="check the network, or build from the stand-in with SOURCE=standin",
        )


def warn_of_standin(probe_url: str) -> None:
    ui.current().warn(
        f"{probe_url} does not answer; building from the embedded stand-in (Debian packages under the "
        "distribution's names). The result is for trying and testing, and says so."
    )


def probe(url: str) -> str | None:
    """Why ``url`` cannot be used, or None if it can."""
    import httpx

    try:
        answer = httpx.head(url, timeout=PROBE_TIMEOUT, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        return str(e) or type(e).__name__
    return None if answer.status_code < 400 else f"HTTP status {answer.status_code}"


@contextlib.contextmanager
def reachable(mirrors: dict[str, str]) -> Iterator[dict[str, str]]:
    """The URLs to use for a lock's mirrors now: ``standin:`` ones are served on loopback while inside."""
    if not any(url.startswith(STANDIN_SCHEME) for url in mirrors.values()):
        yield mirrors
        return
    from builder.standin.server import serve

    ours = {name: standin_root(url) for name, url in mirrors.items() if url.startswith(STANDIN_SCHEME)}
    with contextlib.ExitStack() as servers:
        bases = {root: servers.enter_context(serve(root)) for root in {root for root, _ in ours.values()}}
        yield mirrors | {name: f"{bases[root]}/{path}" for name, (root, path) in ours.items()}
