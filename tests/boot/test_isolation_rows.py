"""Does root in a container reach what its mode promises to close? A few rows of the isolation test."""

from pathlib import Path

from builder.isolation.isolationtest import probe_ready
from builder.isolation.rows import BY_ID
from builder.isolation.verdict import Verdict
from tests.support.bootedseat import BootedSeat

CLOSED = (
    "framebuffer",
    "disks",
    "volumes",
    "process-read",
    "keyring",
    "abstract-sockets",
    "modules",
    "udev-message",
)
BY_MODE = ("screen-getfb", "text-picture", "screen-behind", "shift-keys", "core-pattern", "debugfs")


def test_root_in_the_container_reaches_nothing_that_its_mode_closes_and_each_control_works(
    booted: BootedSeat, tmp_path: Path
) -> None:
    assert booted.boot.outcome == "passed", booted.boot.message
    rows = [BY_ID[name] for name in (*CLOSED, *BY_MODE)]
    records, results = probe_ready(booted.subject, booted.tools, booted.overlay, tmp_path, rows=rows)
    assert [record.message for record in records if record.outcome != "passed"] == []
    verdicts = {result.row: result.verdict for result in results}
    by_mode = Verdict.BLOCKED if results[0].strict else Verdict.OPEN
    assert verdicts == dict.fromkeys(CLOSED, Verdict.BLOCKED) | dict.fromkeys(BY_MODE, by_mode)
    assert [result.row for result in results if not result.control.succeeded] == []
