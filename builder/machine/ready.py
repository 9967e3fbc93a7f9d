"""How does a seat come from power-on to all desktops up, and how is that state kept for the checks?"""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from builder.machine.desktop import Desktop
from builder.machine.errors import Unmet
from builder.machine.machine import Machine
from builder.machine.shell import until
from builder.machine.subject import Subject
from builder.tools import Tools

READY = "ready"  # name of the snapshot
RESTARTED = "restarted"  # that of the one a worker adds: the first container has been restarted and is up
PROMPT = r"(?i)enter passphrase for"
LONG = 600.0  # seconds a step of the boot may take at most; a panic or a dead QEMU ends it at once
# An X server asks for its terminal and waits to see it on screen. Of two that ask at the same moment the
# kernel hears one; the other goes on when somebody changes to its terminal.
UNSEEN = 120.0
Say = Callable[[str], None]


def quiet(_: str) -> None:
    pass


def bring_up(machine: Machine, subject: Subject, *, reached: Say = quiet, wrong_first: bool = False) -> None:
    """Switch on, unlock, and wait for every desktop; ``reached`` is told each step of the timeline.

    ``wrong_first``: type a wrong passphrase before the right one.
    """

    def step(label: str) -> None:
        machine.mark(label)
        reached(label)

    machine.start()
    if subject.full:
        unlock(machine, subject, step, wrong_first=wrong_first)
    machine.wait_for_agent(timeout=LONG)
    step("first command in the host")
    finish_desktops(machine, subject, step)


def unlock(machine: Machine, subject: Subject, step: Say = quiet, *, wrong_first: bool = False) -> None:
    """The way of a real PC: firmware, boot menu, kernel, and the passphrase typed at its prompt."""
    machine.wait_for_serial(r"Linux version|BdsDxe: starting", timeout=LONG)
    step("boot menu")
    if subject.passphrase is None:
        return
    wait_for_prompts(machine, 1)
    step("passphrase prompt")
    if wrong_first:
        machine.type_text("not the passphrase\n")
        wait_for_prompts(machine, 2)
        step("asked again after a wrong passphrase")
    machine.type_text(f"{subject.passphrase}\n")
    step("passphrase typed")


def wait_for_prompts(machine: Machine, count: int) -> None:
    """Wait until the passphrase was asked for so many times."""

    def asked() -> bool:
        machine.alive()
        return len(re.findall(PROMPT, machine.serial_log())) >= count

    until(asked, f"prompt {count} for the passphrase", timeout=LONG, poll=0.1)


def finish_desktops(machine: Machine, subject: Subject, step: Say = quiet) -> None:
    """Wait for the host's desktop, start the containers that do not start by themselves, wait for theirs."""
    Desktop(machine, machine.host, subject.host).wait_until_up(timeout=LONG)
    step(f"desktop of {subject.host.name}")
    for facts in subject.containers:
        machine.host.succeed(f"systemctl start systemd-nspawn@{facts.name}.service", timeout=LONG)
        step(f"container {facts.name} started")
        desktop = Desktop(machine, machine.container(facts.name), facts)
        try:
            desktop.wait_until_up(timeout=UNSEEN)
        except Unmet:
            desktop.switch_to()
            step(f"{facts.name} is looked at, as it does not come up unseen")
            desktop.wait_until_up(timeout=LONG)
        step(f"desktop of {facts.name}")


def restart(machine: Machine, subject: Subject) -> None:
    """Reboot the guest in order, and wait for everything as at a start.

    The way back is the fast route: firmware, menu and prompt were seen when the seat was first brought up.
    """
    machine.hardware = subject.model_copy(update={"full": False}).hardware()
    machine.reboot(timeout=LONG)
    machine.wait_for_agent(timeout=LONG)
    finish_desktops(machine, subject)


def leave_passphrase(machine: Machine, subject: Subject) -> None:
    """From here on a container's volume opens without a person, so that checks may restart containers.

    At the seat's own start it opens because the passphrase that was typed is still in the kernel's keyring.
    One that its host has a key for opens by that alone.
    """
    if subject.passphrase is None:
        return
    text = f"[Service]\nSetCredential=cryptsetup.passphrase:{subject.passphrase}\n"
    for facts in (facts for facts in subject.containers if not facts.keyfile):
        folder = shlex.quote(f"/run/systemd/system/{facts.volume_unit}.d")
        machine.host.succeed(
            f"mkdir -p {folder} && umask 077 && printf %s {shlex.quote(text)} >{folder}/90-boot-test.conf"
        )
    machine.host.succeed("systemctl daemon-reload")


def keep_ready(
    machine: Machine, subject: Subject, overlay: Path, *, picture: Callable[[str], object] = quiet
) -> None:
    """Look at every desktop of a seat that is up and keep its state, with the snapshot, in ``overlay``."""
    leave_passphrase(machine, subject)
    for facts in [*subject.containers, subject.host]:
        shell = machine.host if facts is subject.host else machine.container(facts.name)
        Desktop(machine, shell, facts).switch_to()
        machine.wait_for_screen(still=2.0)
        picture(f"desktop of {facts.name}")
    machine.save_snapshot(READY)
    machine.pause()
    shutil.copyfile(machine.files.overlay, overlay)


def ready_machine(tools: Tools, subject: Subject) -> Machine:
    """A machine that can be brought up."""
    return Machine(tools, subject.hardware(), name=f"{subject.name}-ready")


def timeline(machine: Machine) -> str:
    """The machine's marks as JSON."""
    return json.dumps([asdict(mark) for mark in machine.marks], indent=1)
