"""What does the boot tests' harness cost: beside QEMU alone on the same disk, and for one check more?

Both start the seat ``demo`` by the fast route, as nobody sits at a bare QEMU to type the passphrase. That
all desktops are up is told of the bare one by a unit of the guest, which counts them once a second.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from builder.errors import MachineError
from builder.machine.bench import Bench
from builder.machine.credentials import Credential
from builder.machine.hardware import Hardware, Sockets, qemu_arguments
from builder.machine.places import private_directory
from builder.machine.ready import bring_up, keep_ready, ready_machine
from builder.machine.seatdisk import written_seat
from builder.machine.subject import Subject
from builder.project import find_project
from builder.run import dying_with_us, end_group
from builder.tools import Tools, ensure_tools

SEAT = "demo"
FURTHER = 5  # checks
LIMIT = 900.0  # seconds for a boot
UP = "seatsmith-bench-all-desktops-are-up"
UNIT = """\
[Service]
ExecStart=/bin/sh -c 'until [ "$(pgrep -c -x i3bar)" -ge {count} ]; do sleep 1; done; echo {up} >/dev/ttyS0'
"""


def bench() -> list[tuple[str, str]]:
    tools = ensure_tools()
    with tempfile.TemporaryDirectory(prefix="seatsmith-bench-") as folder:
        place = Path(folder)
        subject = written_seat(find_project(Path(__file__)), SEAT, tools, place, full=False)
        bare = bare_boot(tools, subject)
        overlay = place / "ready.qcow2"
        with ready_machine(tools, subject) as machine:
            began = time.monotonic()
            bring_up(machine, subject)
            ours = time.monotonic() - began
            began = time.monotonic()
            keep_ready(machine, subject, overlay)
            keeping = time.monotonic() - began
        further = further_checks(tools, subject, overlay)
    return [
        (f"{subject.accelerator}: both desktops up, by QEMU alone", f"{bare:.1f} s"),
        ("the same in a boot test ÷ by QEMU alone", f"{ours / bare:.2f}"),
        ("the ready state, looked at and kept", f"{keeping:.1f} s"),
        (f"one more check from it, without what it does (median of {FURTHER})", f"{further:.1f} s"),
    ]


def bare_hardware(subject: Subject) -> Hardware:
    """The seat's PC, with a unit that tells when all is up in the place of our agent."""
    unit = UNIT.format(count=len(subject.environments), up=UP)
    return replace(
        subject.hardware(),
        credentials=(
            *(c for c in subject.credentials() if "agent" not in c.name and "sysinit" not in c.name),
            Credential("systemd.extra-unit.bench.service", unit),
            Credential("systemd.unit-dropin.multi-user.target", "[Unit]\nWants=bench.service\n"),
        ),
    )


def bare_boot(tools: Tools, subject: Subject) -> float:
    """Seconds from QEMU's start to all desktops, without a monitor, an agent or anybody who looks."""
    hardware = bare_hardware(subject)
    with private_directory("bench-boot") as folder:
        files = Sockets(folder)
        argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", subject.disk, "-F", "raw", files.overlay]
        tools.run(argv)
        words = [word for word in qemu_arguments(hardware, files, name="bench") if word != "-S"]
        inside = tools.command(["setpriv", "--pdeathsig", "KILL", "--", *words])
        began = time.monotonic()
        qemu = subprocess.Popen(dying_with_us(inside), process_group=0)
        try:
            while UP.encode() not in (files.serial.read_bytes() if files.serial.exists() else b""):
                if qemu.poll() is not None or time.monotonic() - began > LIMIT:
                    raise MachineError(f"QEMU alone did not bring {subject.name} up")
                time.sleep(0.2)
            return time.monotonic() - began
        finally:
            qemu.kill()
            end_group(qemu)


def further_checks(tools: Tools, subject: Subject, overlay: Path) -> float:
    """Seconds until the seat is ready once more."""
    with Bench(subject, tools, overlay) as bench:
        bench.fresh()  # starts QEMU
        times = []
        for _ in range(FURTHER):
            began = time.monotonic()
            bench.fresh()
            times.append(time.monotonic() - began)
    return statistics.median(times)


if __name__ == "__main__":
    for row in bench():
        print(*row, sep="\t", file=sys.stdout)
