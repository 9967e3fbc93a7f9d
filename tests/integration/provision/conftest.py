"""What do the tests of provisioning start from? A disk with the tiny seat on it, written once and copied."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.tools import Tools
from tests.support.faults import copy_sparse
from tests.support.gpgkeys import TestKey
from tests.support.profiles import project_at
from tests.support.provisioned import Bench
from tests.support.tinyseat import tiny_project

FreshBench = Callable[[Path], Bench]


@pytest.fixture(scope="session")
def first_disk(tmp_path_factory: pytest.TempPathFactory, tools: Tools, release: TestKey) -> Path:
    """A disk with version 1 of both environments."""
    root = tmp_path_factory.mktemp("seat")
    bench = Bench(tiny_project(root / "project", release), release, tools, root / "disk", root / "images")
    bench.apply()
    return bench.disk


@pytest.fixture(scope="session")
def fresh(first_disk: Path, tools: Tools, release: TestKey) -> FreshBench:
    """Makes a project with a copy of that disk, in a directory that must not be there yet."""

    def make(place: Path) -> Bench:
        place.mkdir()
        copy_sparse(first_disk, place / "disk")
        shutil.copytree(first_disk.parent / "project", place / "project")
        images = first_disk.parent / "images"
        return Bench(project_at(place / "project"), release, tools, place / "disk", images)

    return make


@pytest.fixture
def bench(fresh: FreshBench, tmp_path: Path) -> Bench:
    return fresh(tmp_path / "bench")
