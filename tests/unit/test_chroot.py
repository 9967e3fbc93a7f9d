"""Does a tree go that holds files of other owners, as mkosi makes them for an ordinary user?"""

import os
from pathlib import Path

import pytest

from builder import chroot
from builder.run import ProgramError


def refuse(path: Path) -> None:
    raise PermissionError(13, "Permission denied", str(path))


def test_what_belongs_to_subordinate_ids_is_removed_as_their_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, said = tmp_path / "-tree", tmp_path / "said"
    (tree / "home/user").mkdir(parents=True)
    monkeypatch.setattr(chroot, "remove_tree", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(chroot, "AS_OUR_OWN_ROOT", ("sh", "-c", f'echo "$@" > {said}; exec "$@"', "unshare"))
    chroot.remove_foreign_tree(tree)
    assert not tree.exists()
    assert said.read_text() == f"rm --recursive --force -- {tree}\n"
    monkeypatch.setattr(chroot, "AS_OUR_OWN_ROOT", ("false",))
    with pytest.raises(ProgramError):
        chroot.remove_foreign_tree(tree)


def test_root_is_told_what_it_may_not_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chroot, "remove_tree", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(PermissionError):
        chroot.remove_foreign_tree(tmp_path)
