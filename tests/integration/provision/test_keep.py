"""Is what is kept the same in the new filesystem, whatever the old one says, and else refused by name?"""

import io
import os
import struct
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pytest

from builder.errors import InputError
from builder.provision.keep import Kept
from builder.provision.persona import persona_in
from builder.seat.overlay import render_overlay
from builder.seat.plan import load_plan
from builder.tools import Tools
from builder.volume import ext4
from builder.volume.ext4read import Filesystem
from builder.volume.read import Read
from tests.support.attributes import extended_attributes
from tests.support.provisioned import Bench


def test_kept_files_carry_everything_that_a_filesystem_says_of_them(tools: Tools, tmp_path: Path) -> None:
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, bits, owner)
        for tag, bits, owner in (
            (0x01, 6, 0xFFFFFFFF),
            (0x02, 4, 1001),
            (0x04, 4, 0xFFFFFFFF),
            (0x10, 4, 0xFFFFFFFF),
            (0x20, 0, 0xFFFFFFFF),
        )
    )
    values = {
        "home/u/a": ("user.odd", b"value \xff\x00"),
        "home/u/big": ("user.big", b"z" * 2000),
        "home/u/acl": ("system.posix_acl_access", acl),
    }
    old, new = tmp_path / "old", tmp_path / "new"
    make(tools, old, write_home)
    script = []
    for number, (path, (name, value)) in enumerate(values.items()):
        (tmp_path / str(number)).write_bytes(value)
        script.append(f"ea_set -f {tmp_path}/{number} /{path} {name}\n")
    (tmp_path / "script").write_text("".join(script))
    tools.run(["debugfs", "-w", "-f", tmp_path / "script", old])
    with old.open("rb") as f:
        kept = Kept(Filesystem(reader(f)), ["/home", "/etc/absent"])

        def feed(out: BinaryIO) -> None:
            kept.add_to(out, set())
            out.write(bytes(tarfile.BLOCKSIZE * 2))

        make(tools, new, feed)
        with new.open("rb") as g:
            assert described(Filesystem(reader(g))) == described(Filesystem(reader(f)))
        assert dict(described(Filesystem(reader(f)))["home/u/acl"][-1])["system.posix_acl_access"] == acl
    tools.run(["e2fsck", "-fn", new])


def make(tools: Tools, path: Path, feed: ext4.Feed) -> None:
    seed = "11111111-1111-4111-8111-111111111111"
    ext4.make(tools, path, 112 << 20, feed, uuid=seed, hash_seed=seed, label="x", epoch=1700000000)


def reader(f: BinaryIO) -> Read:
    def read(offset: int, length: int) -> bytes:
        f.seek(offset)
        return f.read(length)

    return read


