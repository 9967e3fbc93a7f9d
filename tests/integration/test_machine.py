"""Does a QEMU without any system in it start, answer, snapshot, and vanish whatever happens to us?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.machine.errors import AgentSilent, MachineDied, QemuRefused
from builder.machine.hardware import Firmware, Hardware
from builder.machine.machine import Machine
from builder.tools import Tools

SIZE = 64 << 20
RUNNER = """
import signal, sys, time
from pathlib import Path
from builder.machine.hardware import Firmware, Hardware
from builder.machine.machine import Machine
from builder.tools import ensure_tools
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
hardware = Hardware(Path(sys.argv[1]), Firmware(), memory=256 << 20)
with Machine(ensure_tools(), hardware, name=sys.argv[2]) as m:
    m.start(paused=True)
    print(m.pid, m.files.folder, flush=True)
    time.sleep(120)
"""


def hardware(disk: Path) -> Hardware:
    return Hardware(disk, Firmware(), memory=256 << 20)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "empty disk.img"
    with path.open("wb") as f:
        f.truncate(SIZE)
    return path


@pytest.fixture
def machine(tools: Tools, disk: Path) -> Iterator[Machine]:
    with Machine(tools, hardware(disk), name="unit") as made:
        yield made


def test_the_firmware_is_seen_on_the_screen_and_the_disk_is_not_touched(
    machine: Machine, disk: Path, tmp_path: Path
) -> None:
    machine.start()
    machine.wait_for_serial("BdsDxe", timeout=60)
    machine.wait_for_text("shell|bds|failed|boot", timeout=60)
    assert machine.screenshot(tmp_path / "now.png").stat().st_size > 1000
    assert disk.stat().st_blocks == 0


def test_a_snapshot_can_be_loaded_again_and_asks_for_the_same_devices(machine: Machine) -> None:
    machine.start()
    machine.save_snapshot("here")
    machine.load_snapshot("here")
    with pytest.raises(QemuRefused, match="elsewhere"):
        machine.load_snapshot("elsewhere")


def test_another_monitor_and_more_devices_are_remembered_until_the_next_start(machine: Machine) -> None:
    machine.start()
    assert machine.as_started
    machine.plug("usb-keyboard", "second")
    machine.set_monitor(1280, 960)
    assert not machine.as_started
    machine.crash()
    machine.start()
    assert machine.as_started


def test_a_killed_qemu_ends_a_wait_at_once(machine: Machine) -> None:
    machine.start()
    assert machine.pid is not None
    os.killpg(machine.pid, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(MachineDied, match="signal 9"):
        machine.wait_for_serial("never", timeout=60)
    assert time.monotonic() - started < 10


def test_a_guest_without_an_agent_is_said_to_be_silent(machine: Machine) -> None:
    machine.start(paused=True)
    with pytest.raises(AgentSilent, match="said nothing for 2 s"):
        machine.wait_for_agent(timeout=2.0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_the_runner_is_killed(tools: Tools, disk: Path, how: signal.Signals) -> None:
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, disk, "orphan"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert runner.stdout is not None
    pid, folder = runner.stdout.readline().split(maxsplit=1)
    runner.send_signal(how)
    runner.wait(30)
    runner.stdout.close()
    deadline = time.monotonic() + 15
    while (runs(int(pid)) or Path(folder.strip()).exists()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not runs(int(pid))
    assert not Path(folder.strip()).exists()


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie, which an init may leave lying."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
