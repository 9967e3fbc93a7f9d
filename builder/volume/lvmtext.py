"""How is LVM2's configuration text read and written? Sections, assignments and lists (lvm.conf(5))."""

import re
from typing import Any

from builder.errors import InputError

Value = int | float | str | list[Any] | dict[str, Any]

_TOKEN = re.compile(
    r"""\s+|\#[^\n]*                            # nothing
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<number>[+-]?\d+(?:\.\d+)?(?![\w.+-]))
    |(?P<name>[A-Za-z0-9_.+/-]+)
    |(?P<mark>[{}\[\]=,])""",
    re.VERBOSE,
)
_DIGITS = 20  # of a number of 64 bits
_DEPTH = 16  # of sections and lists; lvm2's own metadata has four


def dump(document: dict[str, Any]) -> str:
    return "".join(_lines(document, 0))


def _lines(section: dict[str, Any], depth: int) -> list[str]:
    indent = "\t" * depth
    out = []
    for key, value in section.items():
        if isinstance(value, dict):
            out += [f"{indent}{key} {{\n", *_lines(value, depth + 1), f"{indent}}}\n"]
        else:
            out.append(f"{indent}{key} = {_text(value)}\n")
    return out


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


def parse(text: str) -> dict[str, Any]:
    """Raises InputError at the first thing that is not LVM2 text."""
    tokens = _tokens(text)
    section, at = _section(tokens, 0, 0)
    if at != len(tokens):
        raise InputError(f"LVM metadata: unexpected {tokens[at][1]!r}")
    return section


def _tokens(text: str) -> list[tuple[str, str]]:
    out, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if not match:
            raise InputError(f"LVM metadata: unexpected {text[at]!r} at character {at}")
        if match.lastgroup:
            out.append((match.lastgroup, match[0]))
        at = match.end()
    return out


def _section(tokens: list[tuple[str, str]], at: int, depth: int) -> tuple[dict[str, Any], int]:
    if depth > _DEPTH:
        raise InputError("LVM metadata: nested too deeply")
    found: dict[str, Any] = {}
    while at < len(tokens) and tokens[at] != ("mark", "}"):
        kind, key = tokens[at]
        follows = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if kind not in ("name", "number") or follows not in ("{", "="):
            raise InputError(f"LVM metadata: {key!r} is followed by {follows!r}")
        if key in found:
            raise InputError(f"LVM metadata: {key!r} appears twice in a section")
        if follows == "{":
            found[key], at = _section(tokens, at + 2, depth + 1)
            if at >= len(tokens):
                raise InputError(f"LVM metadata: section {key!r} is not closed")
            at += 1
        else:
            found[key], at = _value(tokens, at + 2, depth)
    return found, at


def _value(tokens: list[tuple[str, str]], at: int, depth: int) -> tuple[Value, int]:
    if at >= len(tokens) or depth > _DEPTH:
        raise InputError("LVM metadata: a value is missing")
    kind, text = tokens[at]
    if kind == "string":
        return re.sub(r"\\(.)", r"\1", text[1:-1]), at + 1
    if kind == "number":
        if len(text) > _DIGITS:
            raise InputError(f"LVM metadata: a number of {len(text)} digits")
        return (float(text) if "." in text else int(text)), at + 1
    if text != "[":
        raise InputError(f"LVM metadata: {text!r} is no value")
    items: list[Value] = []
    at += 1
    while at < len(tokens) and tokens[at][1] != "]":
        item, at = _value(tokens, at, depth + 1)
        items.append(item)
        if at < len(tokens) and tokens[at][1] == ",":
            at += 1
    if at >= len(tokens):
        raise InputError("LVM metadata: a list is not closed")
    return items, at + 1
