"""What does ``seatsmith isolation-test`` do? One boot, then each container's root tries the others."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.files import write_atomic
from builder.isolation.results import as_json, record
from builder.isolation.rows import ROWS, SOUND, Row
from builder.isolation.trial import Trial
from builder.isolation.verdict import Result
from builder.machine.bench import Bench, SeatInTest
from builder.machine.boottest import first_boot
from builder.machine.desktop import Desktop
from builder.machine.errors import GuestError, Unmet
from builder.machine.evidence import clear
from builder.machine.places import private_directory
from builder.machine.subject import Subject
from builder.report.model import Report
from builder.report.page import write_report
from builder.report.record import CheckRecord, Picture
from builder.tools import Tools

Say = Callable[[str], None]


@dataclass(frozen=True)
class Tested:
    """What came of it."""

    report: Report
    results: list[Result]


def isolation_test(
    subject: Subject, tools: Tools, folder: Path, *, rows: Sequence[Row] = ROWS, say: Say = print
) -> Tested:
    """Boot the seat, test each of its containers, and leave report.html, junit.xml and results.json."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    results: list[Result] = []
    records: list[CheckRecord] = []
    with private_directory(f"{subject.name}-isolation-test") as place:
        overlay = place / "ready.qcow2"
        boot = first_boot(subject, tools, folder, overlay, say)
        if boot.outcome == "passed":
            records, results = probe_ready(subject, tools, overlay, folder, rows=rows, say=say)
    write_atomic(folder / "results.json", as_json(results))
    report = Report(
        subject.name,
        folder,
        [boot, *records],
        timeline=folder / "boot.json",
        seconds=time.monotonic() - began,
        kind="Isolation test",
    )
    write_report(report)
    return Tested(report, results)


def probe_ready(
    subject: Subject,
    tools: Tools,
    overlay: Path,
    folder: Path,
    *,
    rows: Sequence[Row] = ROWS,
    say: Say = print,
) -> tuple[list[CheckRecord], list[Result]]:
    """Test the containers of a seat whose ready state ``overlay`` has."""
    records: list[CheckRecord] = []
    results: list[Result] = []
    with Bench(subject, tools, overlay) as bench:
        for facts in subject.containers:
            preparation = CheckRecord(
                id=f"{facts.name}-scenes", title=f"{facts.name}: the scenes of the test", group="scenes"
            )
            began = time.monotonic()
            try:
                seat = SeatInTest(bench.fresh(), subject)
                container = next(one for one in seat.containers if one.name == facts.name)
                found = probe_container(seat, container, preparation, folder, rows=rows, say=say)
            except (GuestError, Unmet) as e:
                preparation.outcome, preparation.message, found = "error", str(e), []
            bench.dirty = True  # what was tried may have left anything behind
            preparation.seconds = time.monotonic() - began
            results += found
            records += [preparation, *(record(result, folder) for result in found)]
    return records, results


def probe_container(
    seat: SeatInTest,
    container: Desktop,
    preparation: CheckRecord,
    folder: Path,
    *,
    rows: Sequence[Row],
    say: Say,
) -> list[Result]:
    """Play the scenes for one container; ``preparation`` gets their pictures."""

    def picture(caption: str) -> Path:
        path = folder / "pictures" / f"{preparation.id}-{len(preparation.pictures) + 1}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        seat.machine.screenshot(path)
        preparation.pictures.append(Picture(caption=caption, file=str(path.relative_to(folder))))
        return path

    tried = tuple(row for row in rows if container.facts.sound or row.group != SOUND)
    trial = Trial(seat, container, picture, say, rows=tried)
    results = trial.run()
    mode = "strict" if trial.strict else "shared"
    preparation.notes.append(f"{container.name} runs as {mode}: {trial.facts}")
    preparation.outcome = "passed"
    return results
