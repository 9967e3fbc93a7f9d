"""What does a YAML file say, and at which line and column does it say each thing?

A small composer of our own over PyYAML's nodes: plain values as YAML 1.2 has them, each with its place. What
programs read differently (``no``, ``0755``, duplicate keys, tags, merge keys) is refused, not guessed.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from builder.errors import InputError
from builder.profile.rule import character_name, shown

LARGEST = 256 << 10  # bytes of one file
MOST_NODES = 20_000  # values of one file, counted with what its aliases repeat
DEEPEST = 20  # mappings and lists inside each other

# YAML 1.2's printable characters, less the line separators and text-direction controls that hide text
STRANGE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
    "|[\u2028\u2029\u200b-\u200f\u202a-\u202e\u2060-\u2069]"
)
AMBIGUOUS_WORDS = re.compile(r"(?i:y|n|yes|no|on|off)|TRUE|FALSE|True|False|NULL|Null")
AMBIGUOUS_NUMBERS = re.compile(
    r"[-+]?(0[0-9_]+|0[xob][0-9a-fA-F_]+|[0-9][0-9_]*_[0-9_]*|[0-9]+(:[0-9]+)+|(?i:\.inf|\.nan))|\+[0-9]+"
)
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+)")


@dataclass(frozen=True, order=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{display_path(self.file)}:{self.line}:{self.column}"


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a file, as a person is told it."""

    position: Position
    message: str

    def __str__(self) -> str:
        return f"{self.position}: {self.message}"


class FileError(InputError):
    """A file, or several, that cannot be used; ``problems`` has all of them, by file and line."""

    def __init__(self, problems: list[Problem], *, hint: str | None = None) -> None:
        self.problems = sorted(set(problems))
        lines = [str(p) for p in self.problems]
        title = lines[0] if len(lines) == 1 else f"{len(lines)} errors\n" + "\n".join(lines)
        super().__init__(title, hint=hint)


@dataclass
class Node:
    """A value with its place. ``value`` is a dict or list of nodes, or a plain value."""

    value: Any
    position: Position
    key_position: Position | None = None  # of the key before it, where it has one

    @property
    def place(self) -> Position:
        """Where to point for an error about the setting as such."""
        return self.key_position or self.position

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def walk(self, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], "Node"]]:
        """Every value below, parents first, with its path."""
        yield path, self
        items = self.value.items() if isinstance(self.value, dict) else enumerate(self.value)
        if isinstance(self.value, dict | list):
            for key, node in items:
                yield from node.walk((*path, key))


def display_path(path: Path) -> str:
    """A path as a person here would type it."""
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return os.fspath(path)


def read_mapping(path: Path, what: str) -> Node:
    """The mapping that a YAML file is. Raises FileError with every problem of the file's syntax."""
    return parse_mapping(read_text(path, what), path, what)


