"""What does a run of checks (and each of its worker processes) need to know?"""

from pathlib import Path

from pydantic import Field

from builder.machine.subject import Frozen, Subject


class Job(Frozen):
    """Written to a file by ``run_checks``, read by the pytest plugin."""

    subject: Subject
    tools: Path | None
    """Root of the tools tree; None: the host's own programs."""
    overlay: Path
    """The disk overlay with the ready snapshot."""
    folder: Path
    """Where evidence goes."""
    only: tuple[str, ...] = ()
    """Ids of the checks to run; empty: all."""
    quick: bool = False
    """Leave out what takes long."""
    defects: bool = False
    """Seed each check's defect first, and expect it to be noticed."""
    faults: dict[str, tuple[str, str]] = Field(default_factory=dict)
    """What happens before a check, by its id: ``host`` or ``guest``, and a command there."""

    @property
    def abilities(self) -> set[str]:
        """What this seat has that checks can be about."""
        containers = self.subject.containers
        have = {"container"} if containers else set()
        if len(containers) > 1:
            have.add("third")
        if any(facts.sound for facts in containers):
            have.add("sound")
        if any(facts.network for facts in containers):
            have.add("network")
        if any(facts.volume for facts in containers):
            have.add("volume")
        # the fast route hands the passphrase over for all volumes
        known = self.subject.full and self.subject.passphrase is not None
        if known and containers and containers[0].volume and not containers[0].keyfile:
            have.add("asked")
        if not any(facts.wayland for facts in self.subject.environments):
            have.add("x11")
        if any(facts.strict for facts in containers):
            have.add("strict")
        return have
