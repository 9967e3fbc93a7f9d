"""``seatsmith boot-test`` and ``seatsmith run``: start a seat in QEMU, for checks or for a person."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.output import show
from builder.cli.shell_names import complete_seat

if TYPE_CHECKING:
    from builder.machine.subject import Subject
    from builder.tools import Tools

Seat = Annotated[
    str,
    typer.Argument(
        help="The seat's name: a file below profiles/seats/, written before.", autocompletion=complete_seat
    ),
]
Host = Annotated[
    str | None, typer.Option(help="Start this environment as host (default: the boot menu's first).")
]
Fast = Annotated[
    bool, typer.Option("--fast", help="Skip firmware, menu and prompt: hand over kernel and passphrase.")
]


def register(app: typer.Typer) -> None:
    app.command("boot-test")(boot_test)
    app.command("run")(run)


@contextmanager
def seat_and_tools(seat: str, *, full: bool, host: str | None) -> Iterator[tuple["Subject", "Tools"]]:
    """The written seat, with its kernel unpacked for as long as it is used."""
    from builder.machine.places import private_directory
    from builder.machine.seatdisk import written_seat
    from builder.project import find_project
    from builder.tools import ensure_tools

    tools = ensure_tools()
    with private_directory("kernel") as folder:
        yield written_seat(find_project(), seat, tools, folder, full=full, host=host), tools


@contextmanager
def seat_around(profile: str, *, full: bool) -> Iterator[tuple["Subject", "Tools"]]:
    """A seat made up for one profile, written now."""
    from builder.machine.places import private_directory
    from builder.machine.seatdisk import written_seat
    from builder.machine.tryseat import seat_name, try_project, write_try_seat
    from builder.project import find_project
    from builder.tools import ensure_tools

    tools = ensure_tools()
    with private_directory("try") as folder:
        project = try_project(find_project(), profile, folder / "project")
        write_try_seat(project, profile)
        yield written_seat(project, seat_name(profile), tools, folder, full=full), tools


def boot_test(
    seat: Annotated[
        str | None,
        typer.Argument(help="The seat's name: a file below profiles/seats/.", autocompletion=complete_seat),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Instead of a seat: make one up around this profile's image.")
    ] = None,
    fast: Fast = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the checks that take a minute or more.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ID", help="Run this check alone; may be repeated.")
    ] = None,
    defects: Annotated[
        bool, typer.Option("--defects", help="Break something before each check; it passes if it notices.")
    ] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Bring the seat up and give a Python prompt instead.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", "-n", min=1, help="Virtual PCs at a time.")] = 2,
    host: Host = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Boot a written seat in QEMU, use it like a person, and check every promise on its screen.

    The report is dist/boot-tests/SEAT/report.html. Exit code 1 if a check failed.
    """
    from builder import ui
    from builder.errors import UsageError
    from builder.machine.attend import converse
    from builder.machine.boottest import Wanted
    from builder.machine.boottest import boot_test as test
    from builder.project import find_project

    say = ui.current().say
    if seat is not None and profile is None:
        place = seat_and_tools(seat, full=not fast, host=host)
    elif profile is not None and seat is None and host is None:
        place = seat_around(profile, full=not fast)
    else:
        raise UsageError("give either a seat or --profile", hint="for example: seatsmith boot-test demo")
    with place as (subject, tools):
        if interactive:
            converse(subject, tools, say=say)
            raise typer.Exit
        folder = (
            find_project().dist / "boot-tests" / (f"{subject.name}-defects" if defects else subject.name)
        )
        wanted = Wanted(only=tuple(only or ()), quick=quick, workers=workers, defects=defects)
        report = test(subject, tools, folder, wanted=wanted, say=say)
    count = len(report.records)
    text = f"{count - len(report.failed)} of {count} passed{report.took}; {report.page}"
    rows = [record.model_dump(include={"id", "title", "outcome", "message"}) for record in report.records]
    show({"seat": subject.name, "ok": report.ok, "report": report.page, "checks": rows}, text, as_json=json)
    if not report.ok:
        raise typer.Exit(1)


def run(seat: Seat, fast: Fast = False, host: Host = None) -> None:
    """Boot a written seat in QEMU for a person: over VNC on loopback, and nothing is kept."""
    from builder import ui
    from builder.machine.attend import attend

    with seat_and_tools(seat, full=not fast, host=host) as (subject, tools):
        attend(subject, tools, say=ui.current().say)
