"""How does a test talk to a program as a person does? At a pseudo-terminal, waiting for words."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

PATIENCE = 300.0


class Talk:
    """One run of ``seatsmith`` at a terminal of its own."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        self.said = ""
        self.master, slave = pty.openpty()
        argv = [sys.executable, "-m", "builder", *words]
        self.process = subprocess.Popen(
            argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def answer(self, question: str, text: str) -> None:
        """Wait for a question (a regular expression) since the last one; type the answer."""
        self.wait_for(question)
        self.said = ""
        os.write(self.master, f"{text}\n".encode())

    def wait_for(self, pattern: str) -> None:
        until = time.monotonic() + PATIENCE
        while not re.search(pattern, self.said):
            assert time.monotonic() < until, f"{pattern!r} was not said, but: {self.said}"
            assert self.read(), f"it ended without {pattern!r}: {self.said}"

    def end(self) -> int:
        """Wait for the end; the exit status."""
        until = time.monotonic() + PATIENCE
        while self.read():
            assert time.monotonic() < until, f"it does not end: {self.said}"
        return self.process.wait(PATIENCE)

    def read(self) -> bool:
        """Take in what was said within a second; False after the end."""
        if select.select([self.master], [], [], 1.0)[0]:
            try:
                data = os.read(self.master, 4096)
            except OSError:  # EIO: the other side is closed
                return False
            self.said += data.decode(errors="replace")
            return bool(data)
        return True
