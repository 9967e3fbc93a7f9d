"""How many bytes is ``8GiB``? Sizes are ints in bytes everywhere; only the edges speak in units."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
DECIMAL = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
SHORT = {"K": "KiB", "M": "MiB", "G": "GiB", "T": "TiB"}  # as lvm2, truncate(1) and systemd mean them
LARGEST = 1 << 60  # 1 EiB; more is a slip of the finger

PATTERN = r"^[0-9]+(\.[0-9]{1,3})? ?(B|[KMGT]|[KMGT]iB|kB|[MGT]B)?$"
ACCEPTED = "a number with a unit: 512MiB, 8GiB, 1.5TiB (K, M, G, T mean KiB …; kB, MB, GB, TB are decimal)"


def parse_size(text: str | int) -> int:
    """Bytes in ``8GiB``, ``8G``, ``500GB``, ``1.5TiB`` or a plain number of bytes.

    Raises ValueError with a message fit for a person.
    """
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(f"not a size; accepted: {ACCEPTED}")
    match = re.fullmatch(r"([0-9]{1,20})(?:\.([0-9]{1,3}))? ?([A-Za-z]*)", str(text), re.ASCII)
    if match is None:
        raise ValueError(f"{str(text)[:40]!r} is not a size; accepted: {ACCEPTED}")
    whole, part, unit = match[1], match[2] or "", SHORT.get(match[3], match[3])
    factor = UNITS.get(unit) or DECIMAL.get(unit)
    if factor is None:
        near = {u.casefold(): u for u in (*DECIMAL, *UNITS)}.get(unit.casefold())
        meant = f"did you mean {near!r}?" if near else f"accepted: {ACCEPTED}"
        raise ValueError(f"unknown unit {match[3][:40]!r}; {meant}")
    scale: int = 10 ** len(part)
    size, rest = divmod(int(whole + part) * factor, scale)
    if rest:
        raise ValueError(f"{str(text)!r} is not a whole number of bytes")
    if size > LARGEST:
        raise ValueError(f"{str(text)[:40]!r} is more than 1 EiB")
    return size


def format_size(size: int) -> str:
    """The shortest exact text that ``parse_size`` reads back: ``8GiB``, ``1536MiB``, ``500GB``, ``1001``."""
    texts = [f"{size}"]
    for units in (DECIMAL, UNITS):
        texts += [f"{size // factor}{unit}" for unit, factor in units.items() if size and size % factor == 0]
    return min(reversed(texts), key=len)


def _validate(value: Any) -> int:
    return parse_size(value)


Size = Annotated[
    int,
    Field(gt=0),
    BeforeValidator(_validate),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": PATTERN, "description": ACCEPTED},
                {"type": "integer", "exclusiveMinimum": 0, "description": "a number of bytes"},
            ],
            "examples": ["8GiB"],
        }
    ),
]
"""A pydantic field that takes ``8GiB`` (or a number of bytes) and holds bytes."""
