"""Are extended attributes the same behind a pax header, and in an inode and its block?"""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InputError
from builder.volume.ext4layout import INODE_SIZE
from builder.volume.ext4xattr import BLOCK, Extended, from_record, in_block, in_inode, stored_in, to_record

FIELDS = 160  # bytes of an inode before its attributes

attributes = st.lists(
    st.builds(Extended, st.integers(1, 6), st.binary(max_size=60), st.binary(max_size=90)),
    max_size=12,
    unique_by=lambda each: (each.prefix, each.name),
)


@given(attributes)
def test_attributes_come_back_from_inode_and_block_as_they_were(extended: list[Extended]) -> None:
    area, rest = in_inode(extended, INODE_SIZE - FIELDS)
    raw = bytearray(FIELDS) + area
    raw[0x80:0x82] = struct.pack("<H", 32)
    raw[0x68:0x6C] = struct.pack("<I", 7 if rest else 0)
    block = in_block(rest, 7, 1) if rest else b""
    assert (len(raw), len(block)) == (INODE_SIZE, BLOCK if rest else 0)
    assert sorted(stored_in(bytes(raw), lambda number: block)) == sorted(extended)


@given(st.lists(st.builds(Extended, st.integers(0, 255), st.binary(max_size=255), st.binary()), max_size=5))
def test_a_record_of_a_header_holds_any_name_and_value(extended: list[Extended]) -> None:
    record = to_record(extended)
    assert record.isascii()
    assert not set(record) & set(" \n")
    assert from_record(record.encode()) == tuple(extended)


@given(st.binary(max_size=200))
def test_any_record_is_read_or_refused(record: bytes) -> None:
    try:
        from_record(record)
    except InputError as e:
        assert "cannot be read" in e.message


@given(st.binary(min_size=INODE_SIZE - FIELDS, max_size=INODE_SIZE - FIELDS), st.binary(max_size=BLOCK))
def test_any_inode_is_read_or_refused(area: bytes, block: bytes) -> None:
    raw = bytearray(FIELDS) + struct.pack("<I", 0xEA020000) + area[4:]
    raw[0x80:0x82], raw[0x68] = struct.pack("<H", 32), 1
    try:
        stored_in(bytes(raw), lambda number: struct.pack("<I", 0xEA020000) + block)
    except InputError as e:
        assert "damaged" in e.message or "not read here" in e.message


def test_more_than_a_block_holds_is_refused() -> None:
    with pytest.raises(InputError, match="than fit"):
        in_block([Extended(1, b"large", bytes(BLOCK - 40))], 7, 1)
