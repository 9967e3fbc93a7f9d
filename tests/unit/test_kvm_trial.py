"""Is KVM used only where a stock kernel runs under it, whatever /dev/kvm promises?"""

import os
from pathlib import Path

import pytest

from builder.machine import trial
from builder.machine.hardware import Accelerator
from builder.machine.kernel import UnifiedKernel
from builder.tools import Tools

FAR = "echo 'VFS: Unable to mount root fs on unknown-block(0,0)'"
QEMU = """\
#!/bin/sh
echo started >>{starts}
for word; do case $word in file:*) exec >"${{word#file:}}" ;; esac; done
{does}
"""


class Machine:
    """This machine, with a QEMU that does what a test says."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.starts = place / "starts"

    def qemu(self, does: str) -> None:
        program = self.place / "qemu"
        program.write_text(QEMU.format(starts=self.starts, does=does))
        program.chmod(0o755)

    def ask(self) -> str | None:
        return trial.kvm_problem(Tools(None), self.place / "uki")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "QEMU", str(tmp_path / "qemu"))
    monkeypatch.setattr(trial, "read_uki", lambda path: UnifiedKernel(b"kernel", b"", ""))
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    return Machine(tmp_path)


def test_kvm_is_used_where_a_kernel_comes_to_look_for_its_root(machine: Machine) -> None:
    machine.qemu(FAR)
    assert trial.choose_accelerator(Tools(None), machine.place / "uki") is Accelerator.KVM


def test_a_kernel_that_dies_under_kvm_is_emulated(machine: Machine) -> None:
    machine.qemu("echo 'Linux version 6'")
    assert machine.ask() == "the guest's kernel dies before it looks for its root filesystem"
    assert trial.choose_accelerator(Tools(None), machine.place / "uki") is Accelerator.TCG


def test_a_qemu_that_aborts_under_kvm_is_quoted(machine: Machine) -> None:
    machine.qemu("echo 'kvm_buf_set_msrs: Assertion failed' >&2; kill -ABRT $$")
    assert machine.ask() == "kvm_buf_set_msrs: Assertion failed"


def test_a_kernel_that_hangs_under_kvm_is_emulated(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SECONDS", 0.5)
    machine.qemu("exec sleep 60")
    assert "did not finish" in (machine.ask() or "")


def test_kvm_is_tried_once_until_the_next_boot(machine: Machine) -> None:
    machine.qemu(FAR)
    assert (machine.ask(), machine.ask()) == (None, None)
    assert machine.starts.read_text() == "started\n"


def test_without_a_device_that_opens_nothing_is_tried(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    machine.qemu(FAR)
    assert machine.ask() == "/dev/kvm is missing or may not be opened"
    assert not machine.starts.exists()
