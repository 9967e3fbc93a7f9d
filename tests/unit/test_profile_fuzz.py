"""Whatever is in a file: a profile or a FileError comes out, and no accepted string is dangerous."""

import os
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builder.profile import Profile, checks, package_checks
from builder.profile.load import resolve_profile
from builder.profile.positions import FileError
from builder.profile.rule import Rule
from builder.profile.schema import profile_schema
from builder.profile.show import show_text
from tests.support.profiles import project_at

RULES: list[Rule] = [*checks.RULES, *package_checks.RULES]
WORDS = sorted(
    {key for d in [profile_schema(), *profile_schema()["$defs"].values()] for key in d.get("properties", {})}
)
NASTY = [
    "no",
    "~",
    "%n",
    "../..",
    "a\nb",
    "-x",
    "\x00",
    "ſ",
    "аrch",
    "1_0",
    "0x1",
    "<<",
    "*a",
    "&a [*a]",
    "!!set x",
]


def parse(text: str) -> Profile | None:
    """The profile, or None where it was refused in the way it should be."""
    with tempfile.TemporaryDirectory() as folder:
        project = project_at(Path(folder))
        try:
            resolved = resolve_profile(project, "work", text=text)
        except FileError as e:
            lines = text.splitlines() or [""]
            for problem in e.problems:
                assert 1 <= problem.position.line <= len(lines) + 2
                assert problem.position.column >= 1
                assert problem.message.isprintable(), repr(problem.message)
            return None
        assert resolve_profile(project, "work", text=show_text(resolved)).profile == resolved.profile
        return resolved.profile


TIMES = int(os.environ.get("FUZZ", "1"))  # FUZZ=50 looks fifty times as long
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60 * TIMES)


@fuzz
@given(st.text())
@example("a: " + "[" * 5000)
@example("? ? ? ? a")
@example('"\\U7fffffff": 1')
@example("a: &a {b: *a}")
@example("- - - - - - - - - - - - - - - - - - - - - - -")
def test_any_text_is_a_profile_or_refused_with_places(text: str) -> None:
    parse(text)


@fuzz
@given(
    st.lists(
        st.sampled_from(
            [*WORDS, *NASTY, ": ", "\n", "  ", "- ", "[", "]", "{", "}", ", ", "'", '"', "#", "|"]
        )
    )
)
def test_any_heap_of_yaml_pieces_is_a_profile_or_refused_with_places(pieces: list[str]) -> None:
    parse("".join(pieces))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(NASTY),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=20,
)


@fuzz
@given(st.dictionaries(st.sampled_from([*WORDS, "extends"]), values, max_size=8))
def test_any_values_at_any_keys_are_a_profile_or_refused_with_places(data: dict[str, Any]) -> None:
    parse(yaml.safe_dump(data, allow_unicode=True))


def likely(rule: Rule) -> st.SearchStrategy[str]:
    """Texts near to what a rule takes: its own matches, altered by one character anywhere."""
    start = st.from_regex(rule.pattern, fullmatch=True) | st.just(rule.example) | st.text()

    def alter(text: str, at: int, what: str) -> str:
        place = at % (len(text) + 1)
        return text[:place] + what + text[place:]

    odd = st.sampled_from([*string.printable, "\x00", "\xa0", "\u2028", "а", "%", "..", "\x1b", ""])
    return start | st.builds(alter, start, st.integers(0, 50), odd)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.what)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=20 * TIMES)
@given(data=st.data())
def test_what_a_rule_accepts_holds_nothing_dangerous(rule: Rule, data: st.DataObject) -> None:
    text = data.draw(likely(rule))
    if rule.problem(text) is not None:
        with pytest.raises(ValueError, match="accepted"):
            rule.check(text)
        return
    clean = rule.check(text)
    assert clean.isprintable()
    assert not set(clean) & set("%\n\r\0\t\"'`;|&<>" if rule.what not in LOOSER else "%\n\r\0\t\"'`")
    if rule.what not in ("URL", "description"):
        assert "$" not in clean
    if rule.what != "unit name":
        assert "\\" not in clean
    if rule.what != "description":
        assert clean.isascii()
    if "/" in clean and rule.what not in ("SSH public key", "make.conf value", "description"):
        assert ".." not in clean.split("/")
    if rule.what in ("user name", "group name", "host name", "profile name", "package name", "unit name"):
        assert not clean.startswith("-")
        assert " " not in clean


LOOSER = ("description", "package atom")  # prose; and atoms begin with < or >
