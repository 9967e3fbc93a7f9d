"""What does ``seatsmith installer run`` do? One session, again and again while a person wants to go on."""

import sys
from collections.abc import Sequence
from pathlib import Path

from builder import ui
from builder.cli.installer_session import Session, end
from builder.errors import SeatsmithError
from builder.installer.answers import Then
from builder.installer.disks import disk_paths


def run_command(stick: Path, disks: Sequence[Path] | None, *, power: bool) -> None:
    session = Session(stick, (lambda: disks) if disks else disk_paths)
    while True:
        try:
            then = session.run()
        except SeatsmithError as e:
            if not power or not sys.stdin.isatty():
                raise
            ui.current().error(e.message, e.hint)
            then = ask_after("Enter: begin again. off: switch off.")
            if then is Then.WAIT:
                continue
        else:
            if then is Then.WAIT and power:
                then = ask_after("The seat is made. Take the stick out. Enter: restart. off: switch off.")
                then = Then.REBOOT if then is Then.WAIT else then
        if power:
            end(then)
        return


def ask_after(question: str) -> Then:
    """Wait for a person; ``off`` switches off."""
    return Then.POWEROFF if input(f"{question} ").strip() == "off" else Then.WAIT
