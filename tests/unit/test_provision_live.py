"""What of a running seat is held, deactivated and given back while its disk changes?"""

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.errors import BusyError, MachineError
from builder.provision import live
from builder.provision.identity import Identity
from builder.volume.target import Target

ESP = 1 << 20


@dataclass
class Lvm:
    """Notes what lvm2 was told; deactivating ``stuck`` fails."""

    stuck: str = ""
    said: list[str] = field(default_factory=list)

    def run(self, argv: Sequence[str]) -> None:
        _, _, how, volume = argv
        self.said.append(f"{how} {volume}")
        if (how, volume) == ("n", f"vg/{self.stuck}"):
            raise MachineError(f"{volume} is in use")


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identity:
    """A seat's disk with active volumes, as far as ``changing`` looks."""
    for part, sector in (("vda1", 2048), ("vda2", 999999)):
        (tmp_path / "sys/vda" / part).mkdir(parents=True)
        (tmp_path / "sys/vda" / part / "start").write_text(f"{sector}\n")
        (tmp_path / part).touch()
    (tmp_path / "vda").write_bytes(bytes(4096))
    group = SimpleNamespace(name="vg")
    seat = SimpleNamespace(metadata=group, esp=SimpleNamespace(start=ESP), names=["work", "private"])
    monkeypatch.setattr(live, "BLOCK", tmp_path / "sys")
    monkeypatch.setattr(live, "DEV", tmp_path)
    monkeypatch.setattr(live, "LOCKS", tmp_path / "lock")
    monkeypatch.setattr(live, "open_seat", lambda *_: seat)
    monkeypatch.setattr(live, "mapped", lambda _: ["vg-work"])
    monkeypatch.setattr(live, "mapper_device", lambda _, name: Path(name) if name in seat.names else None)
    monkeypatch.setattr(live, "refuse_open", lambda *_: None)
    path = tmp_path / "vda"
    return Identity(Target(path, True, 4096), path, "Model", "S1", ())


def mounted(monkeypatch: pytest.MonkeyPatch, busy: Path) -> list[Path]:
    """Have a partition be mounted: it cannot be opened by who wants it alone (open(2), O_EXCL)."""
    real, alone = os.open, []

    def opening(path: Any, flags: int, *rest: int) -> int:
        if flags & os.O_EXCL:
            alone.append(Path(path))
            if Path(path) == busy:
                raise OSError(errno.EBUSY, "Device or resource busy")
        return real(path, flags, *rest)

    monkeypatch.setattr(live.os, "open", opening)
    return alone


def change(identity: Identity, lvm: Lvm, *, boot: bool, act: Callable[[], None] = lambda: None) -> None:
    with live.changing(identity, ["work", "private"], lvm, boot=boot):  # type: ignore[arg-type]
        act()


def test_a_mounted_esp_is_refused_where_boot_files_would_change_below_it(
    running: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, lvm = mounted(monkeypatch, tmp_path / "vda1"), Lvm()
    with pytest.raises(BusyError, match="vda1 is in use") as caught:
        change(running, lvm, boot=True)
    assert "umount" in (caught.value.hint or "")
    assert lvm.said == []
    alone.clear()
    change(running, lvm, boot=False)
    assert alone == []


def test_nobody_mounts_the_esp_while_boot_files_change(
    running: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = mounted(monkeypatch, tmp_path / "none")

    def held() -> None:
        assert tmp_path / "vda1" in [fd.resolve() for fd in Path("/proc/self/fd").iterdir()]

    change(running, Lvm(), boot=True, act=held)
    assert alone == [tmp_path / "vda1"]


def test_volumes_that_were_deactivated_come_back_where_another_could_not_be(running: Identity) -> None:
    lvm = Lvm(stuck="private")
    with pytest.raises(MachineError, match="vg/private is in use"):
        change(running, lvm, boot=False)
    assert lvm.said == ["n vg/work", "n vg/private", "y vg/work", "y vg/private"]
