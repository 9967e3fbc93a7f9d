"""How does a boot test's result become one self-contained page, and a JUnit file?"""

import base64
import json
import mimetypes
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined

from builder.files import write_atomic
from builder.report.model import Report
from builder.report.record import CheckRecord

GROUPS = {
    "boot": "Start",
    "screens": "Screens, keys and pointer",
    "hotplug": "Plugging in and out",
    "isolation": "Isolation",
    "sound": "Sound",
    "life": "Starting, stopping, logging in",
}


def write_report(report: Report) -> None:
    """Write ``report.html`` and ``junit.xml`` into the report's folder."""
    write_atomic(report.page, page(report))
    write_atomic(report.junit, junit(report))


def page(report: Report) -> str:
    """The page; pictures and sounds are inside it, so that it can be sent around by itself."""
    environment = Environment(
        undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["inline"] = lambda name: inline(report.folder / name)
    template = environment.from_string(
        resources.files("builder.report").joinpath("page.html.j2").read_text()
    )
    return template.render(
        seat=report.seat,
        kind=report.kind,
        ok=report.ok,
        took=report.took,
        passed=len(report.records) - len(report.failed),
        failed=len(report.failed),
        groups=grouped(report.records),
        marks=steps(report.timeline),
    )


def grouped(records: list[CheckRecord]) -> list[tuple[str, list[CheckRecord]]]:
    """Records below their headings, in the order of GROUPS, then whatever else there is."""
    names = [*GROUPS, *sorted({record.group for record in records} - set(GROUPS))]
    found = [(GROUPS.get(name, name), [r for r in records if r.group == name]) for name in names]
    return [(title, rows) for title, rows in found if rows]


def steps(timeline: Path) -> list[dict[str, float | str]]:
    """The boot's steps with the share of the whole time that each took, in percent."""
    marks = json.loads(timeline.read_text()) if timeline.is_file() else []
    whole = marks[-1]["seconds"] if marks else 1.0
    before = 0.0
    rows: list[dict[str, float | str]] = []
    for mark in marks:
        took = mark["seconds"] - before
        rows.append(
            {
                "label": mark["label"],
                "at": mark["seconds"],
                "took": took,
                "left": 100 * before / whole,
                "width": max(0.4, 100 * took / whole),
            }
        )
        before = mark["seconds"]
    return rows


def inline(path: Path) -> str:
    """A file as a data: address."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def junit(report: Report) -> str:
    """JUnit XML as CI servers read it: one suite, one case for each check."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"{report.kind.lower().replace(' ', '-')} {report.seat}",
        tests=str(len(report.records)),
        failures=str(sum(r.outcome == "failed" for r in report.records)),
        errors=str(sum(r.outcome not in ("failed", "passed") for r in report.records)),
        time=f"{sum(r.setup + r.seconds for r in report.records):.3f}",
    )
    for record in report.records:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{report.seat}.{record.group}",
            name=record.id,
            time=f"{record.setup + record.seconds:.3f}",
        )
        if record.outcome != "passed":
            kind = "failure" if record.outcome == "failed" else "error"
            first = (record.message.splitlines() or [record.outcome])[0]
            ElementTree.SubElement(case, kind, message=printable(first)).text = printable(record.message)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"
    )


def printable(text: str) -> str:
    """Without the control characters that XML does not allow."""
    return "".join(c if c in "\n\t" or c >= " " else "�" for c in text)
