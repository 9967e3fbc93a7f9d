"""How fast is Seatsmith, beside the plain tools? `make bench` runs every bench_*.py here, for one table.

Each module has ``bench() -> list[tuple[str, str]]``: what was measured, and the figure. Ratios are of times
of the same run. ``make bench ARGS="image disk"`` runs those modules alone.
"""

import importlib
import os
import platform
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from builder.errors import SeatsmithError


def main(wanted: list[str]) -> int:
    found = sorted(p.stem.removeprefix("bench_") for p in Path(__file__).parent.glob("bench_*.py"))
    if unknown := [name for name in wanted if name not in found]:
        print(f"there is no bench {', '.join(unknown)}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    table = Table(title=f"Seatsmith on {os.cpu_count()} CPUs, Linux {platform.release()}")
    table.add_column("measured")
    table.add_column("result", justify="right")
    failed = 0
    for name in wanted or found:
        print(f"• {name} …", file=sys.stderr, flush=True)
        try:
            rows = importlib.import_module(f"tests.bench.bench_{name}").bench()
        except SeatsmithError as e:
            rows, failed = [(name, f"failed: {e.message.splitlines()[0]}")], failed + 1
        for what, result in rows:
            table.add_row(what, result)
        table.add_section()
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table, markup=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
