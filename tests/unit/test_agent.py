"""What does the machine's end of the agent's line say when the line breaks?"""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.machine import agent as module
from builder.machine.agent import Agent
from builder.machine.errors import AgentSilent, MachineDied


def closing(path: Path) -> None:
    """A QEMU whose end of the line is closed as soon as something is said on it."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        line, _ = server.accept()
        line.recv(1)
        line.close()

    threading.Thread(target=serve, daemon=True).start()


def ask(path: Path, alive: Callable[[], None]) -> None:
    closing(path)
    Agent(path, alive).run("true", timeout=20)


def test_a_qemu_that_is_gone_a_little_later_is_why_the_line_broke(tmp_path: Path) -> None:
    begun = time.monotonic()

    def alive() -> None:
        if time.monotonic() > begun + 1:
            raise MachineDied("QEMU ended: assertion failed")

    with pytest.raises(MachineDied, match="assertion"):
        ask(tmp_path / "agent", alive)


def test_a_line_that_breaks_while_qemu_lives_is_said_to_be_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DYING", 0.3)
    with pytest.raises(AgentSilent, match="line to the guest's agent"):
        ask(tmp_path / "agent", lambda: None)
