"""Does the doctor see what is there, and say what follows?"""

from pathlib import Path

import pytest

from builder import doctor
from builder.doctor import Verdict
from builder.project import Project


def test_too_little_space_is_a_no_with_both_figures(tmp_path: Path) -> None:
    finding = doctor.space("space", tmp_path / "not" / "there", 1 << 60)
    assert finding.verdict is Verdict.NO
    assert str(tmp_path) in finding.seen
    assert finding.follows.startswith("1048576.0 TiB")


def test_enough_space_is_a_yes(tmp_path: Path) -> None:
    assert doctor.space("space", tmp_path, 1).verdict is Verdict.YES


def test_subordinate_ids_are_counted_by_name_and_by_number(tmp_path: Path) -> None:
    path = tmp_path / "subuid"
    path.write_text("anna:100000:65536\nben:165536:1000\nanna:300000:10\nbroken\n")
    assert doctor.subids(path, "anna") == 65546
    assert doctor.subids(path, "ben") == 1000
    assert doctor.subids(path, "nobody else") == 0
    assert doctor.subids(tmp_path / "none", "anna") == 0


def test_where_kvm_cannot_be_opened_the_doctor_says_what_follows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(doctor.os, "open", refuse)
    finding = doctor.kvm(Project(tmp_path, tmp_path, tmp_path))
    assert finding.verdict is Verdict.LESS
    assert finding.seen == "/dev/kvm: Permission denied"
    assert "ten times slower" in finding.follows


def test_without_mmdebstrap_the_doctor_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = doctor.tools_tree()
    assert finding.verdict is Verdict.NO
    assert "apt-get install mmdebstrap" in finding.follows
