"""Does a seat that was made from nothing boot by its firmware and keep its promises on screen?

`make boot-test` asks a few things more, which take long, of other seats as well.
"""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

import pytest

from builder.report.record import CheckRecord
from tests.support.bootedseat import BootedSeat

CHECKS = (  # all that this seat can be asked, but for those that take a minute or more
    "device-database",
    "drm-master",
    "first-letters",
    "foreign-devices",
    "greeter",
    "input-stays",
    "keyboard-on-other-terminal",
    "keyboard-on-own-terminal",
    "monitor",
    "name-on-screen",
    "names",
    "network",
    "new-keyboard",
    "no-new-devices",
    "nothing-failed",
    "own-terminal",
    "pointer",
    "restart",
    "switches-under-load",
    "tone",
    "twenty-replugs",
    "twenty-switches",
    "volume-closes",
)
SEEDED = ("foreign-devices", "keyboard-on-own-terminal")
FILL = (
    "for size in 1G 64M 1M 4K; do n=0; while fallocate -l $size /full-$size-$n 2>/dev/null; "
    "do n=$((n+1)); done; done; true"
)
PANIC_AT_A_SWITCH = (
    "setsid -f sh -c 'cd /sys/class/tty/tty0; before=$(cat active); "
    'while [ "$(cat active)" = "$before" ]; do sleep 0.1; done; echo c >/proc/sysrq-trigger\''
)
FAULTS = {  # the check that meets it → where it happens, what
    "greeter": ("guest", FILL),
    "drm-master": ("guest", "pkill -STOP -x Xorg"),
    "twenty-switches": ("host", PANIC_AT_A_SWITCH),
}
BEGUN = "the-check-has-begun"
MUTE = "setsid -f sh -c 'sleep 2; systemctl kill --signal=STOP seatsmith-agent.service'"
REASONS = {
    "greeter": r"No space left|pam_chauthtok\(\) failed",
    "drm-master": "only master|brings",
    "twenty-switches": "panicked",
}


@pytest.fixture(scope="module")
def checked(booted: BootedSeat) -> dict[str, CheckRecord]:
    assert booted.boot.outcome == "passed", booted.boot.message
    records = booted.check()
    assert set(records) == set(CHECKS)
    return records


def test_a_seat_boots_by_firmware_menu_and_typed_passphrase_to_both_desktops(booted: BootedSeat) -> None:
    assert booted.boot.outcome == "passed", booted.boot.message
    captions = [picture.caption for picture in booted.boot.pictures]
    assert "the screen at the step: boot menu" in captions
    assert "the screen at the step: asked again after a wrong passphrase" in captions
    assert captions[-2:] == ["desktop of work", "desktop of private"]


@pytest.mark.parametrize("check", CHECKS)
def test_the_booted_seat_keeps_its_promise(check: str, checked: dict[str, CheckRecord]) -> None:
    record = checked[check]
    assert record.outcome == "passed", f"{record.title}: {record.message}"


def test_checks_notice_what_was_broken_on_purpose(booted: BootedSeat) -> None:
    seeded = booted.check(*SEEDED, defects=True)
    assert {record.id: record.outcome for record in seeded.values()} == dict.fromkeys(SEEDED, "passed")
    assert "/dev/vda" in " ".join(seeded["foreign-devices"].notes)


def test_checks_that_meet_a_fault_say_so_with_a_picture_and_the_next_one_runs(booted: BootedSeat) -> None:
    """A full disk, a wedged X server and a panic; the check after each begins from the ready state."""
    records = booted.check(*FAULTS, "tone", faults=FAULTS)
    for check, reason in REASONS.items():
        met = records[check]
        assert met.outcome == "failed"
        assert re.search(reason, met.message)
        assert met.pictures
        assert met.logs
    assert records["tone"].outcome == "passed", records["tone"].message


@pytest.mark.long
def test_a_check_whose_agent_falls_silent_says_so_with_a_picture_and_the_next_one_runs(
    booted: BootedSeat,
) -> None:
    records = booted.check("input-stays", "own-terminal", faults={"input-stays": ("host", MUTE)})
    met = records["input-stays"]
    assert met.outcome == "failed"
    assert "agent did not answer" in met.message
    assert met.pictures
    assert records["own-terminal"].outcome == "passed", records["own-terminal"].message


@pytest.mark.long
def test_a_check_whose_qemu_is_killed_says_so_and_the_next_one_runs(booted: BootedSeat) -> None:
    """The PC says on its serial console that the check has begun; it is killed three seconds later."""
    mark = ("host", f"echo {BEGUN} >/dev/ttyS0")
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill_once_begun, booted.subject.name)
        records = booted.check("twenty-switches", "own-terminal", faults={"twenty-switches": mark})
    assert killed.result(1)
    met = records["twenty-switches"]
    assert met.outcome == "failed"
    assert "signal 9" in met.message
    assert met.logs
    assert records["own-terminal"].outcome == "passed", records["own-terminal"].message


def kill_once_begun(name: str, patience: float = 300.0) -> bool:
    """Kill the QEMU in which ``BEGUN`` was said; False where none said it."""
    for _ in range(int(patience)):
        for process in machines(name):
            found = re.search(rb"file,id=serial,path=([^\0]+)", command_of(process))
            if found and BEGUN.encode() in Path(os.fsdecode(found[1])).read_bytes():
                time.sleep(3)
                os.kill(int(process.name), signal.SIGKILL)
                return True
        time.sleep(1)
    return False


def test_the_report_stands_by_itself_and_names_every_check(
    booted: BootedSeat, checked: dict[str, CheckRecord]
) -> None:
    report = booted.report(list(checked.values()))
    page = report.page.read_text()
    assert all(record.logs for record in checked.values())
    assert not re.search(r'(src|href)="(?!data:|pictures/|#)', page)
    assert page.count("data:image/png;base64,") == sum(len(r.pictures) for r in checked.values())
    cases = ElementTree.parse(report.junit).getroot().findall("testcase")
    assert {case.get("name") for case in cases} == set(CHECKS)


def test_nothing_of_a_machine_is_left_behind(booted: BootedSeat, checked: dict[str, CheckRecord]) -> None:
    assert machines(booted.subject.name) == []


def machines(name: str) -> list[Path]:
    """Processes of QEMU for a seat."""
    found = [(path, command_of(path)) for path in Path("/proc").glob("[0-9]*")]
    return [path for path, words in found if b"qemu-system" in words and os.fsencode(name) in words]


def command_of(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
