"""Was it blocked, is it open, or is nothing proven: what follows from an attempt and its control?"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from builder.isolation.rows import Promise, Row

DONE, REFUSED, ABSENT = "done", "refused", "absent"  # as probe/calls.py says it


class Verdict(StrEnum):
    BLOCKED = "blocked"
    """It was tried and refused, and the same attempt works where nothing stands in its way."""
    OPEN = "open"
    NOT_PROVEN = "not proven"
    """It came to nothing, and nobody knows whether the attempt could have worked at all."""


class Loose(BaseModel):
    """What a program in the container said: of unknown keys nothing is taken."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Try(Loose):
    """One way of an attempt."""

    how: str
    outcome: str
    said: str = ""
    picture: str | None = None
    """A PNG in base64: what it read off the screen."""

    @property
    def line(self) -> str:
        return f"{self.how}: {self.outcome}{f' ({self.said})' if self.said else ''}"


class Attempt(Loose):
    """What came of one row, in the container or as its control on the host."""

    tries: list[Try] = Field(default_factory=list)
    heard: list[str] | None = None
    """By the rows that listen: what each device said."""
    arrived: bool | None = None
    """By the rows whose word has to arrive: whether it did. None: such a word is not what counts."""
    absent: str = ""
    problem: str = ""
    """Why the prober itself failed."""
    seconds: float = 0.0

    @property
    def made(self) -> bool:
        """Whether anything could be tried, and was."""
        return any(one.outcome != ABSENT for one in self.tries)

    @property
    def succeeded(self) -> bool:
        if self.arrived is not None:
            return self.arrived
        return any(one.outcome == DONE for one in self.tries)

    @property
    def refusals(self) -> str:
        """With which errors it was refused, most frequent first."""
        said = [one.said.split(",")[0] for one in self.tries if one.outcome == REFUSED]
        names = sorted(set(said), key=lambda name: (-said.count(name), name))
        return ", ".join(names[:3]) or ("nothing arrives" if self.arrived is False else "")


def listened(attempt: Attempt, secret: str) -> Attempt:
    """An attempt that listened has succeeded if it heard the secret; any other text proves less."""
    return attempt.model_copy(update={"arrived": any(secret in text for text in attempt.heard or [])})


def tried_again(first: Attempt, more: Attempt, proof: Attempt, where: str) -> Attempt:
    """An attempt that was made a second time, elsewhere: it has succeeded where it did in either place.

    ``proof`` is the control of the second time. Where that one came to nothing, nothing is proven.
    """
    tries = [one.model_copy(update={"how": f"{where}: {one.how}"}) for one in more.tries]
    arrived = None if first.arrived is None else bool(first.arrived or more.arrived)
    failed = "" if proof.succeeded else f"{where} the control comes to nothing"
    return first.model_copy(
        update={
            "tries": [*first.tries, *tries],
            "heard": [*first.heard, *(more.heard or [])] if first.heard is not None else None,
            "arrived": arrived,
            "problem": first.problem or more.problem or failed,
            "seconds": first.seconds + more.seconds,
        }
    )


class Result(BaseModel):
    """A row in one environment."""

    environment: str
    strict: bool
    row: str
    group: str
    title: str
    attempt: Attempt
    control: Attempt

    @property
    def verdict(self) -> Verdict:
        return judge(self.attempt, self.control)

    def kept(self, row: Row) -> bool:
        """Whether the mode of isolation keeps its promise; never where nothing is proven."""
        if self.verdict is Verdict.OPEN:
            return row.promise(strict=self.strict) is Promise.OPEN
        return self.verdict is Verdict.BLOCKED


def judge(attempt: Attempt, control: Attempt) -> Verdict:
    """An attempt that succeeded proves itself; one that failed is worth what its control is worth."""
    if attempt.succeeded:
        return Verdict.OPEN
    if attempt.problem or not attempt.made:
        return Verdict.NOT_PROVEN
    return Verdict.BLOCKED if control.succeeded else Verdict.NOT_PROVEN
