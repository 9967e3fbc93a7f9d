"""Which keystrokes does it hear, on everything that it can open, while somebody types elsewhere?"""

import contextlib
import errno
import json
import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .calls import ABSENT, DONE, REFUSED, Absent, Context
from .keyboard import given, hidraws, others, pressed_letters, reported_letters
from .nodes import Opener, fixed, opened, terminal, ways
from .terminals import heard_in_front

STOP = Path("/run/seatsmith-probe-stop")
LONGEST = 90.0
Decoder = Callable[[bytes], str]


@dataclass
class Source:
    """One device that is listened at; ``fd`` is None where it could not be opened."""

    row: str
    how: str
    decode: Decoder
    fd: int | None = None
    said: str = ""
    absent: bool = False
    data: bytes = b""

    @property
    def heard(self) -> str:
        return self.decode(self.data)

    def entry(self) -> dict[str, Any]:
        outcome = ABSENT if self.absent else DONE if self.heard else REFUSED
        opened_but = "opens, and says nothing" if self.fd is not None else self.said
        return {
            "how": self.how,
            "outcome": outcome,
            "said": f"heard {self.heard!r}" if self.heard else opened_but,
        }


def plain(data: bytes) -> str:
    return "".join(character for character in data.decode(errors="replace") if character.isprintable())


def sources(context: Context, rows: list[str]) -> Iterator[tuple[str, str, Decoder, Opener]]:
    """Row, way, how to read it, and how to open it."""
    if "keys-given" in rows:
        for path in given():
            yield "keys-given", f"read {path}", pressed_letters, partial(opened, path)
    if "keys-made" in rows:
        for node in others(context):
            for how, opener in ways(context, node):
                yield "keys-made", how, pressed_letters, opener
    if "keys-front" in rows:
        for path in given():
            yield "keys-front", f"read {path} in front", pressed_letters, partial(opened, path)
        yield "keys-front", "read its terminal in front", plain, lambda _: heard_in_front(context)
    if "keys-hidraw" in rows:
        for node in hidraws(context):
            for how, opener in ways(context, node):
                yield "keys-hidraw", how, reported_letters, opener
    if "keys-terminal" in rows:
        for node in (fixed("/dev/tty0", 4, 0), terminal(context.text_vt)):
            for how, opener in ways(context, node):
                yield "keys-terminal", how, plain, opener


def open_all(context: Context, rows: list[str]) -> list[Source]:
    found: list[Source] = []
    try:
        for row, how, decode, opener in sources(context, rows):
            if row == "keys-terminal" and any(s.row == row and s.fd is not None for s in found):
                continue  # several readers of a terminal take the letters from each other
            source = Source(row, how, decode)
            try:
                source.fd = opener(os.O_RDONLY)
            except OSError as e:
                source.said = errno.errorcode.get(e.errno or 0, str(e))
            found.append(source)
    except Absent as e:
        found.append(Source("keys-hidraw", "look for hidraw devices", plain, said=str(e), absent=True))
    return found


def listen(context: Context, rows: list[str]) -> dict[str, Any]:
    """Listen until STOP is there. A line ``ready`` on stdout says when it has begun."""
    STOP.unlink(missing_ok=True)
    found = open_all(context, rows)
    print(json.dumps("ready"), flush=True)
    by_fd = {source.fd: source for source in found if source.fd is not None}
    deadline = time.monotonic() + LONGEST
    while time.monotonic() < deadline:
        ending = STOP.exists()
        for fd in select.select(list(by_fd), [], [], 0.1)[0]:
            try:
                data = os.read(fd, 4096)
            except BlockingIOError:
                continue
            except OSError:  # it was unplugged
                data = b""
            if data:
                by_fd[fd].data += data
            else:
                del by_fd[fd]
        if ending:
            break
    with contextlib.suppress(OSError):
        STOP.unlink()
    return {
        row: {
            "tries": [s.entry() for s in found if s.row == row],
            "heard": [s.heard for s in found if s.row == row],
        }
        for row in rows
    }
