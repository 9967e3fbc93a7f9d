"""builder.sizes: texts to bytes and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        (4096, 4096),
        ("512B", 512),
        ("8GiB", 8 << 30),
        ("8G", 8 << 30),
        ("2 MiB", 2 << 20),
        ("1.5TiB", 3 << 39),
        ("500GB", 500 * 10**9),
        ("4kB", 4000),
    ],
)
def test_a_size_is_read_as_bytes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a size"),
        ("-1G", "not a size"),
        ("8 gigabytes", "unknown unit 'gigabytes'; accepted: a number with a unit"),
        ("8gib", "did you mean 'GiB'"),
        ("1.0001GiB", "not a size"),
        ("0.5", "whole number of bytes"),
        ("٨GiB", "not a size"),
        ("99999999TiB", "more than 1 EiB"),
        ("8GiB\n", "not a size"),
        (True, "not a size"),
        ("9" * 5000, "not a size"),
    ],
)
def test_what_is_not_a_size_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (8 << 30, "8GiB"),
        (1536 << 20, "1536MiB"),
        (500 * 10**9, "500GB"),
        (512, "512"),
        (1001, "1001"),
        (0, "0"),
    ],
)
def test_a_size_is_shown_as_short_as_it_can_be_exactly(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1 << 60))
def test_a_formatted_size_reads_back_exactly(size: int) -> None:
    assert parse_size(format_size(size)) == size
