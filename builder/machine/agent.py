"""How does a test run a command as root inside the guest?

A shell loop in the guest (guest_agent.bash) answers on a virtio-serial port. It is not part of any image:
the machine hands it over as systemd credentials when a test boots (credentials.py).
"""

import base64
import binascii
import contextlib
import itertools
import os
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builder.machine.errors import AgentSilent

PORT = "org.seatsmith.agent.0"
RESEND = 5.0
OVERTIME = 124  # exit status of a command that took too long, as timeout(1) has it
PATIENCE = 20.0  # seconds an answer may come late, beyond the time the command itself may take
SLOWEST = 4.0
DYING = 10.0  # seconds for a QEMU that crashed to be gone: its core is written first


def slowness() -> float:
    """How many times longer than on an idle machine things may take now."""
    return min(SLOWEST, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


@dataclass(frozen=True)
class Answer:
    """What a command in the guest left: its exit status and both its outputs, together."""

    status: int
    output: str


class Agent:
    """The machine's end of the agent's line."""

    def __init__(self, path: Path, alive: Callable[[], None]) -> None:
        self.alive = alive
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self.socket.connect(str(path))
        self.socket.setblocking(False)
        self.buffer = b""
        # the word is new in every process: an answer from before a snapshot was loaded is not taken for ours
        self.ids = (f"{os.getpid():x}.{time.monotonic_ns():x}.{n}" for n in itertools.count())

    def run(self, command: str, *, timeout: float = 60.0) -> Answer:
        """Run ``command`` by bash. A command that takes too long ends with status 124.

        Raises AgentSilent where no answer comes, MachineDied where none can come any more.
        """
        ident = next(self.ids)
        line = f"\n{ident} {timeout:g} {base64.b64encode(command.encode()).decode()}\n".encode()
        deadline = time.monotonic() + timeout + PATIENCE * slowness()
        self._send(line, deadline)
        while True:
            answer = self._receive(deadline)
            if answer[:1] == [ident] and len(answer) == 3:
                try:
                    data = b"" if answer[2] == "-" else base64.b64decode(answer[2], validate=True)
                    return Answer(int(answer[1]), data.decode(errors="replace"))
                except (binascii.Error, ValueError) as e:
                    raise AgentSilent(f"the guest's agent answered what nobody can read: {e}") from e

    def answers(self, within: float) -> bool:
        """Whether a trivial command is answered within so many seconds."""
        deadline = time.monotonic() + within
        sent = set()
        while time.monotonic() < deadline:
            # the port forgets what came before the guest opened it; a slow guest may answer an earlier one
            ident = next(self.ids)
            sent.add(ident)
            turn = min(deadline, time.monotonic() + RESEND)
            with contextlib.suppress(AgentSilent):
                self._send(f"\n{ident} 5 {base64.b64encode(b':').decode()}\n".encode(), turn)
                while True:
                    answer = self._receive(turn)
                    if answer and answer[0] in sent:
                        return True
        return False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()

    def _send(self, data: bytes, deadline: float) -> None:
        while data:
            self._wait(writing=True, deadline=deadline)
            try:
                sent = self.socket.send(data)
            except BlockingIOError:
                continue
            except OSError as e:
                raise self._broken(f"the line to the guest's agent broke: {e.strerror}") from e
            data = data[sent:]

    def _receive(self, deadline: float) -> list[str]:
        """The words of the next line."""
        while b"\n" not in self.buffer:
            self._wait(writing=False, deadline=deadline)
            try:
                data = self.socket.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError as e:
                raise self._broken(f"the line to the guest's agent broke: {e.strerror}") from e
            if not data:
                raise self._broken("QEMU closed the line to the guest's agent")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode(errors="replace").split()

    def _broken(self, problem: str) -> AgentSilent:
        """What to raise for a line that broke. A QEMU that crashed closes its sockets before it is gone:
        then MachineDied says with which words it went."""
        deadline = time.monotonic() + DYING
        while time.monotonic() < deadline:
            self.alive()
            time.sleep(0.1)
        return AgentSilent(problem)

    def _wait(self, *, writing: bool, deadline: float) -> None:
        ends = [self.socket]
        while True:
            self.alive()
            ready = select.select([] if writing else ends, ends if writing else [], [], 0.1)
            if ready[0] or ready[1]:
                return
            if time.monotonic() > deadline:
                raise AgentSilent(
                    "the guest's agent did not answer in time",
                    hint="the serial log and the last screenshot show what the guest was doing",
                )
