"""What does ``seatsmith boot-test`` do? One boot, a snapshot, every check from it, and a report."""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest import ExitCode

from builder.errors import UsageError
from builder.files import unchanged
from builder.machine import checks
from builder.machine.errors import GuestError, Unmet
from builder.machine.evidence import clear
from builder.machine.job import Job
from builder.machine.places import private_directory
from builder.machine.ready import bring_up, keep_ready, ready_machine, timeline
from builder.machine.subject import Subject
from builder.report.model import Report
from builder.report.page import write_report
from builder.report.record import CHECKS, CheckRecord, Picture
from builder.run import ProgramError, run
from builder.tools import Tools

Say = Callable[[str], None]
CHECK_TIMEOUT = 900.0  # seconds after which a check is ended; longer than any wait in it, which can say more
BOOT = "boot"
JUDGED = {ExitCode.OK, ExitCode.TESTS_FAILED, ExitCode.NO_TESTS_COLLECTED}


@dataclass(frozen=True)
class Wanted:
    """Which checks are run, and how."""

    only: tuple[str, ...] = ()
    quick: bool = False
    workers: int = 1
    defects: bool = False
    faults: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def boot_test(
    subject: Subject, tools: Tools, folder: Path, *, wanted: Wanted = Wanted(), say: Say = print
) -> Report:
    """Boot the seat once, run the checks from its ready state, and leave the report in ``folder``."""
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    clear(folder)
    with unchanged(subject.disk), private_directory(f"{subject.name}-boot-test") as place:
        overlay = place / "ready.qcow2"
        boot = first_boot(subject, tools, folder, overlay, say)
        if boot.outcome == "passed":
            run_checks(subject, tools, folder, overlay, place / "job.json", wanted)
    records = [boot, *read_records(folder)]
    if boot.outcome == "passed" and wanted.only and len(records) == 1:
        names = " or ".join(wanted.only)
        raise UsageError(f"no check that fits this seat is called {names}", hint="see docs/boot-tests.md")
    took = time.monotonic() - began
    report = Report(subject.name, folder, records, timeline=folder / "boot.json", seconds=took)
    write_report(report)
    return report


def first_boot(subject: Subject, tools: Tools, folder: Path, overlay: Path, say: Say) -> CheckRecord:
    """Bring the seat up with its pictures; its ready state to ``overlay``. The record has any failure."""
    way = "firmware, boot menu and passphrase" if subject.full else "the fast route"
    record = CheckRecord(id=BOOT, title=f"The seat boots by {way} to all its desktops", group=BOOT)
    with ready_machine(tools, subject) as machine:

        def picture(caption: str) -> None:
            path = folder / "pictures" / f"{BOOT}-{len(record.pictures) + 1}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            machine.screenshot(path)
            record.pictures.append(Picture(caption=caption, file=str(path.relative_to(folder))))

        def reached(label: str) -> None:
            say(f"        {machine.marks[-1].seconds:6.1f} s  {label}")
            picture(f"the screen at the step: {label}")

        try:
            bring_up(machine, subject, reached=reached, wrong_first=subject.full)
            keep_ready(machine, subject, overlay, picture=picture)
            record.outcome = "passed"
        except (GuestError, Unmet) as e:
            record.outcome, record.message = "failed", str(e)
            try_to(lambda: picture("when it failed"))
            try_to(lambda: record.logs.update({"journal of the host": machine.host.journal(120)}))
        record.seconds = machine.marks[-1].seconds if machine.marks else 0.0
        record.logs["serial port"] = machine.serial_log()[-6000:]
        (folder / "serial.log").write_text(machine.serial_log())
        (folder / "boot.json").write_text(timeline(machine))
    record.write(folder)
    say(f"{record.outcome:>7} {record.seconds:6.1f} s  {record.title}")
    return record


def try_to(ask: Callable[[], object]) -> None:
    """Ask for one more piece of evidence; a dead machine has none."""
    try:
        ask()
    except GuestError:
        return


def run_checks(
    subject: Subject, tools: Tools, folder: Path, overlay: Path, job_file: Path, wanted: Wanted
) -> None:
    """Run the checks by pytest in a process (and workers) of its own; what they saw lies in ``folder``.

    Raises ProgramError where they did not come to their end, for another reason than a check that failed.
    """
    job = Job(
        subject=subject,
        tools=tools.root,
        overlay=overlay,
        folder=folder.absolute(),
        only=wanted.only,
        quick=wanted.quick,
        defects=wanted.defects,
        faults=dict(wanted.faults),
    )
    job_file.write_text(job.model_dump_json())
    job_file.chmod(0o600)  # it holds the passphrase
    place = Path(checks.__file__).parent
    argv: Sequence[str | Path] = [
        *(sys.executable, "-m", "pytest", place, "--rootdir", place, "-c", os.devnull),
        *("-p", "builder.machine.plugin", "--boot-test-job", job_file),
        *("-p", "no:cacheprovider", "-p", "no:terminal", "--import-mode", "importlib"),
        *("--timeout", str(CHECK_TIMEOUT)),
        *(("-n", str(wanted.workers), "--dist", "loadgroup") if wanted.workers > 1 else ()),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    result = run(argv, env=environment, stdout=None, check=False)
    if result.returncode not in JUDGED:
        raise ProgramError(["the checks"], result.returncode, result.stderr.decode(errors="replace"))


def read_records(folder: Path) -> list[CheckRecord]:
    """What the checks left, in the order of their groups."""
    found = [CheckRecord.model_validate_json(path.read_text()) for path in (folder / CHECKS).glob("*.json")]
    return sorted((r for r in found if r.id != BOOT), key=lambda r: (r.group, r.id))
