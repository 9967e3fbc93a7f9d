"""Is the tools tree made anew when its package list changes, and only then?"""

from pathlib import Path

import pytest

from builder import tools
from builder.errors import MachineError
from builder.tools import GNUPG_HOME, Tools, ensure_tools, package_list, tree_key


def test_the_key_follows_the_package_list(monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree_key()
    assert tree_key() == before
    monkeypatch.setattr(tools, "package_list", lambda: [*package_list(), "more"])
    assert tree_key() != before


def test_the_list_has_no_comments_and_no_doubles() -> None:
    names = package_list()
    assert names and len(names) == len(set(names))
    assert not [n for n in names if n.startswith("#") or n != n.strip() or not n]


def test_a_tree_that_is_there_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEATSMITH_TOOLS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    place = tmp_path / "seatsmith/tools" / tree_key()
    (place / "usr").mkdir(parents=True)
    assert ensure_tools() == Tools(place)


def test_without_mmdebstrap_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEATSMITH_TOOLS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError) as caught:
        ensure_tools()
    assert caught.value.hint == "run: sudo apt-get install mmdebstrap uidmap"
    assert caught.value.exit_code == 6


def test_the_hosts_own_tools_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEATSMITH_TOOLS", "host")
    host = ensure_tools()
    assert host.root is None
    assert host.command(["gpg", "--version"]) == ["gpg", "--version"]
    assert host.mkosi(["build"]) == (["mkosi", "build"], {})
    assert host.versions() == {}
    assert host.gnupg_home(Path("/a")) == (Path("/a"), [])


def test_a_program_of_the_tree_sees_its_usr_and_everything_else_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    words = Tools(tmp_path).command(["gpg", "--list"], network=False, options=["--bind", "/x", "/y"])
    text = " ".join(words)
    assert words[-3:] == ["--", "gpg", "--list"]
    assert f"--ro-bind {tmp_path}/usr /usr" in text
    assert "--symlink usr/bin /bin" in text
    assert "--bind /tmp /tmp" in text
    assert "--unshare-net" in words
    assert f"--chdir {Path.cwd()} --bind /x /y --" in text
    assert "--unshare-net" not in Tools(tmp_path).command(["gpg"])


def test_a_gnupg_home_gets_a_short_path_for_its_sockets(tmp_path: Path) -> None:
    home = tmp_path / ("long" * 50)
    place, options = Tools(tmp_path).gnupg_home(home)
    assert place == GNUPG_HOME
    assert options == ["--bind", home, GNUPG_HOME]


def test_versions_are_read_from_dpkgs_status(tmp_path: Path) -> None:
    status = tmp_path / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text(
        "Package: a\nVersion: 1:2.0-1\nDescription: x\n more: 5\n\nPackage: b\nVersion: 3\n\nPackage: c\n"
    )
    assert Tools(tmp_path).versions() == {"a": "1:2.0-1", "b": "3"}
