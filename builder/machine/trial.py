"""Does KVM really run a stock kernel here? Found out by trying: /dev/kvm alone proves nothing.

In many clouds and containers the device can be opened, and a virtual machine created, and yet QEMU aborts
or the guest's kernel dies in its first instructions.
"""

import os
import tempfile
from pathlib import Path

from builder.errors import MachineError, ToolError
from builder.files import atomic_path
from builder.machine.hardware import QEMU, Accelerator
from builder.machine.kernel import read_uki
from builder.project import cache_home
from builder.run import Arg
from builder.tools import Tools

SECONDS = 30  # with KVM, a kernel without a root filesystem gives up after one
REACHED = "Unable to mount root fs"  # what it says then (init/do_mounts.c): everything before it worked
YES = "yes"


def choose_accelerator(tools: Tools, uki: Path) -> Accelerator:
    """KVM where the kernel of ``uki`` runs under it, else emulation."""
    return Accelerator.TCG if kvm_problem(tools, uki) else Accelerator.KVM


def kvm_problem(tools: Tools, uki: Path) -> str | None:
    """Why KVM cannot run the kernel of ``uki``, or None where it can. Remembered until the next boot."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm is missing or may not be opened"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    memory = cache_home() / "state" / f"kvm-{boot}"
    if not memory.exists():
        answer = try_kvm(tools, uki) or YES
        memory.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(memory) as path:
            path.write_text(answer)
    known = memory.read_text()
    return None if known == YES else known


def try_kvm(tools: Tools, uki: Path) -> str | None:
    """Start the kernel without a root filesystem, and see how far it comes."""
    with tempfile.TemporaryDirectory(prefix="seatsmith-kvm-") as folder:
        kernel, serial = Path(folder) / "linux", Path(folder) / "serial"
        kernel.write_bytes(read_uki(uki).linux)
        argv: list[Arg] = [QEMU, "-accel", "kvm", "-cpu", "host", "-M", "q35", "-m", "512", "-nodefaults"]
        argv += ["-display", "none", "-no-reboot", "-serial", f"file:{serial}", "-kernel", kernel]
        argv += ["-append", "console=ttyS0 panic=-1 root=/dev/none"]
        try:
            tools.run(argv, network=False, timeout=SECONDS)
        except (ToolError, MachineError) as e:
            return e.message.splitlines()[-1].strip()
        text = serial.read_text(errors="replace") if serial.exists() else ""
        return None if REACHED in text else "the guest's kernel dies before it looks for its root filesystem"
