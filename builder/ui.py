"""How does a person see what is going on? Steps with times on a terminal, plain lines elsewhere."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

COMMANDS = frozenset(map(chr, (*range(32), *range(127, 160)))) - {"\n", "\t"}


class Meter(Protocol):
    """Counts the work of one step; ``advance`` may be called from any thread."""

    def advance(self, amount: int) -> None: ...


class Ui:
    """Plain lines on stderr: one when a step ends, and one every ten seconds while it is measured."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        if not self.quiet:
            print(printable(text), file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        print(printable(f"warning: {text}"), file=sys.stderr, flush=True)

    def error(self, text: str, hint: str | None = None) -> None:
        with contextlib.suppress(OSError):  # a full disk behind stderr must not change the exit code
            words = f"error: {text}" + (f"\nhint: {hint}" if hint else "")
            print(printable(words), file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def step(self, title: str, *, total: int | None = None, unit: str = "B") -> Iterator[Meter]:
        """Show one step of work; ``total`` (in bytes, or in ``unit`` pieces) makes it measurable."""
        started = time.monotonic()
        self.say(f"• {title} …")
        yield PlainMeter(self, title, total, unit)
        took = time.monotonic() - started
        if took >= 0.5:
            self.say(f"  {title}: {took:.1f} s")


class PlainMeter:
    EVERY = 10.0  # seconds between two lines

    def __init__(self, ui: Ui, title: str, total: int | None, unit: str) -> None:
        self.ui, self.title, self.total, self.unit = ui, title, total, unit
        self.done = 0
        self.last = time.monotonic()
        self.lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self.lock:
            self.done += amount
            now = time.monotonic()
            due = now - self.last >= self.EVERY
            if due:
                self.last = now
        if due:
            self.ui.say(f"  {self.title}: {amount_text(self.done, self.unit, self.total)}")


class RichUi(Ui):
    """Spinners and bars by rich, on a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        from rich.console import Console

        super().__init__(quiet=quiet)
        self.console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        if not self.quiet:
            self.console.print(printable(text), markup=False)

    def warn(self, text: str) -> None:
        self.console.print("warning:", style="bold yellow", end=" ")
        self.console.print(printable(text), markup=False)

    def error(self, text: str, hint: str | None = None) -> None:
        self.console.print("error:", style="bold red", end=" ")
        self.console.print(printable(text), markup=False)
        if hint:
            self.console.print("hint:", style="bold cyan", end=" ")
            self.console.print(printable(hint), markup=False)

    @contextlib.contextmanager
    def step(self, title: str, *, total: int | None = None, unit: str = "B") -> Iterator[Meter]:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        if self.quiet:
            yield NoMeter()
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
        if total is not None:
            columns[2:2] = [
                BarColumn(),
                DownloadColumn() if unit == "B" else TextColumn("{task.completed}/{task.total}"),
            ]
        from rich.markup import escape

        title = escape(printable(title))  # "[…]" in it is no markup
        started = time.monotonic()
        with Progress(*columns, console=self.console, transient=True) as progress:
            yield RichMeter(progress, progress.add_task(title, total=total))
        amount = f", {amount_text(total, unit)}" if total else ""
        self.console.print(f"[green]✓[/] {title} [dim]{time.monotonic() - started:.1f} s{amount}[/]")


class RichMeter:
    def __init__(self, progress: object, task: object) -> None:
        self.progress, self.task = progress, task

    def advance(self, amount: int) -> None:
        self.progress.advance(self.task, amount)  # type: ignore[attr-defined]


class NoMeter:
    def advance(self, amount: int) -> None:
        pass


def amount_text(done: int, unit: str, total: int | None = None) -> str:
    if unit != "B":
        return f"{done}" + (f" of {total} {unit}" if total else f" {unit}")
    return size_text(done) + (f" of {size_text(total)}" if total else "")


def size_text(size: int) -> str:
    """A size in bytes as people read it: ``1.5 GiB``."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def printable(text: str) -> str:
    """``text`` with what would command the terminal made visible (console_codes(4)): names of files in a
    container are its root's to choose, and are shown to the host's."""
    return "".join(c.encode("unicode_escape").decode() if c in COMMANDS else c for c in text)


def show(value: Any, text: str, *, as_json: bool, styled: bool = False) -> None:
    """Print a result on stdout: ``value`` as JSON, or ``text``, where it is ``styled`` with its colours."""
    if as_json:
        print(json.dumps(value, indent=2, default=str, ensure_ascii=False))
    else:
        print(text if styled else printable(text))


_current: ContextVar[Ui] = ContextVar("ui")


def current() -> Ui:
    """The user interface of this run: what the command line chose, or plain lines."""
    return _current.get(None) or Ui()


def use(ui: Ui) -> None:
    _current.set(ui)


def choose(*, quiet: bool) -> Ui:
    """Rich on a terminal, plain lines in CI, pipes and dumb terminals."""
    import os

    fancy = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
    return RichUi(quiet=quiet) if fancy else Ui(quiet=quiet)