def write_home(out: BinaryIO) -> None:
    """One of each kind of file."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> None:
            info = tarfile.TarInfo(f"./home{name}")
            info.type, info.size, info.mtime = kind, len(data), 1600000000
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(data))

        add("", tarfile.DIRTYPE, mode=0o755)
        add("/u", tarfile.DIRTYPE, mode=0o700, uid=1000, gid=1000)
        add("/u/a", data=b"x" * 100_000, mode=0o4755, uid=1000, gid=70_000)
        add("/u/hard", tarfile.LNKTYPE, linkname="./home/u/a", mode=0o4755, uid=1000, gid=70_000)
        add("/u/big", data=b"y", mode=0o600)
        add("/u/acl", data=b"acl", mode=0o640)
        add("/u/link", tarfile.SYMTYPE, linkname="a")
        add("/u/long", tarfile.SYMTYPE, linkname="a/" * 60 + "b")
        add("/u/pipe", tarfile.FIFOTYPE)
        add("/u/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
        add("/u/disk", tarfile.BLKTYPE, devmajor=259, devminor=300)
        add("/u/odd-\udcff", data=b"a name that is no UTF-8")
        add("/u/empty")


def described(filesystem: Filesystem) -> dict[str, tuple[object, ...]]:
    kept = Kept(filesystem, ["/home"])
    found = {}
    for entry in kept.entries():
        inode, raw = entry.inode, filesystem.raw_inode(entry.inode.number)
        content = (
            filesystem.digest(inode) if entry.is_file else filesystem.target(inode) if entry.is_link else ""
        )
        device = raw[40:48] if not (entry.is_file or entry.is_link or entry.is_directory) else b""
        links = struct.unpack_from("<H", raw, 26)[0]
        attributes = tuple(sorted(extended_attributes(raw, filesystem.block).items()))
        found[entry.path] = (
            inode.mode,
            inode.uid,
            inode.gid,
            inode.mtime,
            links,
            content,
            device,
            attributes,
        )
    return found


def debugfs(tools: Tools, image: Path, *lines: str) -> None:
    said = tools.run(["debugfs", "-w", "-f", "-", image], stdin="".join(f"{x}\n" for x in lines).encode())
    assert not [x for x in said.stderr.decode().splitlines() if not x.startswith("debugfs")], said.stderr


def old_home(tools: Tools, path: Path, *lines: str) -> Path:
    """A filesystem with a home, changed by debugfs(8)."""
    make(tools, path, write_home)
    if lines:
        debugfs(tools, path, *lines)
    return path


def carried(tools: Tools, old: Path, new: Path) -> Filesystem:
    """What `provision env` makes of it."""
    kept = Kept(opened(old), ["/home"])
    kept.check()

    def feed(out: BinaryIO) -> None:
        kept.add_to(out, set())
        out.write(bytes(tarfile.BLOCKSIZE * 2))

    make(tools, new, feed)
    tools.run(["e2fsck", "-fn", new])
    return opened(new)


def opened(image: Path) -> Filesystem:
    def read(offset: int, length: int) -> bytes:
        with image.open("rb") as f:
            return os.pread(f.fileno(), length, offset)

    return Filesystem(read)


def rename_attribute(image: Path, name: bytes) -> None:
    """Give the attribute with a name of as many Qs any other name, as the kernel lets everybody do."""
    data = image.read_bytes()
    assert data.count(b"Q" * len(name)) == 1
    image.write_bytes(data.replace(b"Q" * len(name), name))


@pytest.mark.parametrize(
    "name", [b'a"\n!touch MARK\n#', b"caf\xe9\xff", b'in "quotes"', b"a=b c\\", b"\n!touch MARK\n"]
)
def test_no_name_of_an_attribute_is_a_command_or_lost(name: bytes, tools: Tools, tmp_path: Path) -> None:
    mark = tmp_path / "m"
    name = name.replace(b"MARK", os.fsencode(mark))
    old = old_home(tools, tmp_path / "old", f"ea_set /home/u/a user.{'Q' * len(name)} value")
    rename_attribute(old, name)
    new = carried(tools, old, tmp_path / "a new one")
    assert described(new) == described(opened(old))
    assert dict(described(new)["home/u/a"][-1]) == {f"user.{os.fsdecode(name)}": b"value"}
    assert not mark.exists()


def test_attributes_that_fill_inode_and_block_have_room_in_the_new_ones(
    tools: Tools, tmp_path: Path
) -> None:
    lines = [f"ea_set /home/u/a user.n{n} {'v' * (n * 3)}" for n in range(1, 41)]
    (tmp_path / "nothing").touch()
    lines += [f"ea_set -f {tmp_path}/nothing /home/u/empty user.nothing"]
    lines += ["ea_set /home user.dir d", "ea_set /home/u trusted.x y"]
    lines += [f"ea_set /home/u/pipe security.selinux {'l' * 120}"]
    lines += [f"ea_set /home/u/{link} security.selinux {'l' * 120}" for link in ("link", "long")]
    old = old_home(tools, tmp_path / "old", *lines)
    before, after = described(opened(old)), described(carried(tools, old, tmp_path / "new"))
    assert after == before
    assert len(after["home/u/a"][-1]) == 40
    assert after["home/u/empty"][-1] == (("user.nothing", b""),)
    assert after["home/u/link"][-1] == (("security.selinux", b"l" * 120),)


def test_a_socket_is_left_out_with_its_attributes(tools: Tools, tmp_path: Path) -> None:
    old = old_home(tools, tmp_path / "old", "sif /home/u/pipe mode 0140755", "ea_set /home/u/pipe user.x y")
    new = carried(tools, old, tmp_path / "new")
    assert described(opened(old)).keys() - described(new).keys() == {"home/u/pipe"}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["sif /home/u/a flags 0x80800"], "encrypted by fscrypt"),
        (["sif /home/u flags 0x80800"], "encrypted by fscrypt"),
        (["sif /home/u/empty flags 0x10000000"], "inline_data"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_path(
    lines: Sequence[str], why: str, tools: Tools, tmp_path: Path
) -> None:
    old = old_home(tools, tmp_path / "old", *lines)
    path = lines[0].split()[1]
    with pytest.raises(InputError, match=f"'{path}' is to be kept, and is .*{why}"):
        Kept(opened(old), ["/home"]).check()


def test_an_attribute_in_an_inode_of_its_own_is_refused_by_its_path(tools: Tools, tmp_path: Path) -> None:
    old = tmp_path / "old"
    make(tools, old, write_home)
    tools.run(["debugfs", "-w", "-R", "feature ea_inode", old])
    (tmp_path / "value").write_bytes(b"v" * 9000)
    debugfs(tools, old, f"ea_set -f {tmp_path}/value /home/u/a user.large")
    with pytest.raises(InputError, match=r"'/home/u/a' is to be kept: its extended attribute b'large'"):
        Kept(opened(old), ["/home"]).check()


def test_directories_may_be_as_deep_as_they_like(tools: Tools, tmp_path: Path) -> None:
    def feed(out: BinaryIO) -> None:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for n in range(1, 1500):
                info = tarfile.TarInfo("./home/" + "/".join(["d"] * n))
                info.type = tarfile.DIRTYPE
                tar.addfile(info)

    make(tools, tmp_path / "old", feed)
    new = carried(tools, tmp_path / "old", tmp_path / "new")
    assert len(list(new.walk_from(new.find("home")))) == 1500


def test_a_directory_inside_itself_is_damage_and_no_endless_walk(tools: Tools, tmp_path: Path) -> None:
    old = old_home(tools, tmp_path / "old", "ln /home/u /home/u/again")
    with pytest.raises(InputError, match="has two names; the filesystem is damaged"):
        Kept(opened(old), ["/home"]).check()


def test_a_link_with_two_names_stays_one_and_flags_stay(tools: Tools, tmp_path: Path) -> None:
    lines = ["ln /home/u/link /home/u/second", "sif /home/u/link links_count 2"]
    lines += ["sif /home/u/a flags 0x80010", "sif /home/u flags 0x800e0"]
    new = carried(tools, old_home(tools, tmp_path / "old", *lines), tmp_path / "new")
    assert new.find("home/u/link").inode.number == new.find("home/u/second").inode.number
    assert new.find("home/u/a").inode.flags == 0x80010
    assert new.find("home/u").inode.flags == 0x800E0


@pytest.mark.parametrize("path", ["/etc", "/var"])
def test_files_of_the_seat_replace_those_that_are_kept(path: str, bench: Bench) -> None:
    seat = bench.project.seats / "tiny.yaml"
    seat.write_text(seat.read_text().replace("  private:\n", f"  private:\n    keep: [{path}]\n"))
    overlay = bench.disk.with_name("overlay")
    plan, _, profiles = load_plan(bench.project, "tiny")
    render_overlay(plan, profiles, "private", overlay)
    ours = {file.relative_to(overlay).as_posix() for file in overlay.rglob("*")}
    before = bench.contents("private")
    bench.replace("private", bench.new_image("private", "2"))
    after = bench.contents("private")
    assert after.keys() == before.keys()
    kept = {file for file in before if f"/{file}".startswith(f"{path}/")}
    assert kept & ours
    assert {file for file in kept - ours if before[file] != after[file]} == set()


def test_a_file_that_is_taken_over_whole_is_refused_by_its_path(tools: Tools, tmp_path: Path) -> None:
    lines = [f"sif /home/u/empty size {1 << 40}", "sif /home/u/a flags 0x80800"]
    there = opened(old_home(tools, tmp_path / "old", *lines))
    for path, why in (
        ("home/u/empty", "it is larger than 16 MiB"),
        ("home/u/a", "it is encrypted by fscrypt"),
        ("home/u/link", "it is a link, not a file"),
        ("home/u", "it is a directory, not a file"),
        ("home/u/null", "it is a device"),
    ):
        with pytest.raises(InputError, match=f"'/{path}' cannot be read: {why}"):
            there.data(there.find(path))


def test_damage_is_told_with_the_path_where_it_is(tools: Tools, tmp_path: Path) -> None:
    lines = ["sif /home/u/a block[0] 0", "sif /home block[0] 0"]
    there = opened(old_home(tools, tmp_path / "old", lines[0]))
    with pytest.raises(InputError, match=r"'/home/u/a' cannot be read: .*damaged"):
        list(there.content(there.find("home/u/a")))
    there = opened(old_home(tools, tmp_path / "other", lines[1]))
    with pytest.raises(InputError, match=r"'/home' cannot be read: .*damaged"):
        there.find("home/u/a")


def test_a_link_in_the_place_of_host_keys_is_refused_by_its_path(tools: Tools, tmp_path: Path) -> None:
    there = opened(old_home(tools, tmp_path / "old", "mkdir /etc", "symlink /etc/ssh ../home"))
    with pytest.raises(InputError, match="'/etc/ssh' is no directory"):
        persona_in(there)
