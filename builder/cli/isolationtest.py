"""``seatsmith isolation-test``: root in each container tries to reach the rest of a seat in QEMU."""

from typing import Annotated

import typer

from builder.cli.boottest import Host, seat_and_tools
from builder.cli.output import show
from builder.cli.shell_names import complete_seat


def register(app: typer.Typer) -> None:
    app.command("isolation-test")(isolation_test)


def isolation_test(
    seat: Annotated[
        str,
        typer.Argument(
            help="The seat's name: a file below profiles/seats/, written before.",
            autocompletion=complete_seat,
        ),
    ],
    full: Annotated[
        bool,
        typer.Option("--full", help="Boot by firmware, menu and typed passphrase, not by the fast route."),
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ROW", help="Try this row alone; may be repeated.")
    ] = None,
    host: Host = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Boot a written seat in QEMU and try, as root in each container, what its isolation should prevent.

    Each attempt has a control that shows that it could have worked. The report is
    dist/isolation-tests/SEAT/report.html. Exit code 1 if something is open that the mode promises to close,
    or if something could not be proven.
    """
    from builder import ui
    from builder.errors import UsageError
    from builder.isolation.isolationtest import isolation_test as test
    from builder.isolation.results import entry, table
    from builder.isolation.rows import BY_ID, ROWS
    from builder.isolation.verdict import Verdict
    from builder.project import find_project

    if unknown := set(only or ()) - set(BY_ID):
        raise UsageError(
            f"no row is called {' or '.join(sorted(unknown))}", hint="docs/isolation-test.md lists them"
        )
    rows = [row for row in ROWS if not only or row.id in only]
    with seat_and_tools(seat, full=full, host=host) as (subject, tools):
        if not subject.containers:
            raise UsageError(f"{seat} has no containers beside {subject.host.name}")
        folder = find_project().dist / "isolation-tests" / subject.name
        tested = test(subject, tools, folder, rows=rows, say=ui.current().say)
    entries = [entry(result) for result in tested.results]
    counts = {verdict: sum(one.verdict is verdict for one in entries) for verdict in Verdict}
    promised = sum(one.verdict is Verdict.OPEN and one.kept for one in entries)
    totals = f"{counts[Verdict.BLOCKED]} blocked, {counts[Verdict.OPEN]} open"
    totals += f" ({promised} of them as documented)" if promised else ""
    totals += f", {counts[Verdict.NOT_PROVEN]} not proven{tested.report.took}; {tested.report.page}"
    text = f"{table(tested.results)}\n\n{totals}" if tested.results else totals
    shown = [
        {
            **one.result.model_dump(include={"environment", "row"}),
            **one.model_dump(include={"verdict", "promised", "kept"}),
        }
        for one in entries
    ]
    show(
        {"seat": subject.name, "ok": tested.report.ok, "report": tested.report.page, "rows": shown},
        text,
        as_json=json,
        styled=True,
    )
    if not tested.report.ok:
        raise typer.Exit(1)
