"""Does a boot test's report say what happened, and do checks that cannot fail get found out?"""

import json
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from builder.machine import checks
from builder.machine.agent import slowness
from builder.machine.boottest import Wanted, read_records, run_checks
from builder.machine.errors import Unmet
from builder.machine.job import Job
from builder.machine.plugin import defect_of
from builder.machine.shell import until
from builder.machine.subject import EnvironmentFacts, Kernel, Subject
from builder.report.model import Report
from builder.report.page import page, steps, write_report
from builder.report.record import CheckRecord, Picture
from builder.run import ProgramError
from builder.tools import Tools

pytest_plugins = ["pytester"]

HOST = EnvironmentFacts(name="private", vt=7, user="user")
WORK = EnvironmentFacts(name="work", vt=8, user="user")


def record(folder: Path, outcome: str = "passed", **more: str) -> CheckRecord:
    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (8, 6), (200, 0, 0)).save(folder / "pictures/a.png")
    shot = Picture(caption="the <screen>", file="pictures/a.png")
    made = CheckRecord(id="tone", title="A tone", group="sound", outcome=outcome, pictures=[shot])
    return made.model_copy(update=more)


def report(folder: Path, *records: CheckRecord) -> Report:
    timeline = folder / "boot.json"
    timeline.write_text(
        json.dumps([{"seconds": 2.0, "label": "menu"}, {"seconds": 8.0, "label": "desktop"}])
    )
    made = Report("demo", folder, list(records), timeline)
    write_report(made)
    return made


def test_the_page_has_its_pictures_inside_and_escapes_what_guests_said(tmp_path: Path) -> None:
    made = report(tmp_path, record(tmp_path, "failed", message="<script>alert(1)</script>"))
    text = made.page.read_text()
    assert "data:image/png;base64," in text
    assert "<script>" not in text
    assert "the &lt;screen&gt;" in text
    assert not made.ok


def test_the_page_says_how_long_the_run_took(tmp_path: Path) -> None:
    made = report(tmp_path, record(tmp_path))
    assert "1 passed, 0 failed<" in made.page.read_text()
    assert "1 passed, 0 failed in 7 min 05 s<" in page(replace(made, seconds=424.7))


def test_a_run_passes_only_if_something_ran_and_all_of_it_passed(tmp_path: Path) -> None:
    assert report(tmp_path, record(tmp_path)).ok
    assert not report(tmp_path).ok
    assert not report(tmp_path, record(tmp_path), record(tmp_path, "error")).ok


