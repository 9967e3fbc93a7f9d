"""Is what a publisher shows current? Not expired, not of the future, not older than what was seen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.errors import InputError, TrustError
from builder.files import json_digest, write_json
from builder.publish.index import Index, Release, now

CLOCK_SKEW = 24 * 3600  # seconds that an index may be from the future


def check_freshness(index: Index) -> None:
    """Raises TrustError for an index that has expired, or that is from the future."""
    today = now()
    if today > index.expires:
        raise TrustError(
            f"what is published there expired on {index.expires:%Y-%m-%d %H:%M} UTC "
            f"(it is of {index.published:%Y-%m-%d}): the mirror may be holding updates back",
            hint="try another mirror or ask the publisher; is this machine's clock right?",
        )
    if (index.published - today).total_seconds() > CLOCK_SKEW:
        raise TrustError(
            f"what is published there is of {index.published:%Y-%m-%d %H:%M} UTC, which is in the future",
            hint="is this machine's clock right?",
        )


def check_rollback(
    index: Index, release: Release, name: str, known: Mapping[str, Any], *, allow_older: bool
) -> None:
    """Raises TrustError where something older is shown than this machine has seen before."""
    if allow_older:
        return
    if index.serial < int(known.get("serial", 0)):
        raise TrustError(
            f"the index there is number {index.serial}; number {known['serial']} has been seen before",
            hint="the mirror went back in time; if that is meant, use --allow-older",
        )
    seen = known.get("releases", {}).get(name, {})
    if release.release < int(seen.get("release", 0)):
        raise TrustError(
            f"{name} {release.version} (release {release.release}) is older than {seen['version']} "
            f"(release {seen['release']}), which was pulled before",
            hint="to go back to an older version on purpose, use --allow-older",
        )
    if release.release == int(seen.get("release", 0)) and release.sums != seen.get("sums"):
        raise TrustError(
            f"{name} release {release.release} is not what was published under that number before"
        )


def read_state(state: Path, url: str) -> dict[str, Any]:
    """What this publisher showed last. One that cannot be read is an error: it protects from rollback."""
    try:
        data: dict[str, Any] = json.loads(state.read_text())
        found = data.get(json_digest(url)[:16], {})
        return dict(found)
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError, TypeError, OSError) as e:
        raise InputError(
            f"{state} cannot be read: {e}", hint="it remembers what was pulled; remove it to start anew"
        ) from e


def remember(
    state: Path, url: str, index: Index, release: Release, name: str, known: Mapping[str, Any]
) -> None:
    releases = dict(known.get("releases", {}))
    releases[name] = {"release": release.release, "version": release.version, "sums": release.sums}
    try:
        data = json.loads(state.read_text())
    except FileNotFoundError:
        data = {}
    data[json_digest(url)[:16]] = {"url": url, "serial": index.serial, "releases": releases}
    write_json(state, data)
