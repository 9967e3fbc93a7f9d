"""What makes a string safe for the place it lands in? One ``Rule`` per kind of place."""

import os
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # of a host name, RFC 1123
SHOWN = 60  # characters of a wrong value that a message repeats
NAMES = {"\n": "a line break", "\r": "a carriage return", "\t": "a tab", "\0": "a NUL character"}


def no_reason(text: str) -> str | None:
    return None


def unchanged(text: str) -> str:
    return text


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What one kind of string may be. Used as pydantic metadata: ``Annotated[str, RULE]``.

    ``pattern`` is matched against the whole string and is published in the JSON schema (anchored): it keeps
    to what Python and ECMAScript read alike. ``why`` names a mistake more exactly than the pattern can,
    and refuses what the pattern cannot express; it sees strings that passed the hazards.
    """

    what: str
    accepted: str
    pattern: str
    example: str
    longest: int = 255
    why: Callable[[str], str | None] = no_reason
    clean: Callable[[str], str] = unchanged
    ascii_only: bool = True
    may_start_with_dash: bool = False
    may_be_empty: bool = False

    def problem(self, text: str) -> str | None:
        """What is wrong with ``text``, as the end of the sentence "it …"; None where it is fine."""
        if not text:
            return None if self.may_be_empty else "is empty"
        if wrong := self.hazard(text):
            return wrong
        if wrong := self.why(text):
            return wrong
        if not re.fullmatch(self.pattern, text, 0 if not self.ascii_only else re.ASCII):
            return f"{shown(text)} is not {article(self.what)}"
        return None

    def hazard(self, text: str) -> str | None:
        """What no place takes: control characters, odd spaces, ``%``, options in disguise, over-length."""
        if len(text) > self.longest:
            return f"{shown(text)} is longer than {self.longest} characters"
        for character in text:
            if not character.isprintable():  # controls, formats, unassigned, separators but the plain space
                return f"contains {character_name(character)}"
        if "%" in text:
            return f"{shown(text)} contains '%', which systemd would expand"
        if self.ascii_only and not text.isascii():
            odd = next(c for c in text if not c.isascii())
            return f"{shown(text)} contains {character_name(odd)}; only ASCII characters are accepted here"
        if text.startswith("-") and not self.may_start_with_dash:
            return f"{shown(text)} starts with '-', which programs take for an option"
        return None

    def check(self, text: str) -> str:
        """``text`` in its clean form. Raises PydanticCustomError (a ValueError) with the reason."""
        if wrong := self.problem(text):
            message = wrong + (" " if wrong.endswith("?") else "; ") + f"accepted: {self.accepted}"
            raise PydanticCustomError("rule", "{wrong}", {"wrong": message})
        return self.clean(text)

    def check_path(self, value: Any) -> Any:
        return self.check(os.fspath(value)) if isinstance(value, str | Path) else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if source is Path:
            return core_schema.no_info_before_validator_function(self.check_path, handler(source))
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        # no reference to what ``handler`` makes: a path is a plain string in a profile
        return {
            "type": "string",
            "title": self.what,
            "description": self.accepted,
            "pattern": f"^({self.pattern})$" if not self.may_be_empty else f"^({self.pattern})?$",
            "maxLength": self.longest,
            "examples": [self.example],
        }


def shown(text: str) -> str:
    """A wrong value as a message repeats it: quoted, escaped, and not endless."""
    return repr(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…")


def character_name(character: str) -> str:
    """A character so that nobody mistakes it: ``'а' (U+0430 CYRILLIC SMALL LETTER A)``."""
    if character in NAMES:
        return NAMES[character]
    name = unicodedata.name(character, "a control character")
    visible = f"{character!r} " if character.isprintable() else ""
    return f"{visible}(U+{ord(character):04X} {name})"


def article(noun: str) -> str:
    return ("an " if noun[0] in "aeioAEIO" else "a ") + noun


def steps_problem(text: str) -> str | None:
    """What is wrong with the steps of a path, absolute or relative."""
    steps = text.removeprefix("/").split("/")
    if ".." in steps:
        return f"{shown(text)} contains '..'"
    if "." in steps:
        return f"{shown(text)} contains a step '.'"
    if "" in steps:
        return f"{shown(text)} contains an empty step ('//' or a '/' at the end)"
    return None
