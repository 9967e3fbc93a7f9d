"""Is the log of a guest's writes read as it was written, and a damaged one refused?"""

import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from tests.support.writelog import Entry, Flag, log_of, read_log, write_log

SECTOR = 512
NUMBERS = st.integers(0, (1 << 64) - 1)


def entries(sector: int) -> st.SearchStrategy[Entry]:
    def write(start: int, flags: Flag, count: int, fill: bytes) -> Entry:
        return Entry(start, count, flags, (fill * (count * sector))[: count * sector])

    barriers = st.sampled_from([Flag(0), Flag.FLUSH, Flag.FUA, Flag.FLUSH | Flag.FUA])
    writes = st.builds(write, NUMBERS, barriers, st.integers(0, 3), st.binary(min_size=1, max_size=5))
    discards = st.builds(Entry, NUMBERS, NUMBERS, st.just(Flag.DISCARD))
    marks = st.builds(Entry, st.just(0), st.just(0), st.just(Flag.MARK), st.binary(max_size=sector - 32))
    return writes | discards | marks


@settings(max_examples=40)
@given(st.sampled_from([512, 4096]).flatmap(lambda s: st.tuples(st.just(s), st.lists(entries(s)))))
def test_what_is_written_is_read(given: tuple[int, list[Entry]]) -> None:
    sector, wanted = given
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        write_log(path, wanted, sector=sector)
        assert list(read_log(path)) == [(sector, entry) for entry in wanted]


@settings(max_examples=40)
@given(st.lists(entries(SECTOR), min_size=1), st.data())
def test_a_log_that_is_cut_off_anywhere_is_refused(wanted: list[Entry], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        write_log(path, wanted)
        whole = path.read_bytes()
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(InputError, match=r"cut off|is no log"):
            list(read_log(path))


def test_a_log_that_is_cut_off_says_where(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write_log(path, [Entry(8, 2, data=bytes(1024)), Entry(0, 0, Flag.FLUSH)])
    whole = path.read_bytes()
    for length, where in ((len(whole) - 1, "before entry 2"), (2047, "in the data of entry 1")):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=f"{re.escape(str(path))} is cut off: it ends {where} of 2"):
            list(read_log(path))


@pytest.mark.parametrize(("at", "value"), [(0, b"?"), (8, b"\2"), (24, b"\1\0"), (512 + 16, b"\xff")])
def test_what_is_no_log_is_refused(at: int, value: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    write_log(path, [Entry(8, 1, data=bytes(512))])
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + value + whole[at + len(value) :])
    with pytest.raises(InputError, match=r"is no log|is damaged"):
        list(read_log(path))


def test_writes_and_flushes_are_taken_over_in_their_order_and_offsets_are_bytes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    one, two = b"1" * 4096, b"2" * 8192
    log = [
        Entry(3, 1, data=one),
        Entry(0, 0, Flag.MARK, b"here"),
        Entry(9, 2, Flag.FLUSH | Flag.FUA, two),
        Entry(3, 1, Flag.DISCARD),
        Entry(0, 0, Flag.FLUSH),
    ]
    write_log(path, log, sector=4096)
    assert log_of(path).events == [(12288, one), None, (36864, two), None]


def test_a_large_write_is_taken_in_pieces(tmp_path: Path) -> None:
    path, data = tmp_path / "log", bytes(range(256)) * (150 << 2)
    write_log(path, [Entry(2, len(data) // SECTOR, data=data)])
    writes = log_of(path).writes
    assert [at for at, _ in writes] == [1024, 1024 + (64 << 10), 1024 + (128 << 10)]
    assert b"".join(piece for _, piece in writes) == data
