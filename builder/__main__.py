"""What happens when ``seatsmith`` starts: parse, run, turn every error into a message and an exit code."""

import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from builder import ui
from builder.errors import ExitCode, InputError, SeatsmithError

PLACES = ("SEATSMITH_DIST", "XDG_CACHE_HOME", "XDG_STATE_HOME")  # variables that name one
WRONG = {  # what is said of a path that is not fit for use
    *(errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
}
INTERRUPTED = "interrupted; what was being made has been removed"


def main() -> None:
    """Entry point of the console script."""
    prepare_streams()
    for name in (signal.SIGTERM, signal.SIGHUP):  # both end a run as Ctrl-C does, so that it cleans up
        if signal.getsignal(name) is signal.SIG_DFL:
            signal.signal(name, signal.default_int_handler)
    sys.exit(run_cli(sys.argv[1:]))


def prepare_streams() -> None:
    """Read and write UTF-8 in any locale, escape what is no character, and do without a closed stream."""
    if sys.getfilesystemencoding() != "utf-8":  # of a locale such as de_DE.ISO-8859-1
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is None:
            setattr(sys, name, io.StringIO())
        else:
            stream.reconfigure(errors="backslashreplace")


def run_cli(argv: list[str]) -> int:
    """Run the command line; return its exit code. Only ``--debug`` lets a traceback through."""
    debug = "--debug" in argv
    if debug:
        logging.basicConfig(format="%(relativeCreated)7.0f ms %(name)s: %(message)s")
        logging.getLogger("builder").setLevel(logging.DEBUG)  # libraries would drown us
    try:
        from builder.quick import answered  # Ctrl-C may come while modules load, too

        if answered(argv):
            return int(ExitCode.OK)
        from builder.cli import app

        app(args=argv, prog_name="seatsmith", standalone_mode=True)
    except SystemExit as e:
        if e.code == ExitCode.INTERRUPTED:  # typer's answer to KeyboardInterrupt
            ui.current().error(INTERRUPTED)
        return e.code if isinstance(e.code, int) else int(bool(e.code))
    except SeatsmithError as e:
        if debug:
            logging.exception("seatsmith failed")
        ui.current().error(e.message, e.hint)
        return int(e.exit_code)
    except KeyboardInterrupt:
        ui.current().error(INTERRUPTED)
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.FAILURE)
    except Exception as e:
        if isinstance(e, OSError):
            from builder.files import machine_error

            if known := machine_error(e) or wrong_path(e, argv):
                ui.current().error(known.message, known.hint)
                return int(known.exit_code)
        if debug:
            raise
        ui.current().error(
            f"a defect in seatsmith: {type(e).__name__}: {e}",
            "please report it with the output of the same command with --debug",
        )
        return int(ExitCode.INTERNAL)
    return int(ExitCode.OK)


def wrong_path(error: OSError, argv: Sequence[str]) -> InputError | None:
    """The error a person is shown where a path that was given, or one above it, is not fit for use."""
    if error.errno not in WRONG or not isinstance(error.filename, str) or not Path(error.filename).parts:
        return None
    given = [Path(word.partition("=")[2] if word.startswith("--") else word) for word in argv]
    given += [Path(place) for name in PLACES if (place := os.environ.get(name))]
    wrong = Path(error.filename)
    below = isinstance(error, NotADirectoryError)  # names what was looked for below a file
    for path in given:
        if path.is_relative_to(wrong) or (below and wrong.is_relative_to(path)):
            return InputError(f"{wrong}: {error.strerror}", hint="check the path that was given")
        if wrong.parent == path.parent and wrong.name.startswith(f".{path.name}."):  # files.atomic_path
            return InputError(f"cannot make {path}: {error.strerror}", hint="check the path that was given")
    return None


if __name__ == "__main__":
    main()
