"""How does pydantic's verdict become lines that a person can act on: where, what is wrong, what goes?"""

import difflib
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from builder.profile.positions import Node, Position, Problem, kind_of
from builder.profile.rule import shown

Path = tuple[str | int, ...]
WANTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "list_type": "a list (lines that begin with `- `, or [one, two])",
    "dict_type": "a mapping (lines of `key: value`)",
    "model_type": "a mapping (lines of `key: value`)",
    "model_attributes_type": "a mapping (lines of `key: value`)",
    "path_type": "text",
    "enum": "one of the words",
}
AMOUNTS = {
    "string_too_short": "has too few characters",
    "string_too_long": "has too many characters",
    "too_short": "says too few things",
    "too_long": "says too many things",
}
UNQUOTED = {
    "bool_type": "true|false",
    "int_type": "[1-9][0-9]{0,17}",
}  # text that is a value without its quotes


def explain(
    error: ValidationError, model: type[BaseModel], root: Node, *, more_keys: Iterable[str] = ()
) -> Iterator[Problem]:
    """One problem for each error of ``model`` in the values of ``root``.

    ``more_keys`` are keys that the file takes at its top beside the fields of ``model``.
    """
    for one in error.errors(include_url=False):
        path: Path = tuple(one["loc"])
        if one["type"] == "rules":  # what the loader tells by itself, with places
            continue
        about_key = one["type"] == "extra_forbidden"
        if path and path[-1] == "[key]":
            path, about_key = path[:-1], True
        message = message_for(one, path, model, more_keys)
        where = key_path(path[:-1] if one["type"] in ("extra_forbidden", "missing") else path)
        yield Problem(place_of(root, path, key=about_key), f"{where}: {message}" if where else message)


def message_for(error: Any, path: Path, model: type[BaseModel], more_keys: Iterable[str]) -> str:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(str(path[-1]), model, path[:-1], more_keys)
    if kind == "missing":
        return f"the key {str(path[-1])!r} is missing"
    if kind == "enum" and isinstance(value, str):
        words = enum_words(model, path)
        near = near_word(value, words)
        accepted = ", ".join(words)
        return f"{shown(value)} is not accepted; accepted: {accepted}" + (
            f"; did you mean {near!r}?" if near else ""
        )
    if kind in WANTED:
        return wrong_kind(value, kind)
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        bounds = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}
        limit = next(f"{bounds[k]} {v}" for k, v in context.items() if k in bounds)
        return f"{value} is not accepted; accepted: {limit}"
    if kind in AMOUNTS:
        return f"{AMOUNTS[kind]}; accepted: " + " and ".join(
            f"{bound} {context[key]}"
            for key, bound in (("min_length", "at least"), ("max_length", "at most"))
            if key in context
        )
    if kind == "value_error":
        return str(context["error"])
    return str(error["msg"])


def wrong_kind(value: Any, kind: str) -> str:
    wanted = WANTED[kind]
    if value is None:
        return f"has no value; accepted: {wanted}"
    hint = ""
    if kind in ("string_type", "path_type") and isinstance(value, int | float):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        hint = f"; write '{text}' in quotes if that text is meant"
    elif isinstance(value, str) and re.fullmatch(UNQUOTED.get(kind, "(?!)"), value):
        hint = "; leave the quotes away"
    elif kind == "list_type" and isinstance(value, str):
        hint = f"; for a list of one write [{value}]" if len(value) < 40 and value.isprintable() else ""
    said = shown(value) if isinstance(value, str) else f"{value}" if isinstance(value, float | int) else ""
    found = f"{kind_of(value)} ({said})" if said and not isinstance(value, bool) else kind_of(value)
    return f"expected {wanted}, found {found}{hint}"


def unknown_key(key: str, model: type[BaseModel], path: Path, more_keys: Iterable[str]) -> str:
    """Says what may have been meant: a near key, or the section that the key belongs to."""
    section = model_at(model, path)
    keys = [*(section.model_fields if section else ()), *(() if path else more_keys)]
    near = near_word(key, keys)
    if near:
        return f"unknown key {shown(key)}; did you mean {near!r}?"
    for name in () if path else model.model_fields:
        inner = model_at(model, (name,))
        if inner and key in inner.model_fields:
            return f"unknown key {shown(key)} here; it belongs below `{name}:`"
    if path and key in model.model_fields:
        return f"unknown key {shown(key)} here; it belongs to the top of the file, without indentation"
    return f"unknown key {shown(key)}; accepted: {', '.join(sorted(keys))}"


def near_word(word: str, words: Iterable[str]) -> str | None:
    """The one of ``words`` that was most likely meant."""
    folded = {w.casefold(): w for w in words}
    found = difflib.get_close_matches(word.casefold().replace("-", "_"), folded, n=1, cutoff=0.65)
    found = found or difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.65)
    return folded[found[0]] if found else None


def model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The section that a path leads to."""
    here: type[BaseModel] | None = model
    named = False
    for step in path:
        if isinstance(step, int):
            continue  # the items of a list are of the model that the list's own step gave
        if named:  # a key that the file chose, of a mapping whose values are all of the same model
            named = False
            continue
        if here is None or step not in here.model_fields:
            return None
        annotation = here.model_fields[step].annotation
        here, named = next(inner_types(annotation, BaseModel), None), get_origin(annotation) is dict
    return here


def enum_words(model: type[BaseModel], path: Path) -> list[str]:
    names = [step for step in path if isinstance(step, str)]
    section = model_at(model, tuple(names[:-1]))
    field = section.model_fields.get(names[-1]) if section else None
    for found in inner_types(field.annotation if field else None, object):
        if issubclass(found, StrEnum):
            return [member.value for member in found]
    return []


def inner_types(annotation: Any, wanted: type) -> Iterator[Any]:
    if isinstance(annotation, type) and not get_args(annotation):
        if issubclass(annotation, wanted):
            yield annotation
        return
    for argument in get_args(annotation):
        yield from inner_types(argument, wanted)


def place_of(root: Node, path: Path, *, key: bool = False) -> Position:
    """Where the value (or its key) at ``path`` stands; where there is none, what it is missing from."""
    here = root
    for index, step in enumerate(path):
        inner = here.value
        if isinstance(inner, dict) and step in inner:
            here = inner[str(step)]
        elif isinstance(inner, list) and isinstance(step, int) and step < len(inner):
            here = inner[step]
        else:
            return here.place if index else here.position
    return here.place if key else here.position


def key_path(path: Path) -> str:
    """``users[0].name``; a key that is no plain word is quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]{1,40}", step):
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text
