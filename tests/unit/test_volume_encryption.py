"""Is a payload encrypted as another implementation does it, by workers as by one process, and read back?"""

import os
import struct
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import MachineError
from builder.ui import NoMeter
from builder.volume import xts
from builder.volume.cipher import KEY_SIZE, SECTOR, Sectors
from builder.volume.medium import Medium

MIB = 1 << 20


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=KEY_SIZE, max_size=KEY_SIZE), st.integers(0, 1 << 33), st.integers(1, 4))
def test_sectors_are_encrypted_as_another_implementation_does(key: bytes, sector: int, count: int) -> None:
    if key[:32] == key[32:]:
        return  # XTS refuses two equal halves
    clear = os.urandom(count * SECTOR)
    expected = b""
    for n in range(count):
        number = struct.pack("<QQ", (sector + n) * SECTOR // 512, 0)
        one = Cipher(algorithms.AES(key), modes.XTS(number)).encryptor()
        expected += one.update(clear[n * SECTOR : (n + 1) * SECTOR]) + one.finalize()
    for native in (True, False):
        buffer = bytearray(clear)
        sectors = Sectors(key, native=native)
        sectors.encrypt(buffer, len(buffer), sector * SECTOR)
        assert bytes(buffer) == expected
        sectors.decrypt(buffer, len(buffer), sector * SECTOR)
        assert bytes(buffer) == clear


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bytes, not 32"):
        Sectors(bytes(32))


RANGES = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=12).map(
    lambda gaps: [
        (start * SECTOR, (start + length) * SECTOR)
        for start, length in zip(
            (sum(g + n for g, n in gaps[:i]) + gaps[i][0] for i in range(len(gaps))),
            (n for _, n in gaps),
            strict=True,
        )
    ]
)


@given(RANGES, st.integers(1, 20))
def test_work_is_split_without_loss_and_in_pieces_of_at_most_that_size(
    ranges: list[xts.Range], pages: int
) -> None:
    pieces = list(xts.split(ranges, pages * SECTOR))
    assert all(0 < sum(b - a for a, b in piece) <= pages * SECTOR for piece in pieces)
    whole: list[xts.Range] = []
    for start, end in (r for piece in pieces for r in piece):
        if whole and whole[-1][1] == start and start not in {a for a, _ in ranges}:
            whole[-1] = (whole[-1][0], end)
        else:
            whole.append((start, end))
    assert whole == ranges


def test_worker_processes_and_one_process_write_the_same(tmp_path: Path) -> None:
    source, one, many = (tmp_path / n for n in ("source", "one", "many"))
    source.write_bytes(os.urandom(5 * MIB))
    ranges = [(0, 2 * MIB), (3 * MIB, 5 * MIB - 8192)]
    key = bytearray(range(KEY_SIZE))
    secret = {3 * MIB + SECTOR: b"s" * SECTOR}
    for path in (one, many):
        path.write_bytes(bytes(8 * MIB))
    with one.open("r+b") as f:
        medium = Medium(f.fileno(), one)
        first = medium.encrypt(source, MIB, ranges, key, meter=NoMeter(), overlay=secret)
        medium.read_back(first, meter=NoMeter())
    with xts.Pool(many, workers=2) as pool:
        second = xts.encrypt(pool, source, MIB, ranges, key, meter=NoMeter(), overlay=secret)
        xts.read_back(pool, second, meter=NoMeter())
        assert first == second
        assert one.read_bytes() == many.read_bytes()
        with many.open("r+b") as f:
            (was,) = os.pread(f.fileno(), 1, 4 * MIB + 17)
            os.pwrite(f.fileno(), bytes([was ^ 1]), 4 * MIB + 17)
        with pytest.raises(MachineError, match="reads back differently"):
            xts.read_back(pool, second, meter=NoMeter())


def test_a_source_that_may_be_consumed_is_given_back_before_it_is_said_to_be_written(tmp_path: Path) -> None:
    source, disk = tmp_path / "source", tmp_path / "disk"
    disk.write_bytes(bytes(8 * MIB))
    key = bytearray(range(KEY_SIZE))
    with xts.Pool(disk, workers=2) as pool:
        for number in range(20):
            source.write_bytes(os.urandom(2 * MIB))
            ranges = [(0, MIB), (MIB, 2 * MIB - 4096)]
            done = xts.encrypt(pool, source, number * 4096, ranges, key, meter=NoMeter(), consume=True)
            assert source.read_bytes() == bytes(2 * MIB - 4096) + source.read_bytes()[-4096:]
            source.unlink()  # a worker that is late would end here, and be missed by the next round
            xts.read_back(pool, done, meter=NoMeter())


def test_a_full_disk_is_named_with_what_to_do_by_workers_and_by_one_process(tmp_path: Path) -> None:
    source, full = tmp_path / "source", Path("/dev/full")
    source.write_bytes(bytes(MIB))
    key, message = bytearray(range(KEY_SIZE)), r"write /dev/full: No space .* \(at byte 4096\)"
    with full.open("r+b", buffering=0) as f, xts.Pool(full, workers=1) as pool:
        medium = Medium(f.fileno(), full)
        for encrypt in (medium.encrypt, partial(xts.encrypt, pool)):
            with pytest.raises(MachineError, match=message) as caught:
                encrypt(source, 4096, [(0, MIB)], key, meter=NoMeter())
            assert caught.value.hint == "free some space where it lies"
