"""In which ways can a boot test go wrong, and which of them say something about the guest's promises?

``Unmet`` is the answer "no" to a question that a check asked. Everything below ``GuestError`` means that the
question could not be asked: the guest or QEMU is gone, or says nothing.
"""

from builder.errors import ExitCode, SeatsmithError


class Unmet(AssertionError):
    """The machine works, but what was expected of it did not come true."""


class GuestError(SeatsmithError):
    exit_code = ExitCode.TOOL


class MachineDied(GuestError):
    """QEMU ended or the guest panicked; ``reason`` says which and how."""

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(reason, hint=hint)
        self.reason = reason


class AgentSilent(GuestError):
    """The machine runs, but its command agent does not answer."""


class QemuRefused(GuestError):
    """QEMU answered a QMP command with an error."""
