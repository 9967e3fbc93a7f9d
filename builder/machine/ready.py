"""How does a seat come from power-on to both desktops up, and how is that state kept for the checks?"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from builder.machine.desktop import Desktop
from builder.machine.machine import Machine
from builder.machine.subject import Subject
from builder.tools import Tools

READY = "ready"  # name of the snapshot
PROMPT = r"(?i)enter passphrase for"
LONG = 600.0  # seconds a step of the boot may take at most; a panic or a dead QEMU ends it at once
Say = Callable[[str], None]


def bring_up(machine: Machine, subject: Subject, *, full: bool, say: Say = lambda _: None) -> None:
    """Switch on, unlock, and wait for every desktop; each step gets a mark on the machine's timeline."""

    def reached(label: str) -> None:
        machine.mark(label)
        say(f"{machine.marks[-1].seconds:6.1f} s  {label}")

    machine.start()
    if full:
        machine.wait_for_serial(r"Linux version|BdsDxe: starting", timeout=LONG)
        reached("boot loader")
        if subject.passphrase is not None:
            machine.wait_for_serial(PROMPT, timeout=LONG)
            reached("passphrase prompt")
            machine.type_text(f"{subject.passphrase}\n")
            reached("passphrase typed")
    machine.wait_for_agent(timeout=LONG)
    reached("commands in the host")
    finish_desktops(machine, subject, reached)


def finish_desktops(machine: Machine, subject: Subject, reached: Say = lambda _: None) -> None:
    """Wait for the host's desktop, start the containers that do not start by themselves, wait for theirs."""
    Desktop(machine, machine.host, subject.host).wait_until_up(timeout=LONG)
    reached(f"desktop of {subject.host.name}")
    for facts in subject.containers:
        machine.host.succeed(f"systemctl start systemd-nspawn@{facts.name}.service", timeout=LONG)
        reached(f"container {facts.name} started")
        Desktop(machine, machine.container(facts.name), facts).wait_until_up(timeout=LONG)
        reached(f"desktop of {facts.name}")


def keep_ready(subject: Subject, tools: Tools, folder: Path, *, say: Say = lambda _: None) -> Path:
    """Bring the seat up by the fast route and leave the snapshot in ``folder``: the overlay holding it."""
    overlay = folder / "ready.qcow2"
    with Machine(tools, subject.hardware(full=False), name=f"{subject.name}-ready") as machine:
        try:
            bring_up(machine, subject, full=False, say=say)
            for facts in [*subject.containers, subject.host]:
                shell = machine.host if facts is subject.host else machine.container(facts.name)
                Desktop(machine, shell, facts).switch_to()
                machine.wait_for_screen(still=1.5)
                machine.screenshot(folder / f"ready-{facts.name}.png")
            machine.save_snapshot(READY)
            machine.pause()
            shutil.copyfile(machine.files.overlay, overlay)
        finally:
            (folder / "boot-serial.log").write_text(machine.serial_log())
            (folder / "boot.json").write_text(json.dumps([asdict(m) for m in machine.marks], indent=1))
    return overlay
