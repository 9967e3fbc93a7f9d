"""Does a QEMU without any system in it start, answer, snapshot, and vanish whatever happens to us?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
CHECKS = """
from pathlib import Path
import pytest
from builder.machine.hardware import Firmware, Hardware
from builder.machine.machine import Machine
from builder.tools import ensure_tools
import time
HERE = Path(__file__).parent

@pytest.mark.parametrize("number", [1, 2])
def test_waits(number):
    with Machine(ensure_tools(), Hardware(HERE / "disk", Firmware(), memory=256 << 20), name="check") as m:
        m.start(paused=True)
        new = HERE / f"new-{number}"
        new.write_text(f"{m.pid} {m.files.folder}")
        new.rename(HERE / f"started-{number}")
        time.sleep(120)
"""
CHECKER = """
import signal, sys
from pathlib import Path
from builder.machine import boottest, checks
from builder.machine.subject import EnvironmentFacts, Kernel, Subject
from builder.tools import Tools
signal.signal(signal.SIGINT, signal.default_int_handler)
place = Path(sys.argv[1])
checks.__file__ = str(place / "__init__.py")
kernel = Kernel(kernel=place / "k", initrd=place / "i", cmdline="")
host = EnvironmentFacts(name="private", vt=7)
subject = Subject(name="demo", disk=place / "disk", host=host, containers=[], fast=kernel)
wanted = boottest.Wanted(workers=2)
boottest.run_checks(subject, Tools(None), place, place / "overlay", place / "job.json", wanted)
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
    assert within(15, lambda: not runs(int(pid)) and not Path(folder.strip()).exists())


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_when_a_run_of_checks_in_two_pcs_is_killed(
    tools: Tools, disk: Path, tmp_path: Path, how: signal.Signals
) -> None:
    place = tmp_path / "checks"
    place.mkdir()
    (place / "test_waiting.py").write_text(CHECKS)
    disk.rename(place / "disk")
    runner = subprocess.Popen(
        [sys.executable, "-c", CHECKER, place],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
    )
    try:
        started = [place / "started-1", place / "started-2"]
        assert within(60, lambda: all(path.exists() for path in started))
        machines = [path.read_text().split(maxsplit=1) for path in started]
        assert all(runs(int(pid)) for pid, _ in machines)
        runner.send_signal(how)
        assert runner.wait(30) != 0
    finally:
        runner.kill()
        runner.wait()
    assert within(40, lambda: not any(runs(int(pid)) or Path(folder).exists() for pid, folder in machines))


def within(seconds: float, true: Callable[[], bool]) -> bool:
    """Whether something comes true within so many seconds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie, which an init may leave lying."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
