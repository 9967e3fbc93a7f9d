"""Has the stand-in's pacman mirror what real repositories have, and is all of it signed?"""

from pathlib import Path

import pytest

from builder.distro.arch import ALL_SIGNED, OFFICIAL
from builder.distro.keyring import pacman_keyring, standin_key
from builder.distro.pacman import pacman_conf, read_database, run_pacman
from builder.files import file_digest
from builder.standin.mirror import ensure_mirror
from builder.standin.server import serve
from builder.tools import Tools

pytestmark = pytest.mark.tools


@pytest.fixture(scope="module")
def repositories() -> dict[str, Path]:
    mirror = ensure_mirror()
    return {name: mirror.root / "repos" / mirror.date / name / "os/x86_64" for name in OFFICIAL}


def test_every_package_and_database_is_there_and_signed(repositories: dict[str, Path]) -> None:
    for name, place in repositories.items():
        for package in read_database(place / f"{name}.db").values():
            path = place / package.filename
            assert path.stat().st_size == package.size
            assert path.with_name(f"{path.name}.sig").stat().st_size > 60
            assert package.signature, "the database has it, too"
        for kind in ("db", "files"):
            assert (place / f"{name}.{kind}.sig").is_file()
    sample = next(iter(read_database(repositories["core"] / "core.db").values()))
    assert file_digest(repositories["core"] / sample.filename) == sample.sha256


def test_pacman_finds_groups_files_hooks_provides_replaces_and_epochs(
    repositories: dict[str, Path], tools: Tools, tmp_path: Path
) -> None:
    mirror = ensure_mirror()
    keyring = pacman_keyring(tools, [standin_key()], archlinux=False)
    conf = tmp_path / "pacman.conf"

    def pacman(*words: str) -> str:
        return run_pacman(tools, tmp_path, conf, words).text

    with serve(mirror.root) as url:
        servers = {r: f"{url}/repos/{mirror.date}/{r}/os/x86_64" for r in OFFICIAL}
        levels = dict.fromkeys(OFFICIAL, ALL_SIGNED)
        conf.write_text(pacman_conf(servers, levels=levels, gpgdir=keyring, docs=False))
        pacman("--sync", "--refresh")
        pacman("--files", "--refresh")
    assert "i3 i3-wm" in pacman("--sync", "--groups", "i3")
    assert "extra/i3-wm" in pacman("--files", "--quiet", "usr/bin/i3")
    assert "share/libalpm/hooks/" in pacman("--files", "--list", "kmod", "glib2")
    told = pacman("--sync", "--info", "i3-wm", "coreutils", "pipewire-pulse")
    fields = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in told.splitlines()}
    assert {"Provides", "Replaces", "Conflicts With"} <= fields.keys()
    assert "i3-gaps" in told
    assert "extra lightdm-gtk-greeter" in pacman(
        "--sync", "--print", "--print-format", "%r %n", "lightdm-greeter"
    ), "a name that a package provides"
    epochs = [line for line in pacman("--sync", "--list").splitlines() if ":" in line.split()[2]]
    assert len(epochs) >= 5


def test_some_packages_have_install_scripts(repositories: dict[str, Path], tools: Tools) -> None:
    (package,) = repositories["core"].glob("bash-5*.pkg.tar.zst")
    listed = tools.run(["tar", "--zstd", "-tf", package]).text.splitlines()
    assert {".PKGINFO", ".MTREE", ".INSTALL"} <= set(listed)
