"""What does a small lock look like? One made up by the test, with files whose content it knows."""

import hashlib
from typing import Any

from builder.lock import Lock, LockedFile
from builder.profile.model import Distribution
from builder.sources import Source
from builder.store import Store

REQUEST = "0" * 64


def locked(name: str, content: bytes, **more: Any) -> LockedFile:
    """A package file ``name`` with this content."""
    return LockedFile(
        kind="package",
        repository="core",
        path=name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        name=name.split("-")[0],
        version="1.0-1",
        **more,
    )


def lock_of(*files: LockedFile, **more: Any) -> Lock:
    said: dict[str, Any] = {
        "profile": "work",
        "distribution": Distribution.ARCH,
        "source": Source.UPSTREAM,
        "snapshot": "2026-11-01",
        "request": REQUEST,
        "mirrors": {"core": "https://mirror.example.org/core"},
        "files": list(files),
    }
    return Lock(**(said | more))


def left(store: Store) -> list[str]:
    """What is in the store beside whole files."""
    return [p.name for p in store.root.iterdir() if p.is_file() and p.name != "fetch.lock"]
