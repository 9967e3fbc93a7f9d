"""Is a LUKS2 header that somebody made up on purpose refused, and never anything worse?"""

import hashlib
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.volume.luks import CIPHER, HEADER_SIZE, SECOND_HEADER, Header, read_header

GOOD: dict[str, Any] = {
    "keyslots": {"0": {"type": "luks2", "kdf": {"type": "argon2id", "time": 4, "memory": 65536}}},
    "tokens": {"0": {"type": "systemd-recovery", "keyslots": ["1"]}},
    "segments": {"0": {"offset": str(HEADER_SIZE), "encryption": CIPHER, "sector_size": 4096}},
}


def header(text: bytes) -> Callable[[int, int], bytes]:
    """A header with this description, whose checksums are right."""

    def copy(magic: bytes, at: int) -> bytes:
        binary = struct.pack(
            ">6sHQQ48s32s64s40s48sQ184s64s",
            *(magic, 2, SECOND_HEADER, 1, b"luks-work", b"sha256", b"salt", b"0c5c0f5e", b"", at),
            *(b"", bytes(64)),
        )
        whole = binary.ljust(4096, b"\0") + text.ljust(SECOND_HEADER - 4096, b"\0")
        digest = hashlib.sha256(whole).digest()
        return whole[:448] + digest.ljust(64, b"\0") + whole[512:]

    data = copy(b"LUKS\xba\xbe", 0) + copy(b"SKUL\xba\xbe", SECOND_HEADER)
    return lambda offset, length: data[offset : offset + length]


def read(description: object) -> Header:
    return read_header(header(json.dumps(description).encode()))


def changed(path: tuple[str, ...], value: object) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(GOOD))
    place = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return made


def test_a_header_made_here_is_read() -> None:
    found = read(GOOD)
    assert (found.label, found.cipher, found.payload) == ("luks-work", CIPHER, HEADER_SIZE)
    assert found.keyslots[0].memory == 65536


@pytest.mark.parametrize("offset", ["-1", "0", str(1 << 60), "9" * 5000, "x", None, []])
def test_a_payload_that_lies_nowhere_is_refused_before_anything_of_its_size_is_read(offset: object) -> None:
    with pytest.raises(InputError, match="description cannot be read"):
        read(changed(("segments", "0", "offset"), offset))


def test_a_description_nested_without_end_is_refused() -> None:
    with pytest.raises(InputError, match="description cannot be read"):
        read_header(header(b"[" * (SECOND_HEADER - 4096)))


PATHS = [("keyslots",), ("tokens",), ("segments",), ("keyslots", "0"), ("tokens", "0"), ("segments", "0")]
PATHS += [("keyslots", "0", "kdf"), ("keyslots", "0", "kdf", "memory"), ("keyslots", "0", "kdf", "time")]
PATHS += [("tokens", "0", "keyslots"), ("tokens", "0", "type"), ("segments", "0", "sector_size")]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PATHS), VALUES)
def test_no_description_is_worse_than_refused(path: tuple[str, ...], value: object) -> None:
    try:
        found = read(changed(path, value))
        assert all(isinstance(slot.weak, bool) for slot in found.keyslots)
        assert all(isinstance(text, str) for text in (found.cipher, *found.tokens))
    except InputError:
        pass
