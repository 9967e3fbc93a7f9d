"""Is a CRC-32C of many pieces at once what the usual way gives for each?"""

import random

import pytest

from builder.volume.crc32c import ONES, crc32c, crc32c_each


def test_the_known_check_value_comes_out() -> None:
    assert crc32c(b"123456789") ^ ONES == 0xE3069283  # of "CRC-32/ISCSI" in every catalogue of CRCs


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_many_pieces_give_what_each_gives_alone(count: int) -> None:
    chance = random.Random(count)
    pieces = [chance.randbytes(77) for _ in range(count)]
    starts = [chance.getrandbits(32) for _ in range(count)]
    assert crc32c_each(pieces, starts) == [crc32c(p, s) for p, s in zip(pieces, starts, strict=True)]


def test_zeros_that_follow_count_as_if_they_were_there() -> None:
    pieces, starts = [b"abc", b"xyz"], [ONES, 7]
    for zeros in (1, 2, 255, 4081):
        expected = [crc32c(p + bytes(zeros), s) for p, s in zip(pieces, starts, strict=True)]
        assert crc32c_each(pieces, starts, zeros=zeros) == expected


def test_pieces_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="length"):
        crc32c_each([b"ab", b"abc"], [0, 0])
