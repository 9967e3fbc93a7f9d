"""What is the JSON schema of a profile file, and how does it read as a reference page?"""

import json
from collections.abc import Iterator
from typing import Any

from builder.errors import InputError
from builder.files import write_atomic
from builder.profile import checks, package_checks
from builder.profile.checks import PART_NAME
from builder.profile.model import Profile
from builder.project import Project
from builder.sizes import format_size

BEGIN = "<!-- reference: made by `seatsmith schema --write` -->\n"
END = "<!-- end of the reference -->\n"


def profile_schema() -> dict[str, Any]:
    """The schema of one file in profiles/, for editors and other programs (JSON Schema 2020-12)."""
    schema = Profile.model_json_schema()
    close_mappings(schema)
    part = {
        "type": "string",
        "title": PART_NAME.what,
        "pattern": f"^({PART_NAME.pattern})$",
        "maxLength": PART_NAME.longest,
    }
    extends = {
        "anyOf": [part, {"type": "array", "items": part, "uniqueItems": True}],
        "title": "names of profiles or parts",
        "description": "Profiles or parts (`_NAME`) that this one builds on; the later win, this file most.",
        "examples": ["_desktop"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Seatsmith profile",
        "description": "One environment: a Linux root filesystem with a desktop. See docs/profiles.md.",
        "type": "object",
        "properties": {"extends": extends, **schema["properties"]},
        "additionalProperties": False,
        "$defs": schema["$defs"],
    }


def close_mappings(schema: Any) -> None:
    """Refuse keys that no pattern matches; pydantic leaves those mappings open."""
    if isinstance(schema, dict):
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        for inner in schema.values():
            close_mappings(inner)
    elif isinstance(schema, list):
        for inner in schema:
            close_mappings(inner)


def schema_text() -> str:
    return json.dumps(profile_schema(), indent=2, ensure_ascii=False) + "\n"


def write_schema(project: Project) -> None:
    """Renew the checked-in schema and the reference part of docs/profiles.md."""
    page = project.root / "docs/profiles.md"
    if not page.is_file():
        raise InputError(f"there is no {page}", hint="--write is for a checkout of Seatsmith itself")
    text = with_reference(page.read_text())
    write_atomic(project.profiles / "schema.json", schema_text())
    write_atomic(page, text)


def with_reference(page: str) -> str:
    """``page`` with its reference part renewed. Raises InputError where its markers are gone."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError("docs/profiles.md lacks the markers of its reference part", hint=f"put in: {BEGIN}")
    return before + BEGIN + "\n" + reference() + "\n" + END + after


def reference() -> str:
    """The settings as Markdown: one table for the top of the file, one for each section."""
    schema = profile_schema()
    lines = ["### Top of the file", "", *table(schema, schema["$defs"])]
    for name, definition in schema["$defs"].items():
        if "properties" in definition:
            lines += ["", f"### {heading(name, schema)}", "", definition.get("description", ""), ""]
            lines += table(definition, schema["$defs"])
    return "\n".join(lines) + "\n"


def heading(definition: str, schema: dict[str, Any]) -> str:
    """The key below which a section stands: ``display``, ``users[]``."""
    for key, field in schema["properties"].items():
        if field.get("$ref", "").endswith(f"/{definition}"):
            return f"`{key}`"
        if field.get("items", {}).get("$ref", "").endswith(f"/{definition}"):
            return f"`{key}[]`"
    return definition


def table(definition: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    yield "| Key | Accepted | Default | Meaning |"
    yield "|---|---|---|---|"
    for key, field in definition["properties"].items():
        default = default_text(field) if key not in definition.get("required", []) else "*must be given*"
        words = [f"`{key}`", accepted(field, definitions), default, meaning(field, definitions)]
        yield "| " + " | ".join(w.replace("|", "\\|").replace("\n", " ") for w in words) + " |"


def meaning(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    definition = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
    return " ".join(str(field.get("description") or definition.get("description", "")).split())


def default_text(field: dict[str, Any]) -> str:
    if "default" not in field or field["default"] is None:
        return ""
    default = field["default"]
    if any(o.get("exclusiveMinimum") == 0 for o in field.get("anyOf", [])) and isinstance(default, int):
        return f"`{format_size(default)}`"
    return f"`{default}`" if isinstance(default, str) else f"`{json.dumps(default)}`"


def accepted(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a field takes, in words."""
    if "$ref" in field:
        definition = definitions[field["$ref"].rpartition("/")[2]]
        return (
            accepted(definition, definitions) if "properties" not in definition else "a mapping, see below"
        )
    if "enum" in field:
        return ", ".join(f"`{word}`" for word in field["enum"])
    if "anyOf" in field:
        ways = [accepted(way, definitions) for way in field["anyOf"]]
        return "; or ".join(dict.fromkeys(ways))
    kind = field.get("type")
    if kind == "string":
        return accepted_text(field)
    if kind == "integer":
        low, high = field.get("minimum"), field.get("maximum")
        return (
            f"a whole number, {low} to {high}"
            if low is not None
            else str(field.get("description", "a number"))
        )
    if kind == "array":
        item = field["items"]
        inner = (
            "mappings, see below"
            if "$ref" in item and "properties" in definitions.get(item["$ref"].rpartition("/")[2], {})
            else accepted(item, definitions)
        )
        return f"a list: {inner}"
    if kind == "object":
        value = next(iter(field["patternProperties"].values()))
        return f"a mapping from {accepted_text(field['propertyNames'])}; to {accepted(value, definitions)}"
    return {"boolean": "`true` or `false`", "null": "`null`"}.get(str(kind), str(kind))


def accepted_text(field: dict[str, Any]) -> str:
    """In the words of the rule that the schema was made from; a field's own description hides the rule's."""
    words = {rule.what: rule.accepted for rule in [*checks.RULES, *package_checks.RULES]}
    return words.get(str(field.get("title")), str(field.get("description", "text")))
