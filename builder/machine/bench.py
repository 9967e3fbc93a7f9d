"""How does each check get the ready seat within seconds, whatever the one before did to it?"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

from builder.machine.agent import slowness
from builder.machine.desktop import Desktop
from builder.machine.errors import GuestError
from builder.machine.machine import Machine
from builder.machine.ready import READY
from builder.machine.shell import ContainerShell
from builder.machine.subject import Subject
from builder.tools import Tools


class Bench:
    """One QEMU that is put back to the ready snapshot again and again, and started anew when it must be."""

    def __init__(self, subject: Subject, tools: Tools, overlay: Path) -> None:
        self.subject = subject
        self.hardware = subject.hardware()
        self.machine = Machine(tools, self.hardware, name=subject.name, overlay=overlay)
        self.states = {READY}
        self.stack = contextlib.ExitStack()
        self.dirty = True  # QEMU has to be started (again)

    def __enter__(self) -> Self:
        self.stack.enter_context(self.machine)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def fresh(self, state: str = READY) -> Machine:
        """The machine in its ready state, or in another that ``keep`` has kept, if it still has that."""
        state = state if state in self.states else READY
        if not self.dirty and self.machine.as_started and self.machine.hardware is self.hardware:
            with contextlib.suppress(GuestError):
                self.machine.load_snapshot(state)
                if self.machine.agent.answers(20.0 * slowness()):
                    return self.machine
        self.machine.crash()
        self.machine.hardware = self.hardware
        self.machine.renew_disk()
        self.states = {READY}
        self.machine.start(paused=True)
        self.machine.load_snapshot(READY)
        self.machine.wait_for_agent()
        self.dirty = False
        return self.machine

    def keep(self, state: str) -> None:
        """Keep the machine's present state, for later checks of this process to start from."""
        if self.machine.as_started:
            self.machine.save_snapshot(state)
            self.states.add(state)


class SeatInTest:
    """What a check is given: the machine and its desktops by name."""

    def __init__(
        self, machine: Machine, subject: Subject, keep: Callable[[str], None] = lambda state: None
    ) -> None:
        self.machine = machine
        self.subject = subject
        self.keep = keep
        self.host = Desktop(machine, machine.host, subject.host)
        self.containers = [
            Desktop(machine, machine.container(facts.name), facts) for facts in subject.containers
        ]

    def restart_guest(self) -> None:
        """Restart the first container while the host is on screen, and wait until its desktop is back."""
        self.host.switch_to()
        self.host.shell.succeed(f"systemctl restart systemd-nspawn@{self.guest.name}.service", timeout=180)
        self.guest.wait_until_up(timeout=180)

    @property
    def desktops(self) -> list[Desktop]:
        return [self.host, *self.containers]

    @property
    def guest_shell(self) -> ContainerShell:
        """The first container's command line, which can also run things under the container's limits."""
        return self.machine.container(self.guest.name)

    @property
    def guest(self) -> Desktop:
        """The first container: what a check about "the container" is about."""
        return self.containers[0]
