"""``seatsmith boot-test`` and ``seatsmith run``: start a seat in QEMU, for checks or for a person."""

from typing import Annotated

import typer

from builder.cli.output import show

Seat = Annotated[str, typer.Argument(help="The seat's name: a file below profiles/seats/, written before.")]
Host = Annotated[
    str | None,
    typer.Option(help="Environment to start as host: a line of the boot menu (default: its first)."),
]


def register(app: typer.Typer) -> None:
    app.command("boot-test")(boot_test)


def boot_test(
    seat: Seat,
    fast: Annotated[
        bool,
        typer.Option(
            "--fast", help="Without firmware, boot menu and typing: kernel and key are handed over."
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the checks that take a minute or more.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ID", help="Run this check alone.")
    ] = None,
    defects: Annotated[
        bool, typer.Option("--defects", help="Break something before each check; it passes if it notices.")
    ] = False,
    workers: Annotated[int, typer.Option("-n", "--workers", min=1, help="Virtual PCs at a time.")] = 1,
    host: Host = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Boot a written seat in QEMU, use it like a person, and check every promise on its screen.

    The report is dist/boot-tests/SEAT/report.html. Exit code 1 if a check failed.
    """
    import sys
    import tempfile
    from pathlib import Path

    from builder import ui
    from builder.machine.boottest import Wanted
    from builder.machine.boottest import boot_test as test
    from builder.machine.seatdisk import written_seat
    from builder.project import find_project
    from builder.tools import ensure_tools

    project, tools = find_project(), ensure_tools()
    wanted = Wanted(only=tuple(only or ()), quick=quick, workers=workers, defects=defects)
    name = f"{seat}-defects" if defects else seat
    with tempfile.TemporaryDirectory(prefix="seatsmith-kernel-") as folder:
        subject = written_seat(project, seat, tools, Path(folder), full=not fast, host=host)
        report = test(
            subject, tools, project.dist / "boot-tests" / name, wanted=wanted, say=ui.current().say
        )
    count = len(report.records)
    text = f"{count - len(report.failed)} of {count} passed; {report.page}"
    rows = [
        record.model_dump(include={"id", "title", "outcome", "message", "seconds"})
        for record in report.records
    ]
    show({"seat": seat, "ok": report.ok, "report": report.page, "checks": rows}, text, as_json=json)
    if not report.ok:
        sys.exit(1)
