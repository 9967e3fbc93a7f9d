"""Is an initrd made once for many changes of files, with the same bits as if it were made each time?"""

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.distro.packagesets import initrd_packages, wanted_packages
from builder.files import file_digest, remove_tree
from builder.profile import load_profile
from builder.tools import Tools
from tests.support.pacman_repo import TinyPackage
from tests.support.tinyproject import PROFILE, TinyProject, make_project

EFI = "usr/lib/systemd/boot/efi"


@pytest.fixture(scope="module")
def tiny(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyProject]:
    """A project with a bootable profile. Its kernel is a boot loader: an EFI program of a few kilobytes."""
    place = tmp_path_factory.mktemp("bootable")
    tiny = make_project(place / "checkout", place / "cache", tools)
    tiny.write_profile(PROFILE + "bootable: true\n")
    profile = load_profile(tiny.project, "tiny")
    programs = (tools.root or Path("/")) / EFI
    loaders = ("linuxx64.efi.stub", "systemd-bootx64.efi")
    files = {
        "linux": {
            **{f"{EFI}/{name}": (programs / name).read_bytes() for name in loaders},
            "usr/lib/modules/6.1.0/vmlinuz": (programs / "systemd-bootx64.efi").read_bytes(),
            "usr/bin/depmod": idle_program(),
            "usr/bin/modinfo": idle_program(),
        },
    }
    names = {*wanted_packages(profile), *initrd_packages(profile, tiny.project)} - {"filesystem"}
    tiny.publish(
        "extra",
        [TinyPackage(n, files=files.get(n, {}), depends=("filesystem",)) for n in sorted(names)],
    )
    made = tiny.run("image", "tiny")
    assert made.code == 0, made.err
    yield tiny
    remove_tree(place)


def idle_program() -> bytes:
    """A static ELF file for x86-64 that does nothing: mkosi runs programs of the image in it."""
    code = bytes.fromhex("31ff b83c000000 0f05")  # xor edi, edi; mov eax, 60 (exit); syscall
    base, start, size = 0x400000, 64 + 56, 64 + 56 + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return ident + head + segment + code


def results(tiny: TinyProject) -> dict[str, str]:
    return {p.name: file_digest(p) for p in tiny.dist().iterdir()}


def kept(tiny: TinyProject) -> list[tuple[str, int]]:
    """The initrds that are kept, and when they were put there."""
    return [(p.name, p.stat().st_ctime_ns) for p in (tiny.project.cache / "initrds/tiny").iterdir()]


def change_a_file(tiny: TinyProject, text: str) -> None:
    (tiny.root / "mkosi.extra/etc/motd").write_text(text)


@pytest.mark.long
def test_after_a_changed_file_the_initrd_is_kept_and_the_bits_are_those_of_a_full_build(
    tiny: TinyProject,
) -> None:
    before = kept(tiny)
    assert len(before) == 1
    change_a_file(tiny, "changed\n")
    made = tiny.run("image", "tiny")
    assert made.code == 0, made.err
    assert "Building the image" in made.err
    assert [name for name, _ in kept(tiny)] == [name for name, _ in before]
    quick = results(tiny)
    assert [name for name in quick if name.endswith(".efi")]
    remove_tree(tiny.project.cache / "initrds")
    remove_tree(tiny.project.cache / "incremental")
    full = tiny.run("image", "tiny", "--force")
    assert full.code == 0, full.err
    assert results(tiny) == quick
    assert [name for name, _ in kept(tiny)] == [name for name, _ in before], "the same initrd came out"
