"""Where do Python packages come from that few tests need? From the cache, where pip puts them once."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from builder.files import atomic_path
from builder.project import cache_home


@contextmanager
def extra_packages(name: str, wanted: Sequence[str]) -> Iterator[Path]:
    """Make these packages importable, after those of the environment; yields where they are."""
    place = cache_home() / name
    if not place.is_dir():
        with atomic_path(place) as made:
            argv = [sys.executable, "-m", "pip", "install", "-q", "--target", made, *wanted]
            subprocess.run(argv, check=True)
    sys.path.append(os.fspath(place))
    try:
        yield place
    finally:
        sys.path.remove(os.fspath(place))
