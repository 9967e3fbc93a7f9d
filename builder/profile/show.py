"""What does a profile come to, and where does each value come from? As commented YAML or plain data."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.profile.load import Resolved
from builder.profile.model import Distribution
from builder.profile.positions import AMBIGUOUS_NUMBERS, AMBIGUOUS_WORDS, FLOAT, INTEGER, display_path
from builder.sizes import format_size

DEFAULT = "default"
COMMENT_COLUMN = 40
INLINE = 60  # characters that a list may have in one line
PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./+@-]*((, | |:)?[A-Za-z0-9_./+@-]+)*")

Keys = tuple[str | int, ...]


def settings(resolved: Resolved) -> dict[str, Any]:
    """The settings as plain data that a profile file could say, less those of the other distribution."""
    data = resolved.profile.model_dump(mode="json")
    data["sizes"] = {key: format_size(size) for key, size in data["sizes"].items()}
    if resolved.profile.distribution is Distribution.GENTOO:
        del data["repositories"]
    else:
        del data["gentoo"]
    return data


def origin(resolved: Resolved, path: Keys) -> str:
    """``profiles/work.yaml:8``, or why a value is there that no file says."""
    if position := resolved.origin(path):
        if path == ("name",):
            return "the file's name"
        return f"{display_path(position.file)}:{position.line}"
    says = resolved.origin
    if path == ("hostname",):
        return "default: the profile's name"
    if path == ("bootable",) and says(("role",)) and resolved.profile.bootable:
        return "follows role"
    if path == ("display", "session") and resolved.profile.display.server == "wayland":
        return "follows display.server"
    return "default: the next free one" if path[-1] == "uid" else DEFAULT


def origins(resolved: Resolved) -> dict[str, str]:
    """Every single value's key path and origin."""
    from builder.profile.explain import key_path

    return {key_path(path): origin(resolved, path) for path, _ in leaves(settings(resolved))}


def leaves(value: Any, path: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from leaves(inner, (*path, index))
    else:
        yield path, value


def show_text(resolved: Resolved) -> str:
    """The settings as a profile file, each line with a comment that says where the value comes from."""
    files = ", then ".join(display_path(Path(f)) for f in resolved.files)
    lines = [f"# {resolved.profile.name}: {files}"]
    for line in Writer(resolved).mapping(settings(resolved), (), ""):
        lines.append(line.rstrip())
    return "\n".join(lines)


@dataclass(frozen=True)
class Writer:
    resolved: Resolved

    def mapping(self, data: dict[str, Any], path: Keys, indent: str) -> Iterator[str]:
        for key, value in data.items():
            yield from self.entry(f"{indent}{scalar(key)}:", value, (*path, key), indent + "  ")

    def entry(self, head: str, value: Any, path: Keys, indent: str) -> Iterator[str]:
        if isinstance(value, dict) and value:
            yield head
            yield from self.mapping(value, path, indent)
        elif isinstance(value, list) and value and not self.fits(value, path):
            yield head
            for index, item in enumerate(value):
                yield from self.item(item, (*path, index), indent)
        else:
            first = (*path, 0) if isinstance(value, list) and value else path
            known = self.resolved.origin(first) is not None
            yield commented(f"{head} {inline(value)}", origin(self.resolved, first if known else path))

    def item(self, item: Any, path: Keys, indent: str) -> Iterator[str]:
        if isinstance(item, dict):
            lines = list(self.mapping(item, path, indent + "  "))
            yield f"{indent}- {lines[0].removeprefix(indent + '  ')}"
            yield from lines[1:]
        else:
            yield commented(f"{indent}- {inline(item)}", origin(self.resolved, path))

    def fits(self, items: list[Any], path: Keys) -> bool:
        """Whether a list is short, and from one line."""
        if any(isinstance(item, dict | list) for item in items) or len(inline(items)) > INLINE:
            return False
        return len({origin(self.resolved, (*path, index)) for index in range(len(items))}) == 1


def commented(line: str, comment: str) -> str:
    return f"{line:<{COMMENT_COLUMN - 1}} # {comment}"


def inline(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(scalar(item, in_list=True) for item in value) + "]"
    return "{}" if value == {} else scalar(value)


def scalar(value: Any, *, in_list: bool = False) -> str:
    """A value as YAML that everybody reads alike: without quotes only where nothing can go wrong."""
    if not isinstance(value, str):
        return json.dumps(value)
    plain = PLAIN.fullmatch(value) and not (in_list and "," in value) and ": " not in f"{value} "
    if plain and not any(p.fullmatch(value) for p in (AMBIGUOUS_WORDS, AMBIGUOUS_NUMBERS, INTEGER, FLOAT)):
        return value if value not in ("true", "false", "null") else json.dumps(value)
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?[KMGT]iB", value):
        return value
    return json.dumps(value, ensure_ascii=False)
