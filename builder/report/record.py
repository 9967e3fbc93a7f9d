"""What is kept of one check: outcome, times, pictures, logs, sound?"""

from pathlib import Path

from pydantic import BaseModel, Field

from builder.files import write_atomic

CHECKS = "checks"
PICTURES = "pictures"
SOUNDS = "sounds"


class Picture(BaseModel):
    caption: str
    file: str
    """Relative to the run's folder."""


class Sound(BaseModel):
    caption: str
    file: str
    frequency: float
    purity: float


class CheckRecord(BaseModel):
    """One check's result."""

    id: str
    title: str = ""
    group: str = ""
    outcome: str = "unknown"
    """passed, failed (the answer is no) or error (it could not be asked)."""
    message: str = ""
    setup: float = 0.0
    """Seconds until the seat was ready for it."""
    seconds: float = 0.0
    pictures: list[Picture] = Field(default_factory=list)
    sounds: list[Sound] = Field(default_factory=list)
    logs: dict[str, str] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)

    def write(self, folder: Path) -> None:
        write_atomic(folder / CHECKS / f"{self.id}.json", self.model_dump_json(indent=1))
