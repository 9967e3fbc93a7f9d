"""Does a PC with an empty disk become the seat? The stick is started in QEMU with nothing else."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from builder.errors import MachineError
from builder.installer.answers import Answers, Then
from builder.installer.firmware import NO_ENTRY
from builder.machine.credentials import Credential
from builder.machine.hardware import TEST_KERNEL_OPTIONS, Accelerator, Firmware, Hardware
from builder.machine.machine import Machine
from builder.provision.identity import TEST_SERIAL
from builder.seat.secrets import CREDENTIAL
from builder.tools import Tools

SERIAL = f"{TEST_SERIAL}-EMPTY"
MEMORY = 6 << 30  # the system in memory, and two environments' filesystems at a time
PATIENCE = 3600.0  # seconds under emulation
MADE = "is the seat"  # how the installer's last words begin, after the disk's name
FAILED = re.compile(r"Seatsmith installer: seat .*^error: ", re.MULTILINE | re.DOTALL)

Say = Callable[[str], None]


def trial_answers(seat: str) -> Answers:
    """What makes the stick install onto the empty disk, and then switch off."""
    return Answers(seat=seat, serial=SERIAL, read_all=True, for_tests=True, then=Then.POWEROFF)


def target_arguments(disk: Path) -> tuple[str, ...]:
    """QEMU arguments for the empty disk, beside the stick."""
    file = f"driver=file,node-name=target-file,filename={disk},discard=unmap,cache.no-flush=on"
    device = f"virtio-blk-pci,drive=target,serial={SERIAL},bus=pcie.0,bootindex=2"
    raw = "driver=raw,node-name=target,file=target-file,discard=unmap"
    return ("-blockdev", file, "-blockdev", raw, "-device", device)


def install(
    tools: Tools,
    stick: Path,
    disk: Path,
    *,
    size: int,
    passphrase: str,
    accelerator: Accelerator,
    memory: int = MEMORY,
    patience: float = PATIENCE,
    log: Path,
    say: Say = print,
) -> float:
    """Start the stick of ``trial_answers`` with a new, empty disk until it switches off.

    The passphrase is handed over as a credential. What the console said is left in ``log``. Returns the
    seconds that it took; raises MachineError where no seat was made.
    """
    disk.unlink(missing_ok=True)
    with disk.open("wb") as f:
        f.truncate(size)
    hardware = Hardware(
        disk=stick,
        boot=Firmware(TEST_KERNEL_OPTIONS),
        accelerator=accelerator,
        memory=memory,
        credentials=(Credential(CREDENTIAL, passphrase),),
        extra=target_arguments(disk),
    )
    with Machine(tools, hardware, name="installer") as machine:
        began = time.monotonic()
        machine.start()
        machine.expect_end()
        said, ended = 0, False
        while not ended and time.monotonic() - began < patience:
            ended = machine.wait_for_end(2.0)
            text = machine.serial_log()
            for line in text[said : text.rfind("\n") + 1].splitlines():
                say(f"  {time.monotonic() - began:6.1f} s  {line}")
            said = text.rfind("\n") + 1
            if FAILED.search(text):
                break
        log.write_text(machine.serial_log())
        took = time.monotonic() - began
    if not ended or MADE not in log.read_text():
        raise MachineError(f"the installer made no seat within {took:.0f} s", hint=f"its console: {log}")
    if NO_ENTRY in log.read_text():
        raise MachineError(f"the seat was made, but {NO_ENTRY}", hint=f"the installer's console: {log}")
    return took