def test_junit_counts_failures_and_errors_and_survives_control_characters(tmp_path: Path) -> None:
    failed = record(tmp_path, "failed", message="typed \x1b[<0;1;1M instead")
    made = report(tmp_path, record(tmp_path), failed, record(tmp_path, "error", message="QEMU died"))
    suite = ElementTree.parse(made.junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")


def test_the_timeline_shows_each_steps_share(tmp_path: Path) -> None:
    made = report(tmp_path, record(tmp_path))
    first, second = steps(made.timeline)
    assert (first["took"], second["took"]) == (2.0, 6.0)
    assert (second["left"], second["width"]) == (25.0, 75.0)
    assert "From power-on" in page(made)


def job(folder: Path, *, containers: list[EnvironmentFacts]) -> Job:
    kernel = Kernel(kernel=folder / "k", initrd=folder / "i", cmdline="")
    subject = Subject(name="demo", disk=folder / "disk", host=HOST, containers=containers, fast=kernel)
    return Job(subject=subject, tools=None, overlay=folder / "o", folder=folder)


def test_a_seat_without_sound_or_network_has_fewer_abilities(tmp_path: Path) -> None:
    quiet = WORK.model_copy(update={"sound": False, "network": False})
    assert job(tmp_path, containers=[quiet]).abilities == {"container", "volume", "x11"}
    assert job(tmp_path, containers=[]).abilities == {"x11"}


def test_a_seat_with_a_wayland_desktop_is_not_asked_about_x_servers(tmp_path: Path) -> None:
    sway = WORK.model_copy(update={"session": "sway", "wayland": True})
    assert "x11" not in job(tmp_path, containers=[sway]).abilities


def test_a_passphrase_is_handed_over_only_by_the_fast_route(tmp_path: Path) -> None:
    subject = job(tmp_path, containers=[WORK]).subject.model_copy(update={"passphrase": "secret"})
    fast = subject.model_copy(update={"full": False})
    assert "secret" not in {credential.value for credential in subject.credentials()}
    assert "secret" in {credential.value for credential in fast.credentials()}


@pytest.mark.parametrize(
    ("subject", "container", "asked"),
    [
        ({}, {}, True),
        ({"full": False}, {}, False),
        ({}, {"keyfile": True}, False),
        ({}, {"volume": False}, False),
    ],
    ids=["typed", "fast", "key file", "no volume"],
)
def test_a_volume_is_expected_to_ask_only_where_nobody_else_answers(
    tmp_path: Path, subject: dict[str, bool], container: dict[str, bool], asked: bool
) -> None:
    made = job(tmp_path, containers=[WORK.model_copy(update=container)])
    seat = made.subject.model_copy(update={"passphrase": "secret", **subject})
    assert ("asked" in made.model_copy(update={"subject": seat}).abilities) is asked


CHECKS = '''
import pytest
from builder.machine.errors import MachineDied, Unmet

@pytest.fixture
def seat():
    """Nothing is booted here."""

@pytest.mark.check("notices")
@pytest.mark.defect("host", "false")
def test_notices(seat):
    raise Unmet("the defect")

@pytest.mark.check("blind")
@pytest.mark.defect("host", "false")
def test_blind(seat):
    pass

@pytest.mark.check("broken")
@pytest.mark.defect("host", "false")
def test_broken(seat):
    {}["no such key"]

@pytest.mark.check("dead")
@pytest.mark.defect("host", "false")
def test_dead(seat):
    raise MachineDied("nothing was asked")

@pytest.mark.check("without")
def test_without_defect(seat):
    pass

@pytest.mark.check("long")
@pytest.mark.slow
@pytest.mark.defect("host", "false")
def test_long(seat):
    raise Unmet("noticed")
'''


def run(pytester: pytest.Pytester, folder: Path, **how: object) -> dict[str, str]:
    file = folder / "job.json"
    file.write_text(job(folder, containers=[WORK]).model_copy(update=how).model_dump_json())
    pytester.makepyfile(CHECKS)
    pytester.runpytest_subprocess(
        "-p", "builder.machine.plugin", "--boot-test-job", file, "-p", "no:terminal"
    )
    return {record.id: record.outcome for record in read_records(folder)}


def test_with_seeded_defects_only_a_check_that_notices_passes(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    outcomes = run(pytester, tmp_path, defects=True)
    failed = dict.fromkeys(("blind", "broken", "dead"), "failed")
    assert outcomes == {"notices": "passed", "long": "passed", **failed}


def test_without_defects_the_same_checks_are_judged_as_they_are(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    outcomes = run(pytester, tmp_path, quick=True)
    assert outcomes == {
        "notices": "failed",
        "blind": "passed",
        "broken": "failed",
        "dead": "failed",
        "without-defect": "passed",
    }


SEVERAL = """
import pytest

pytestmark = [
    pytest.mark.defect("host", "of shared devices", unless="strict"),
    pytest.mark.defect("guest", "of all"),
]

def test_of_the_file():
    pass

@pytest.mark.defect("host", "its own")
def test_of_itself():
    pass
"""


def test_of_several_defects_the_first_that_fits_the_seat_is_seeded(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers = defect")
    of_the_file, of_itself = pytester.getitems(SEVERAL)
    assert defect_of(of_the_file, {"container"}) == ("host", "of shared devices")
    assert defect_of(of_the_file, {"strict"}) == ("guest", "of all")
    assert defect_of(of_itself, {"container"}) == ("host", "its own")


def test_one_check_can_be_run_alone(pytester: pytest.Pytester, tmp_path: Path) -> None:
    assert run(pytester, tmp_path, only=("blind",)) == {"blind": "passed"}


def test_checks_whose_results_cannot_be_written_say_so_and_count_as_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_seat.py").write_text(CHECKS)
    monkeypatch.setattr(checks, "__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "checks").write_text("in the way")
    subject = job(tmp_path, containers=[WORK]).subject
    with pytest.raises(ProgramError, match=r"the checks exited with 3:[^$]*checks"):
        run_checks(subject, Tools(None), tmp_path, tmp_path / "overlay", tmp_path / "job.json", Wanted())


def test_an_unmet_promise_is_no_error_of_the_machine() -> None:
    assert issubclass(Unmet, AssertionError)


ORDERED = """
import pytest

@pytest.fixture
def seat():
    pass

@pytest.mark.restarted
@pytest.mark.slow
def test_after_restart(seat):
    pass

def test_short(seat):
    pass

@pytest.mark.slow
def test_long(seat):
    pass
"""


def test_long_checks_begin_first_and_those_that_need_a_restart_last(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    file = tmp_path / "job.json"
    file.write_text(job(tmp_path, containers=[WORK]).model_dump_json())
    pytester.makepyfile(ORDERED)
    said = pytester.runpytest_subprocess(
        *("-p", "builder.machine.plugin", "--boot-test-job", file, "--collect-only", "-q")
    )
    found = [line.rpartition("::")[2] for line in said.outlines if "::" in line]
    assert found == ["test_long", "test_short", "test_after_restart"]


def test_a_seat_with_two_containers_has_a_third_environment(tmp_path: Path) -> None:
    third = WORK.model_copy(update={"name": "guest", "vt": 9})
    assert "third" not in job(tmp_path, containers=[WORK]).abilities
    assert "third" in job(tmp_path, containers=[WORK, third]).abilities


def test_a_wait_is_longer_on_a_busy_machine_and_ends_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    for load, times in ((0.3, 1.0), (5.0, 2.5), (90.0, 4.0)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert slowness() == times
    began = time.monotonic()
    with pytest.raises(Unmet, match="the moon: not within"):
        until(lambda: False, "the moon", timeout=0.05, poll=0.01)
    assert 0.2 <= time.monotonic() - began < 5
