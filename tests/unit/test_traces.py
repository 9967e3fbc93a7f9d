"""Is data ever taken for an empty disk? Files are read but for holes, large disks are said to be unread."""

import errno
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.provision.found import Found, Thing, gaps
from builder.volume.traces import (
    EDGE,
    PIECES,
    WHOLE,
    Traces,
    look_for_traces,
    past_the_cache,
    pieces,
    traces_in,
)

MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BinaryIO]:
    with (tmp_path_factory.mktemp("sparse") / "disk").open("w+b") as f:
        yield f


def look(f: BinaryIO, start: int, end: int) -> Traces:
    return look_for_traces(f.fileno(), lambda at, size: os.pread(f.fileno(), size, at), start, end)


def test_two_megabytes_on_a_large_file_are_found_wherever_they_lie(sparse: BinaryIO) -> None:
    for at in (0, 511 * MIB + 4096, 832 * MIB - 2 * MIB):
        sparse.truncate(0)
        sparse.truncate(832 * MIB)
        assert look(sparse, 0, 832 * MIB) == Traces(832 * MIB, 832 * MIB)
        os.pwrite(sparse.fileno(), b"\x99" * (2 * MIB), at)
        assert look(sparse, 0, 832 * MIB).at == at


@given(st.integers(0, 64 * MIB - 1), st.integers(0, 64 * MIB), st.integers(0, 64 * MIB))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)  # one file, emptied each time
def test_a_single_byte_of_a_file_is_found_exactly_where_it_was_looked_for(
    sparse: BinaryIO, at: int, one: int, other: int
) -> None:
    sparse.truncate(0)
    sparse.truncate(64 * MIB)
    os.pwrite(sparse.fileno(), b"\0" * 8192, min(other, 64 * MIB - 8192))  # zeros that are no hole
    os.pwrite(sparse.fileno(), b"x", at)
    start, end = sorted((one, other))
    found = look(sparse, start, end)
    if start <= at < end:
        assert found.at is not None
        assert found.at <= at < found.at + 512
    else:
        assert (found.at, found.unseen) == (None, 0)


def test_reads_past_the_cache_see_what_was_just_written_also_where_nothing_is_aligned(
    sparse: BinaryIO,
) -> None:
    data = os.urandom(3 * MIB + 100)
    sparse.truncate(0)
    os.pwrite(sparse.fileno(), data, 0)  # not flushed

    def read(at: int, size: int) -> bytes:
        return os.pread(sparse.fileno(), size, at)

    with past_the_cache(sparse.fileno(), read) as direct:
        for at, size in (
            (0, MIB),
            (MIB, 4096),
            (2 * MIB, MIB),
            (100, 1000),
            (2 * MIB + 1, MIB),
            (3 * MIB, MIB),
        ):
            assert direct(at, size) == data[at : at + size]


def zeros(offset: int, length: int) -> bytes:
    return bytes(length)


def test_a_large_disk_that_was_read_in_parts_is_not_called_empty() -> None:
    size = 1 << 40
    found = traces_in(zeros, pieces(0, size), size)
    assert found.at is None
    assert found.looked == 2 * EDGE + PIECES * MIB
    assert found.unseen == size - found.looked
    disk = Found(Path("disk"), size, looked=found.looked, unseen=found.unseen)
    assert not disk.empty
    assert disk.lines() == [
        "  2.1 GiB looked at, which are zero; 1022 GiB not looked at (--read-all reads everything)"
    ]
    assert disk.id != Found(Path("disk"), size, looked=size).id
    assert Found(Path("disk"), size, looked=size).empty


def test_what_is_read_of_a_large_disk_is_inside_of_it_and_never_read_twice() -> None:
    for size in (WHOLE + 512, 5 * GIB + 512, (1 << 40) - 512):
        taken = sorted(pieces(100, 100 + size))
        assert all(end <= first for (_, end), (first, _) in itertools.pairwise(taken))
        assert (taken[0][0], taken[-1][1]) == (100, 100 + size)
    assert list(pieces(0, WHOLE)) == [(0, WHOLE)]


def test_a_place_that_cannot_be_read_is_not_empty() -> None:
    def broken(offset: int, length: int) -> bytes:
        if offset >= 3 * MIB:
            raise OSError(errno.EIO, "Input/output error")
        return bytes(length)

    assert traces_in(broken, [(0, 8 * MIB)], 8 * MIB) == Traces(8 * MIB, 3 * MIB, 3 * MIB, unreadable=True)
    short = traces_in(lambda at, size: bytes(min(size, 512)), [(0, MIB)], MIB)
    assert (short.at, short.unreadable) == (512, True)


def test_the_places_between_partitions_are_all_that_no_partition_has() -> None:
    table = {
        "label": "gpt",
        "sectorsize": 512,
        "partitions": [{"start": 8192, "size": 2048}, {"start": 2048, "size": 2048}],
    }
    assert list(gaps(table, 64 * MIB)) == [(2 * MIB, 4 * MIB), (5 * MIB, 64 * MIB - 34 * 512)]
    assert list(gaps({"label": "dos"}, 64 * MIB)) == [(MIB, 64 * MIB)]
    inside = {"label": "dos", "partitions": [{"start": 2048, "size": 129024}, {"start": 4096, "size": 2048}]}
    assert list(gaps(inside, 64 * MIB)) == []


def test_consent_covers_what_was_read_only() -> None:
    things = [Thing("partition table (gpt)", "", 0, GIB, "", 0)]
    read = Found(Path("disk"), GIB, things)
    not_read = Found(Path("disk"), GIB, things, unseen=5)
    assert read.id != not_read.id
    assert "outside of all that" in not_read.lines()[-1]
