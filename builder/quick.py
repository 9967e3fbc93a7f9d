"""Which command can be answered before the command line is loaded? ``image``, where nothing changed.

Loading typer, which loads pydantic, takes longer than the answer. What is not plainly understood here is
left to the command line, whose answer would be the same.
"""

import os
from collections.abc import Sequence
from typing import Any

from builder import ui
from builder.errors import SeatsmithError
from builder.project import find_project
from builder.uptodate import Delivery, Request, recall


def answered(argv: Sequence[str]) -> bool:
    """Answer ``image NAME`` where its result is known to be there; whether that was so."""
    understood = words_of(argv)
    if understood is None:
        return False
    name, source, as_json = understood
    if source == "auto":
        ui.use(ui.choose(quiet=False))  # a warning may be said
    try:
        found = recall(find_project(), Request(name, source, None, os.environ.get("SIGNING_KEY", "")))
    except SeatsmithError:
        return False
    if found is None:
        return False
    ui.show(*report(name, found), as_json=as_json)
    return True


def words_of(argv: Sequence[str]) -> tuple[str, str, bool] | None:
    """Name, source and whether JSON is wanted; None for other words than these."""
    words = list(argv)
    if not words or words.pop(0) != "image":
        return None
    source, as_json, names = os.environ.get("SOURCE") or "auto", False, []
    while words:
        word = words.pop(0)
        if word == "--json":
            as_json = True
        elif word == "--source" and words:
            source = words.pop(0)
        elif word.startswith("--source="):
            source = word.partition("=")[2]
        elif word.startswith("-") and word != "--locked":  # a result that is there has a lock
            return None
        elif word != "--locked":
            names.append(word)
    return (names[0], source, as_json) if len(names) == 1 else None


def report(name: str, result: Delivery) -> tuple[dict[str, Any], str]:
    """What ``seatsmith image`` says of its result: to a program, and to a person."""
    lines = [f"{result.place}" + ("" if result.fresh else "  (nothing changed)")]
    lines += [f"  {path.name:<52} {ui.size_text(path.stat().st_size):>9}" for path in result.files]
    if not result.signed:
        lines.append("  not signed: set SIGNING_KEY to sign (docs/signing.md)")
    value = {
        "profile": name,
        "version": result.version,
        "source": result.source,
        "place": result.place,
        "built": result.fresh,
        "signed": result.signed,
        "files": [p.name for p in result.files],
    }
    return value, "\n".join(lines)
