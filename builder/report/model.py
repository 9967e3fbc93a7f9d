"""What does a boot test's report say?"""

from dataclasses import dataclass
from pathlib import Path

from builder.report.record import CheckRecord


@dataclass(frozen=True)
class Report:
    """A run: the boot's record first, then the checks'; ``timeline`` has the marks of the boot."""

    seat: str
    folder: Path
    records: list[CheckRecord]
    timeline: Path
    seconds: float | None = None
    """From the start to the end of the whole run."""
    kind: str = "Boot test"

    @property
    def took(self) -> str:
        """`` in 7 min 31 s``, or nothing where it is not known."""
        if self.seconds is None:
            return ""
        minutes, seconds = divmod(round(self.seconds), 60)
        return f" in {minutes} min {seconds:02d} s"

    @property
    def failed(self) -> list[CheckRecord]:
        return [record for record in self.records if record.outcome != "passed"]

    @property
    def ok(self) -> bool:
        return bool(self.records) and not self.failed

    @property
    def page(self) -> Path:
        return self.folder / "report.html"

    @property
    def junit(self) -> Path:
        return self.folder / "junit.xml"
