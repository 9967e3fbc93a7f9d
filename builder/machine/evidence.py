"""What does a check leave for the report: outcome, times, pictures, logs, sound?"""

import contextlib
import shutil
import time
from pathlib import Path

from PIL import Image

from builder.machine.bench import SeatInTest
from builder.machine.desktop import Desktop
from builder.machine.errors import GuestError
from builder.report.record import CHECKS, PICTURES, SOUNDS, CheckRecord, Picture, Sound

EXCERPT = 40  # lines of the journal that a passed check shows
JOURNALS = "/var/lib/machines/*/var/log/journal"
PATIENCE = 10.0  # seconds for the agent to show that it can be asked for more


class Evidence:
    """Collects while a check runs. A dead machine gives no more evidence, and that is no further error."""

    def __init__(self, folder: Path, check: str, seat: SeatInTest) -> None:
        self.folder = folder
        self.seat = seat
        self.record = CheckRecord(id=check)
        self.began = time.monotonic()
        with contextlib.suppress(GuestError):
            seat.machine.look()  # a machine that dies before the check's first picture leaves this one

    def picture(self, caption: str) -> Path | None:
        """Keep what the screen shows now."""
        path = self.next_picture()
        try:
            self.seat.machine.screenshot(path)
        except GuestError:
            return None
        return self.keep(caption, path)

    def next_picture(self) -> Path:
        path = self.folder / f"{PICTURES}/{self.record.id}-{len(self.record.pictures) + 1}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep(self, caption: str, path: Path) -> Path:
        self.record.pictures.append(Picture(caption=caption, file=str(path.relative_to(self.folder))))
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
        """What the screen shows at the end; of a dead machine, what it showed when it was last looked at."""
        if self.picture("at the end") is not None:
            return
        for seen in self.seat.machine.files.looks:
            with contextlib.suppress(OSError):  # it may have died while it wrote the newest
                path = self.next_picture()
                Image.open(seen).save(path)
                self.keep("the last that was seen", path)
                return

    def excerpt(self) -> None:
        """What the host and its containers logged while the check ran."""
        seconds = time.monotonic() - self.began + 1
        journal = f"journalctl --no-pager -o short -n {EXCERPT} --since=-{seconds:.0f}s"
        theirs = f'for place in {JOURNALS}; do [ ! -d "$place" ] || {journal} --directory="$place"; done'
        with contextlib.suppress(GuestError):
            found = self.seat.host.shell.run(f"{journal}; {theirs}", timeout=20)
            self.record.logs["journal meanwhile"] = found.output

    def collect_logs(self) -> None:
        """What host and containers logged last, and the serial log."""
        self.record.logs["serial port"] = self.seat.machine.serial_log()[-4000:]
        with contextlib.suppress(GuestError):
            if self.seat.machine.agent.answers(PATIENCE):
                for desktop in self.seat.desktops:
                    self.collect_from(desktop)

    def collect_from(self, desktop: Desktop) -> None:
        logs, run = self.record.logs, desktop.shell.run
        logs[f"journal of {desktop.name}"] = desktop.shell.journal(80)
        logs[f"X server of {desktop.name}"] = run("tail -n 40 /var/log/Xorg.0.log", timeout=20).output
        logs[f"what {desktop.name} waits for"] = run("systemctl list-jobs --no-pager", timeout=20).output


def clear(folder: Path) -> None:
    """Remove what an earlier run left in its folder."""
    for name in (CHECKS, PICTURES, SOUNDS):
        shutil.rmtree(folder / name, ignore_errors=True)
