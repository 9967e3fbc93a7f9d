"""How long does an event take through the input broker, and how much processor does it take?

Natively, through sockets in place of devices: one process speaks as a mouse and reads what the environment
is told; the broker runs beside it as on a seat. The same way with nobody between stands beside it, so that
the difference is the broker's.
"""

import os
import resource
import select
import socket
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from builder.broker.codes import EV_REL, EVENT, REL_X, REL_Y, REPORT, Event
from builder.broker.real import packed
from builder.broker.terminal import ACTIVE, ActiveTerminal
from tests.support.brokerdesk import MOUSE, Desk

EVENTS = 3  # in a report: two axes and its end
RATES = (1000 // EVENTS, 1000)  # a thousand events, and a fast mouse's thousand reports, in a second
SECONDS = 5
WARM = 200  # reports that are not counted
REPORT_SIZE = EVENTS * EVENT.size
MOVED = packed((Event(EV_REL, REL_X, 2), Event(EV_REL, REL_Y, -1), REPORT))


class HereTerminal(ActiveTerminal):
    """Asks the kernel what it would on a seat, as dear as it is, and stays on the environment's terminal."""

    def __init__(self) -> None:
        super().__init__(ACTIVE if Path(ACTIVE).exists() else "/proc/sys/kernel/ostype")

    def moved(self) -> bool:
        super().moved()
        return False


def bench() -> list[tuple[str, str]]:
    rows = []
    for rate in RATES:
        direct, idle = measured(rate, pass_through=True)
        through, busy = measured(rate, pass_through=False)
        what = f"input, {rate * EVENTS} events/s in {rate} reports"
        added = at(through, 50) - at(direct, 50)
        worst = at(through, 99) - at(direct, 50)
        rows += [
            (f"{what}: nobody between", f"median {at(direct, 50):.0f} µs, p99 {at(direct, 99):.0f} µs"),
            (
                f"{what}: through the broker",
                f"median {at(through, 50):.0f} µs, p99 {at(through, 99):.0f} µs",
            ),
            (f"{what}: added", f"median {added:.0f} µs (limit 150), p99 {worst:.0f} µs (limit 1000)"),
            (f"{what}: of a core", f"{busy:.1%} (limit 2 %; a program that copies: {idle:.1%})"),
        ]
    return rows


def both(median: float, worst: float) -> str:
    return f"median {median:.0f} µs, p99 {worst:.0f} µs"


def at(times: list[float], percent: int) -> float:
    """Microseconds that so many percent of the reports took at most."""
    return statistics.quantiles(times, n=100)[percent - 1] * 1e6


def measured(rate: int, *, pass_through: bool) -> tuple[list[float], float]:
    """Seconds that each report took, and the other process's share of a core."""
    ours, theirs = socket.socketpair()
    sink, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    answer, question = get_context("fork").Pipe()
    run = copy if pass_through else broke
    other = get_context("fork").Process(
        target=run, args=(theirs, sink, question, reports(rate)), daemon=True
    )
    other.start()
    theirs.close()
    answer.recv()
    try:
        times = [one_report(ours, reader, tick) for tick in ticks(rate, answer)]
        answer.send("busy?")
        busy = answer.recv() / SECONDS
    finally:
        ours.close()
        other.join(10)
        other.kill()
    return times[WARM:], busy


def reports(rate: int) -> int:
    return rate * SECONDS + WARM


def ticks(rate: int, answer: Connection) -> list[float]:
    """When each report is due."""
    answer.send("begin")
    begin = time.monotonic() + 0.05
    return [begin + n / rate for n in range(reports(rate))]


def one_report(ours: socket.socket, reader: socket.socket, due: float) -> float:
    if (pause := due - time.monotonic()) > 0:
        time.sleep(pause)
    started = time.perf_counter()
    ours.send(MOVED)
    got = reader.recv(1 << 12)
    ended = time.perf_counter()
    assert len(got) == REPORT_SIZE, got
    return ended - started


def copy(source: socket.socket, sink: socket.socket, question: Connection, count: int) -> None:
    """Whoever would read the device itself: one read, no more."""

    def turn() -> None:
        sink.send(source.recv(1 << 12))

    serve(turn, question, count)


def broke(source: socket.socket, sink: socket.socket, question: Connection, count: int) -> None:
    """The broker, with the mouse and the reader of the environment in place of devices."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
    desk = Desk()
    source.setblocking(False)
    desk.broker.terminal = HereTerminal()
    desk.plug("mouse", MOUSE)
    os.dup2(source.fileno(), desk.broker.open["mouse"])
    desk.broker.poll.register(desk.broker.open["mouse"], select.EPOLLIN)
    os.dup2(sink.fileno(), desk.broker.clones.fds["work", "mouse"])
    serve(desk.turn, question, count)


def serve(turn: Callable[[], None], question: Connection, count: int) -> None:
    """Answer reports until somebody asks how much processor that took."""
    question.send("ready")
    question.recv()
    before = resource.getrusage(resource.RUSAGE_SELF)
    for _ in range(count):
        turn()
    after = resource.getrusage(resource.RUSAGE_SELF)
    question.recv()
    question.send(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
