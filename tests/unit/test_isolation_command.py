"""Does ``seatsmith isolation-test`` report and end as it should? The seat is not booted here."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from builder.cli import app
from builder.cli import isolationtest as command
from builder.isolation import isolationtest
from builder.isolation.results import record
from builder.isolation.rows import BY_ID, Row
from builder.isolation.verdict import Attempt, Result, Try
from builder.machine.subject import EnvironmentFacts, Kernel, Subject
from builder.report.record import CheckRecord
from builder.tools import Tools

DONE = Attempt(tries=[Try(how="read it", outcome="done")])
REFUSED = Attempt(tries=[Try(how="read it", outcome="refused", said="EPERM")])


class Seat:
    """A seat whose container is as strict, and as open, as a test says."""

    def __init__(self, folder: Path) -> None:
        self.boots, self.strict, self.open = True, True, set[str]()
        kernel = Kernel(kernel=folder / "k", initrd=folder / "i", cmdline="")
        self.subject = Subject(
            name="demo",
            disk=folder / "disk",
            host=EnvironmentFacts(name="private", vt=7),
            containers=[EnvironmentFacts(name="work", vt=8)],
            fast=kernel,
        )

    @contextlib.contextmanager
    def written(self, *_: object, **__: object) -> Iterator[tuple[Subject, Tools]]:
        yield self.subject, Tools(None)

    def boot(self, subject: Subject, tools: Tools, folder: Path, *_: object) -> CheckRecord:
        (folder / "boot.json").write_text("[]")
        outcome = "passed" if self.boots else "failed"
        return CheckRecord(id="boot", title="boots", group="boot", outcome=outcome, message="")

    def probe(
        self, *words: Any, rows: Sequence[Row], **__: object
    ) -> tuple[list[CheckRecord], list[Result]]:
        results = [
            Result(
                environment="work",
                strict=self.strict,
                row=row.id,
                group=row.group,
                title=row.title,
                attempt=DONE if row.id in self.open else REFUSED,
                control=DONE,
            )
            for row in rows
        ]
        return [record(result, words[3]) for result in results], results


@pytest.fixture
def seat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seat:
    made = Seat(tmp_path)
    monkeypatch.setattr(command, "seat_and_tools", made.written)
    monkeypatch.setattr(isolationtest, "first_boot", made.boot)
    monkeypatch.setattr(isolationtest, "probe_ready", made.probe)
    monkeypatch.setenv("SEATSMITH_DIST", str(tmp_path / "dist"))
    return made


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["isolation-test", "demo", *words])
    return result.exit_code, result.output


def test_a_seat_where_all_is_blocked_passes_and_leaves_three_files(seat: Seat, tmp_path: Path) -> None:
    code, output = run()
    assert code == 0, output
    folder = tmp_path / "dist/isolation-tests/demo"
    assert f"{len(BY_ID)} blocked, 0 open, 0 not proven" in output
    assert len(json.loads((folder / "results.json").read_text())) == len(BY_ID)
    suite = ElementTree.parse(folder / "junit.xml").getroot()
    assert suite.get("name") == "isolation-test demo"
    assert suite.get("tests") == str(len(BY_ID) + 1)
    assert "<title>Isolation test of demo: passed</title>" in (folder / "report.html").read_text()


def test_a_leak_that_strict_promises_to_close_ends_with_1_and_one_that_is_documented_with_0(
    seat: Seat,
) -> None:
    both = ("--only", "vt-own", "--only", "keys-given")
    seat.open = {"vt-own"}
    assert run(*both)[0] == 0
    seat.open = {"keys-given"}
    assert run(*both)[0] == 1
    seat.strict = False
    code, output = run(*both)
    assert code == 0
    assert "1 open (1 of them as documented)" in output


def test_single_rows_can_be_asked_for_by_name_and_as_json(seat: Seat) -> None:
    code, output = run("--only", "disks", "--json")
    assert code == 0
    said = json.loads(output[output.index("{") :])
    assert [row["row"] for row in said["rows"]] == ["disks"]
    assert said["rows"][0]["verdict"] == "blocked"


def test_a_seat_that_does_not_boot_has_proved_nothing(seat: Seat) -> None:
    seat.boots = False
    assert run()[0] == 1


def test_an_unknown_row_is_refused_before_anything_is_booted(seat: Seat) -> None:
    result = CliRunner().invoke(app, ["isolation-test", "demo", "--only", "nothing"])
    assert "no row is called nothing" in str(result.exception)