def read_text(path: Path, what: str) -> str:
    start = Position(path, 1, 1)
    try:
        if not path.is_file():
            raise FileError([Problem(start, f"is not a file, and {what} is one")])
        with path.open("rb") as f:
            data = f.read(LARGEST + 1)
    except OSError as e:
        raise FileError([Problem(start, f"cannot be read: {e.strerror}")]) from e
    if len(data) > LARGEST:
        raise FileError([Problem(start, f"is larger than {LARGEST >> 10} KiB, which {what} never is")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        before = data[: e.start]
        line, column = before.count(b"\n") + 1, len(before.rpartition(b"\n")[2].decode(errors="replace")) + 1
        raise FileError(
            [Problem(Position(path, line, column), f"byte 0x{data[e.start]:02x} is not UTF-8")],
            hint=f"save {path.name} as UTF-8",
        ) from e


def parse_mapping(text: str, path: Path, what: str) -> Node:
    start = Position(path, 1, 1)
    if strange := STRANGE.search(text):
        position = position_in(text, strange.start(), path)
        raise FileError([Problem(position, f"contains {character_name(strange[0])}")])
    try:
        refuse_bottomless(text, path)
        root = yaml.compose(text, Loader=BareLoader)
    except yaml.MarkedYAMLError as e:
        raise FileError([syntax_problem(e, text, path)]) from e
    except (yaml.YAMLError, ValueError, OverflowError) as e:
        raise FileError([Problem(start, f"is not YAML: {e}")]) from e
    if root is None:
        raise FileError([Problem(start, f"is empty, and {what} says at least one thing")])
    composer = Composer(path)
    node = composer.node(root, 0)
    if not composer.problems and not isinstance(node.value, dict):
        composer.wrong(root, f"{what} is a mapping (lines of `key: value`), not {kind_of(node.value)}")
    if composer.problems:
        raise FileError(composer.problems)
    return node


def refuse_bottomless(text: str, path: Path) -> None:
    """Raise FileError for what PyYAML's composer, which is C and calls itself, would run out of stack at."""
    depth = 0
    for event in yaml.parse(text, Loader=BareLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 10 * DEEPEST:  # less is told by what reads the values, with the others' mistakes
            mark = event.start_mark
            place = Position(path, mark.line + 1, mark.column + 1) if mark else Position(path, 1, 1)
            raise FileError([Problem(place, f"is nested deeper than {DEEPEST} levels")])


def position_in(text: str, offset: int, path: Path) -> Position:
    before = text[:offset]
    return Position(path, before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


def kind_of(value: Any) -> str:
    """What a person would call a value's type."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    kinds = {dict: "a mapping", list: "a list", int: "a number", float: "a number", str: "text"}
    return kinds.get(type(value), "something else")


def syntax_problem(error: yaml.MarkedYAMLError, text: str, path: Path) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    around = lines[max(0, line - 2) : line]
    problem = error.problem or "is not YAML"
    context = f" ({error.context})" if error.context else ""
    if any("\t" in text_line[: len(text_line) - len(text_line.lstrip())] for text_line in around):
        problem, context = "a tab indents this line, and YAML takes spaces alone", ""
    elif "expected a single document" in f"{error.context} {problem}":
        problem, context = "a second document begins here ('---'); one file is one document", ""
    elif "undefined alias" in problem:
        problem, context = f"{problem}: no `&` anchor of that name stands before it", ""
    return Problem(Position(path, line, column), f"{problem}{context}")


class BareLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Parses only: no scalar is taken for anything but text, so that we decide what it is."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way to switch them off


PLAIN_TAGS = {
    yaml.ScalarNode: "tag:yaml.org,2002:str",
    yaml.SequenceNode: "tag:yaml.org,2002:seq",
    yaml.MappingNode: "tag:yaml.org,2002:map",
}


@dataclass
class Composer:
    """Turns PyYAML's nodes of one file into ours, collecting problems instead of stopping at the first."""

    path: Path
    problems: list[Problem] = field(default_factory=list)
    count: int = 0

    def wrong(self, node: yaml.Node, message: str) -> None:
        self.problems.append(Problem(self.position(node), message))

    def position(self, node: yaml.Node) -> Position:
        return Position(self.path, node.start_mark.line + 1, node.start_mark.column + 1)

    def node(self, node: yaml.Node, depth: int) -> Node:
        position = self.position(node)
        self.count += 1
        if depth > DEEPEST:
            raise FileError([Problem(position, f"is nested deeper than {DEEPEST} levels")])
        if self.count > MOST_NODES:
            message = f"says more than {MOST_NODES} things (an alias that repeats itself?)"
            raise FileError([Problem(position, message)])
        if node.tag != PLAIN_TAGS[type(node)]:
            self.wrong(node, f"the tag {shown(node.tag)} is not accepted; write the plain value")
        if isinstance(node, yaml.SequenceNode):
            return Node([self.node(item, depth + 1) for item in node.value], position)
        if isinstance(node, yaml.MappingNode):
            return Node(self.mapping(node, depth), position)
        return Node(self.scalar(node.value, node), position)

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key_node, value_node in node.value:
            value = self.node(value_node, depth + 1)
            if not isinstance(key_node, yaml.ScalarNode):
                self.wrong(key_node, "a key is text here, not a list or a mapping")
                continue
            key = key_node.value
            if key == "<<":
                self.wrong(key_node, "merge keys (<<) are not accepted; use `extends:`")
            elif key in found:
                first = found[key].place
                self.wrong(key_node, f"key {shown(key)} is there twice, first in line {first.line}")
            else:
                value.key_position = self.position(key_node)
                found[key] = value
        return found

    def scalar(self, text: str, node: yaml.Node) -> Any:
        """A value as YAML 1.2 reads it; an error where 1.1 or a person would read another."""
        if isinstance(node, yaml.ScalarNode) and node.style:  # None or "" without quotes, by parser
            return text
        if text in ("", "~", "null"):
            return None
        if text in ("true", "false"):
            return text == "true"
        if AMBIGUOUS_WORDS.fullmatch(text):
            meant = ambiguous_meaning(text)
            self.wrong(
                node,
                f"{text} without quotes is {meant} to some programs and a word to others; "
                f"write '{text}' in quotes for the word, or {meant}",
            )
            return text
        if AMBIGUOUS_NUMBERS.fullmatch(text):
            self.wrong(
                node,
                f"{shown(text)} without quotes is read as different numbers by different programs; "
                "write it in quotes for the text, or as a plain decimal number",
            )
            return text
        if INTEGER.fullmatch(text):
            return int(text)
        if FLOAT.fullmatch(text):
            return float(text)
        return text


def ambiguous_meaning(text: str) -> str:
    if text.lower() == "null":
        return "null"
    return "true" if text.lower() in ("y", "yes", "on", "true") else "false"
