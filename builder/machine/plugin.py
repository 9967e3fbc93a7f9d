"""How do checks written for pytest get the seat, and how is what they saw kept for the report?

Loaded by ``run_checks`` (and by every worker of it) with ``-p builder.machine.plugin``.
"""

import re
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.machine.bench import Bench, SeatInTest
from builder.machine.errors import GuestError, Unmet
from builder.machine.evidence import Evidence
from builder.machine.job import Job
from builder.machine.ready import READY, RESTARTED
from builder.report.record import CheckRecord
from builder.tools import Tools

NOTICED = "noticed"
RECORD = "check"
JOB = pytest.StashKey[Job]()
EVIDENCE = pytest.StashKey[Evidence]()
BARE = pytest.StashKey[CheckRecord]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--boot-test-job", metavar="FILE", help="what to test, as builder.machine.job wrote it")


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "check(title): what a boot test promises, in words for the report",
        "needs(*what): leave the check out where the seat has none: container, third, sound, …",
        "defect(where, command, unless=…): what to break so that it must fail (docs/boot-tests.md); "
        "of several the first that the seat has no reason against",
        "restarted: begins with the first container restarted, as the check `restart` leaves it",
        "slow: takes a minute or more; left out of a quick run",
    ):
        config.addinivalue_line("markers", line)
    path = config.getoption("--boot-test-job")
    if path:
        config.stash[JOB] = Job.model_validate_json(Path(path).read_text())
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(Progress(), "boot-test-progress")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not apply to this seat, and with ``defects`` what has no seeded defect."""
    job = config.stash.get(JOB, None)
    if job is None:
        return
    # the longest first, for several workers; what begins with a state of another check after that
    items.sort(key=lambda i: (bool(i.get_closest_marker("restarted")), not i.get_closest_marker("slow")))
    have = job.abilities
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        needs = {need for mark in item.iter_markers("needs") for need in mark.args}
        wanted = needs <= have and (not job.only or check_id(item) in job.only)
        wanted = wanted and not (job.quick and item.get_closest_marker("slow"))
        wanted = wanted and (not job.defects or defect_of(item, have) is not None)
        (kept if wanted else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept


def defect_of(item: pytest.Item, have: set[str]) -> tuple[str, str] | None:
    """Where to break what: the first of the check's defects that can be seeded on this seat."""
    for mark in item.iter_markers("defect"):
        if mark.kwargs.get("unless") not in have:
            where, what = mark.args
            return where, what
    return None


def check_id(item: pytest.Item) -> str:
    """A check's name in reports and on the command line."""
    return item.name.removeprefix("test_").replace("_", "-")


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    job = request.config.stash[JOB]
    with Bench(job.subject, Tools(job.tools), job.overlay) as bench:
        yield bench


@pytest.fixture
def seat(request: pytest.FixtureRequest, bench: Bench) -> Iterator[SeatInTest]:
    """The ready seat, put back to its snapshot."""
    job = request.config.stash[JOB]
    started = time.monotonic()
    try:
        seat = ready_seat(bench, job, restarted=request.node.get_closest_marker("restarted") is not None)
    except (GuestError, Unmet):
        bench.dirty = True
        raise
    evidence = Evidence(job.folder, check_id(request.node), seat)
    evidence.record.setup = time.monotonic() - started
    request.node.stash[EVIDENCE] = evidence
    if job.defects and (defect := defect_of(request.node, job.abilities)):
        break_something(seat, *defect)
    if fault := job.faults.get(check_id(request.node)):
        break_something(seat, *fault)
    try:
        yield seat
    finally:
        evidence.last_look()
        try:
            seat.machine.alive()
        except GuestError:
            bench.dirty = True


def ready_seat(bench: Bench, job: Job, *, restarted: bool) -> SeatInTest:
    """The seat in the state that a check begins with."""
    machine = bench.fresh(RESTARTED if restarted else READY)
    seat = SeatInTest(machine, job.subject, bench.keep)
    if restarted and RESTARTED not in bench.states:
        seat.restart_guest()
        bench.keep(RESTARTED)
    return seat


@pytest.fixture
def show(request: pytest.FixtureRequest, seat: SeatInTest) -> Callable[[str], Path | None]:
    """Keep a screenshot for the report, with a caption."""
    evidence: Evidence = request.node.stash[EVIDENCE]
    return evidence.picture


@pytest.fixture
def evidence(request: pytest.FixtureRequest, seat: SeatInTest) -> Evidence:
    """For whatever else the report should show of this check."""
    return request.node.stash[EVIDENCE]  # type: ignore[no-any-return]


def break_something(seat: SeatInTest, where: str, what: str) -> None:
    """Seed a defect: run a command on the host or in the first container."""
    shell = seat.host.shell if where == "host" else seat.guest.shell
    names = {"guest": seat.guest.name, "third": seat.containers[-1].name}
    shell.succeed(re.sub(r"\{(guest|third)\}", lambda found: names[found.group(1)], what), timeout=120)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    job = item.config.stash.get(JOB, None)
    if job is None:
        return report
    if job.defects and call.when == "call":
        turn_around(report, call)
    keep(item, call, report, job)
    return report


def turn_around(report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """With a seeded defect, only "no" is right: not passing, and no error by which nothing was asked."""
    if report.outcome == "passed":
        report.outcome, report.longrepr = "failed", "the seeded defect was not noticed"
    elif call.excinfo is not None and call.excinfo.errisinstance(AssertionError):
        report.outcome, report.longrepr = "passed", None
        report.sections.append((NOTICED, str(call.excinfo.value)))


def keep(item: pytest.Item, call: pytest.CallInfo[Any], report: pytest.TestReport, job: Job) -> None:
    """Bring the check's record up to date; it is written when the check is over."""
    evidence = item.stash.get(EVIDENCE, None)
    # without evidence the seat could not be brought into its state
    record = evidence.record if evidence else item.stash.setdefault(BARE, CheckRecord(id=check_id(item)))
    mark = item.get_closest_marker("check")
    record.title = mark.args[0] if mark else item.name
    record.group = Path(str(item.path)).stem.removeprefix("test_")
    if call.when == "call":
        record.seconds = call.duration
    if report.failed and record.outcome != "failed":
        record.outcome = "failed" if call.when == "call" else "error"
        why = call.excinfo.value if call.excinfo else report.longrepr
        record.message = str(why) or repr(why)  # some exceptions have nothing to say but their name
    elif call.when == "call" and record.outcome == "unknown":
        record.outcome = "passed"
        record.notes += [text for name, text in report.sections if name == NOTICED]
    if evidence is not None and call.when == "call":
        (evidence.collect_logs if report.failed else evidence.excerpt)()
    if call.when == "teardown" or (call.when == "setup" and report.failed):
        record.write(job.folder)
        report.user_properties.append(
            (RECORD, record.model_dump_json(include={"id", "outcome", "seconds", "title"}))
        )


class Progress:
    """One line for each check as it ends, whichever worker ran it."""

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == RECORD:
                record = CheckRecord.model_validate_json(str(value))
                print(f"{record.outcome:>7} {record.seconds:6.1f} s  {record.title}", flush=True)
