"""How are the results shown: a table for a person, records for the report, JSON for programs?"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from builder.isolation.rows import BY_ID, Promise
from builder.isolation.verdict import Attempt, Result, Verdict
from builder.report.record import PICTURES, CheckRecord, Picture
from builder.ui import printable

SHOWN = 40  # ways that the report lists for one row
IN_A_LOG = 120  # columns of a table that no terminal limits
COLOURS = {Verdict.BLOCKED: "green", Verdict.OPEN: "red", Verdict.NOT_PROVEN: "yellow"}


class Entry(BaseModel):
    """One row of results.json."""

    result: Result
    verdict: Verdict
    promised: Promise
    kept: bool


def entry(result: Result) -> Entry:
    row = BY_ID[result.row]
    promised = row.promise(strict=result.strict)
    return Entry(result=result, verdict=result.verdict, promised=promised, kept=result.kept(row))


def as_json(results: Sequence[Result]) -> str:
    """Everything that was tried, and what came of it, without the pictures."""
    pictures = {"tries": {"__all__": {"picture"}}}
    left_out = {"result": {"attempt": pictures, "control": pictures}}
    rows = [entry(result).model_dump(mode="json", exclude=left_out) for result in results]
    return json.dumps(rows, indent=1) + "\n"


def tried_text(attempt: Attempt) -> str:
    if attempt.problem:
        return "failed"
    if not attempt.made:
        return "nothing to try"
    count = sum(one.outcome != "absent" for one in attempt.tries)
    return f"{count} way{'s' if count != 1 else ''}"


def control_text(attempt: Attempt) -> str:
    return "works" if attempt.succeeded else "fails" if attempt.made else "none"


def table(results: Sequence[Result], *, width: int | None = None) -> str:
    """For each container what its root tried, what came of it, and whether the control works."""
    console = Console(width=width, highlight=False)
    if width is None and not console.is_terminal:
        console.width = IN_A_LOG
    with console.capture() as capture:
        for name in dict.fromkeys(result.environment for result in results):
            mine = [result for result in results if result.environment == name]
            mode = "strict" if mine[0].strict else "shared"
            shown = Table(title=f"root in {name} ({mode}) can …", title_justify="left", box=None)
            for heading in ("", "tried", "result", "refused with", "control"):
                shown.add_column(heading, no_wrap=heading != "", min_width=0 if heading else 36)
            group = ""
            for result in mine:
                if result.group != group:
                    group = result.group
                    shown.add_row(Text(group, style="bold"))
                shown.add_row(*cells(result))
            console.print(shown)
    return capture.get().rstrip()


def cells(result: Result) -> tuple[str | Text, ...]:
    found = entry(result)
    verdict = Text(found.verdict, style=COLOURS[found.verdict])
    if found.verdict is Verdict.OPEN and found.kept:
        verdict = Text("open, as documented", style="yellow")
    refused = result.attempt.refusals if found.verdict is Verdict.BLOCKED else ""
    shown = printable(refused if len(refused) <= 30 else f"{refused[:29]}…")
    return f"  {result.title}", tried_text(result.attempt), verdict, shown, control_text(result.control)


def record(result: Result, folder: Path) -> CheckRecord:
    """A row as a report shows it; pictures that were read off the screen become files in ``folder``."""
    found = entry(result)
    made = CheckRecord(
        id=f"{result.environment}-{result.row}",
        title=f"{result.environment}: {found.verdict}: {result.title}",
        group=f"{result.environment}: {result.group}",
        seconds=result.attempt.seconds,
    )
    if found.kept:
        made.outcome = "passed"
    else:
        made.outcome = "failed" if found.verdict is Verdict.OPEN else "error"
        made.message = why(result)
    if found.verdict is Verdict.OPEN and found.kept:
        made.notes.append(f"Open: {'strict' if result.strict else 'shared'} does not promise to prevent it.")
    for who, attempt in (("in the container", result.attempt), ("control, on the host", result.control)):
        lines = [one.line for one in attempt.tries[:SHOWN]]
        if attempt.arrived is not None:
            lines.append(f"what counts, that it arrived: {'yes' if attempt.arrived else 'no'}")
        lines += [line for line in (attempt.problem, attempt.absent) if line]
        made.logs[who] = "\n".join(lines)
        for one in attempt.tries:
            if one.picture:
                made.pictures.append(keep_picture(made, who, one.picture, folder))
    return made


def keep_picture(made: CheckRecord, who: str, data: str, folder: Path) -> Picture:
    name = f"{PICTURES}/{made.id}-{len(made.pictures) + 1}.png"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(data))
    return Picture(caption=f"what was read off the screen {who}", file=name)


def why(result: Result) -> str:
    """Why a row has not passed."""
    if result.verdict is Verdict.OPEN:
        return f"root in {result.environment} can {result.title}"
    if result.attempt.problem:
        return f"not proven: {result.attempt.problem}"
    if not result.attempt.made:
        return f"not proven: nothing could be tried. {result.attempt.absent}".strip()
    what = (
        result.control.problem
        or result.control.absent
        or f"refused ({result.control.refusals or 'silently'})"
    )
    return f"not proven: it was refused, and so was the control: {what}"
