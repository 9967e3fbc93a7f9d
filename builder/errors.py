"""Which errors can Seatsmith end with, and with which exit code?"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of ``seatsmith``; they are part of the interface (docs/exit-codes.md)."""

    OK = 0
    FAILURE = 1  # a check ran and its answer is no (images differ, a boot test failed)
    USAGE = 2  # the command line is wrong
    INPUT = 3  # a profile, seat file, lock or image that cannot be used as it is
    TRUST = 4  # a signature, key, digest or lock does not match
    TOOL = 5  # an external program failed
    MACHINE = 6  # this machine lacks something: a program, disk space, network, permission
    BUSY = 7  # somebody else is at it: another build, a mounted disk
    INTERNAL = 70  # a defect in Seatsmith
    INTERRUPTED = 130


class SeatsmithError(Exception):
    """An error a user is shown: what is wrong, and (``hint``) what to do about it.

    ``message`` is one line or a short block; ``hint`` is one sentence. Subclasses fix the exit code.
    """

    exit_code = ExitCode.FAILURE

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CheckFailed(SeatsmithError):
    exit_code = ExitCode.FAILURE


class UsageError(SeatsmithError):
    exit_code = ExitCode.USAGE


class InputError(SeatsmithError):
    exit_code = ExitCode.INPUT


class TrustError(SeatsmithError):
    exit_code = ExitCode.TRUST


class ToolError(SeatsmithError):
    exit_code = ExitCode.TOOL


class MachineError(SeatsmithError):
    exit_code = ExitCode.MACHINE


class BusyError(SeatsmithError):
    exit_code = ExitCode.BUSY
