"""How does a person use a written seat in QEMU? Over VNC on loopback, and nothing is kept."""

import code
import contextlib
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from builder.errors import MachineError
from builder.machine.bench import SeatInTest
from builder.machine.errors import MachineDied
from builder.machine.hardware import Firmware
from builder.machine.machine import Machine
from builder.machine.ready import bring_up, leave_passphrase, ready_machine
from builder.machine.subject import Subject
from builder.tools import Tools

FIRST_PORT = 5900  # VNC display 0
PORTS = 100
BANNER = """\
machine    the PC: type_text("…"), send_key("ctrl-alt-f8"), screenshot(Path("x.png")), plug("keyboard"), …
host       the host's desktop; host.shell.succeed("…") runs a command there as root
guest      the first container's desktop; seat.containers has all of them
Everything is thrown away at the end (Ctrl-D)."""


def free_display() -> int:
    """A VNC display number that nobody listens at."""
    for number in range(PORTS):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", FIRST_PORT + number))
            return number
    raise MachineError(f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1} are all taken")


def display_arguments(number: int) -> tuple[str, ...]:
    return ("-display", "none", "-vnc", f"127.0.0.1:{number}")


def instructions(subject: Subject, number: int) -> str:
    """What a person needs to know to use the seat."""
    lines = [
        f"Connect a VNC viewer to 127.0.0.1:{FIRST_PORT + number}: vncviewer 127.0.0.1:{number}",
        "Keys in its window (its menu, often F8, sends those that your own desktop would take):",
        *(f"  Ctrl+Alt+F{facts.vt}  {facts.name}" for facts in subject.environments),
    ]
    if subject.full and subject.passphrase is not None:
        lines.append(f"Passphrase at the prompt: {subject.passphrase}")
    lines.append("Nothing that you do is kept. Ctrl-C here switches the PC off.")
    return "\n".join(lines)


def attend(subject: Subject, tools: Tools, *, say: Callable[[str], None]) -> None:
    """Start the seat for a person and wait until it is shut down or Ctrl-C is pressed."""
    hardware = subject.hardware()
    if isinstance(hardware.boot, Firmware):  # nobody but the person is in this seat
        hardware = replace(hardware, credentials=(), boot=Firmware(""))
    hardware = replace(hardware, resets=True)
    number = free_display()
    with Machine(tools, hardware, name=subject.name, display=display_arguments(number)) as machine:
        machine.start()
        say(instructions(subject, number))
        try:
            while not machine.wait_for_end(3600):
                machine.alive()
        except (KeyboardInterrupt, MachineDied):
            say("switched off")


def converse(subject: Subject, tools: Tools, *, say: Callable[[str], None]) -> None:
    """Bring the seat up and give a Python prompt with its parts by name."""
    say(f"starting {subject.name}; emulated, it takes some minutes until all desktops are up")
    with ready_machine(tools, subject) as machine:
        bring_up(machine, subject, reached=lambda label: say(f"{machine.marks[-1].seconds:6.1f} s  {label}"))
        leave_passphrase(machine, subject)
        seat = SeatInTest(machine, subject)
        names = {"Path": Path, "machine": machine, "seat": seat, "host": seat.host}
        if seat.containers:
            names["guest"] = seat.guest
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # line editing and history for the prompt
        code.interact(banner=BANNER, local=names, exitmsg="")
