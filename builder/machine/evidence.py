"""What does a check leave for the report: outcome, times, pictures, logs, sound?"""

import contextlib
import shutil
from pathlib import Path

from builder.machine.bench import SeatInTest
from builder.machine.errors import GuestError
from builder.machine.shell import Shell
from builder.report.record import CHECKS, PICTURES, SOUNDS, CheckRecord, Picture, Sound


class Evidence:
    """Collects while a check runs. A dead machine gives no more evidence, and that is no further error."""

    def __init__(self, folder: Path, check: str, seat: SeatInTest) -> None:
        self.folder = folder
        self.seat = seat
        self.record = CheckRecord(id=check)

    def picture(self, caption: str) -> Path | None:
        """Keep what the screen shows now."""
        name = f"{PICTURES}/{self.record.id}-{len(self.record.pictures) + 1}.png"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.seat.machine.screenshot(path)
        except GuestError:
            return None
        self.record.pictures.append(Picture(caption=caption, file=name))
        return path

    def note(self, text: str) -> None:
        """A line of plain words: a figure, or what was seen."""
        self.record.notes.append(text)

    def sound(self, caption: str, since: int) -> None:
        """Keep what the sound card played since a mark."""
        from builder.machine import audio

        tone = audio.listen(self.seat.machine.files.audio, since)
        name = f"{SOUNDS}/{self.record.id}-{len(self.record.sounds) + 1}.wav"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.clip(self.seat.machine.files.audio, since, path)
        self.record.sounds.append(
            Sound(
                caption=caption,
                file=name,
                frequency=tone.frequency if tone else 0.0,
                purity=tone.purity if tone else 0.0,
            )
        )

    def last_look(self) -> None:
        self.picture("at the end")

    def collect_logs(self) -> None:
        """What host and containers logged last, and the serial log."""
        self.record.logs["serial port"] = self.seat.machine.serial_log()[-4000:]
        for desktop in self.seat.desktops:
            with contextlib.suppress(GuestError):
                self.record.logs[f"journal of {desktop.name}"] = last_lines(desktop.shell)
                log = desktop.shell.run("tail -n 40 /var/log/Xorg.0.log", timeout=20).output
                self.record.logs[f"X server of {desktop.name}"] = log
                jobs = desktop.shell.run("systemctl list-jobs --no-pager", timeout=20).output
                self.record.logs[f"what {desktop.name} waits for"] = jobs


def last_lines(shell: Shell) -> str:
    return shell.journal(80)


def clear(folder: Path) -> None:
    """Remove what an earlier run left in its folder."""
    for name in (CHECKS, PICTURES, SOUNDS):
        shutil.rmtree(folder / name, ignore_errors=True)
