"""Is a filesystem that we fill ourselves one that e2fsck finds nothing in, and that holds the whole tree?"""

import hashlib
import io
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from builder.errors import InputError
from builder.tools import Tools
from builder.volume import ext4
from builder.volume.ext4inode import modified
from builder.volume.ext4read import Filesystem
from tests.support.attributes import extended_attributes

SEED = "44444444-4444-4444-8444-444444444444"
SIZE = 400 << 20
EPOCH = 1700000000
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
Add = Callable[..., None]


def tar_by(fill: Callable[[Add], object]) -> ext4.Feed:
    def feed(out: BinaryIO) -> None:
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:

            def add(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: object) -> None:
                info = tarfile.TarInfo(f"./{name}")
                info.type, info.size, info.mtime = kind, len(data), 1600000000
                for key, value in fields.items():
                    setattr(info, key, value)
                tar.addfile(info, io.BytesIO(data))

            fill(add)

    return feed


def written(data: bytes) -> ext4.Feed:
    def feed(out: BinaryIO) -> None:
        out.write(data)

    return feed


def made(tools: Tools, path: Path, feed: ext4.Feed, size: int = SIZE) -> Filesystem:
    ext4.make(tools, path, size, feed, uuid=SEED, hash_seed=SEED, label="x", epoch=EPOCH)
    tools.run(["e2fsck", "-fn", path])
    fd = os.open(path, os.O_RDONLY)
    return Filesystem(lambda offset, length: os.pread(fd, length, offset))


def test_files_of_every_shape_come_out_as_they_went_in(tools: Tools, tmp_path: Path) -> None:
    chance = random.Random(4)
    block = ext4.BLOCK
    files = {
        f"shapes/{size}": chance.randbytes(size) for size in (0, 1, block - 1, block, block + 1, 300_000)
    }
    comb = b"".join(
        chance.randbytes(block) + bytes(block) for _ in range(1600)
    )  # more extents than one node has
    files |= {"zeros": bytes(9 * block), "holes": bytes(block) + b"x" + bytes(3 * block), "comb": comb}
    files |= {f"many/{'n' * (n % 200)}{n}": b"%d" % n for n in range(3000)}  # a directory of many blocks

    def fill(add: Add) -> None:
        add("", kind=tarfile.DIRTYPE, mode=0o751, uid=3)
        add("shapes", kind=tarfile.DIRTYPE, mode=0o2770, gid=70_000)
        for name, data in files.items():
            add(name, data, mode=0o640, uid=1000, gid=100_000)
        add("able", b"a", pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("latin-1")})
        add("soon", b"s", pax_headers={"mtime": "4000000000.25"})
        add("other", kind=tarfile.LNKTYPE, linkname="./shapes/1")
        add("short", kind=tarfile.SYMTYPE, linkname="a" * 59)
        add("long", kind=tarfile.SYMTYPE, linkname="b" * 60)

    there = made(tools, tmp_path / "made", tar_by(fill))
    for name, data in files.items():
        entry = there.find(name)
        assert there.digest(entry.inode) == hashlib.sha256(data).hexdigest(), name
        assert (entry.inode.mode, entry.inode.uid, entry.inode.gid) == (0o100640, 1000, 100_000)
    assert {len(there.target(there.find(name).inode)) for name in ("short", "long")} == {59, 60}
    able = there.raw_inode(there.find("able").inode.number)
    assert extended_attributes(able, there.block) == {"security.capability": CAPABILITY}
    assert modified(there.raw_inode(there.find("soon").inode.number)) == (4000000000, 250_000_000)
    assert there.find("other").inode.number == there.find("shapes/1").inode.number
    assert there.find("shapes").inode.mode == 0o42770
    assert there.find("").inode.mode == 0o40751
    assert not list(there.extents(there.find("zeros").inode)), "blocks of zeros take no room"
    assert {entry.path for entry in there.walk()} >= {*files, "lost+found", "many"}


def test_the_same_tree_gives_the_same_bytes_and_the_ranges_in_use_hold_them(
    tools: Tools, tmp_path: Path
) -> None:
    feed = tar_by(lambda add: [add(f"f{n}", os.fsencode(f"{n}") * n) for n in range(500)])
    digests = set()
    for name in ("one", "other"):
        made(tools, tmp_path / name, feed)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1
    with (tmp_path / "one").open("rb") as f, (tmp_path / "copy").open("wb") as g:
        g.truncate(SIZE)
        for start, end in ext4.used_ranges(tools, tmp_path / "one"):
            f.seek(start)
            g.seek(start)
            g.write(f.read(end - start))
    tools.run(["e2fsck", "-fn", tmp_path / "copy"])
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).hexdigest() in digests


def test_a_large_filesystem_is_filled_across_its_groups(tools: Tools, tmp_path: Path) -> None:
    """40 GiB have 20 blocks of group descriptors' backups and several flexible groups."""
    data = random.Random(5).randbytes(1 << 20)
    there = made(
        tools,
        tmp_path / "made",
        tar_by(lambda add: [add(f"f{n}", data) for n in range(300)]),
        size=40 << 30,
    )
    assert there.digest(there.find("f299").inode) == hashlib.sha256(data).hexdigest()


def test_inodes_run_over_into_further_groups(tools: Tools, tmp_path: Path) -> None:
    there = made(tools, tmp_path / "made", tar_by(lambda add: [add(f"{n:05}") for n in range(20_000)]))
    assert there.find("19999").inode.size == 0


@pytest.mark.parametrize(("major", "minor"), [(1, 3), (259, 300)])
def test_gnu_tar_s_files_with_holes_and_long_names_are_understood(
    major: int, minor: int, tools: Tools, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "sparse").open("wb") as f:
        for at in (100_000, 1 << 20, 30 << 20):
            f.seek(at)
            f.write(b"here")
        f.truncate(40 << 20)
    long = "l" * 200
    (tree / long).mkdir()
    (tree / long / "file").write_text("text")
    for form in ("pax", "gnu"):
        tar = tmp_path / f"{form}.tar"
        sparse = ["--sparse"] if form == "pax" else []
        tools.run(["tar", "-c", f"--format={form}", *sparse, "-f", tar, "-C", tree, "."])
        there = made(tools, tmp_path / form, written(tar.read_bytes()))
        found = there.find("sparse").inode
        assert there.digest(found) == hashlib.sha256((tree / "sparse").read_bytes()).hexdigest()
        assert sum(count for _, count, _ in there.extents(found)) == 3
        assert there.data(there.find(f"{long}/file")) == b"text"


BAD: dict[str, tuple[Callable[[Add], object], str]] = {
    "a name twice": (lambda add: [add("a"), add("a")], "twice"),
    "a link to nothing": (lambda add: add("a", kind=tarfile.LNKTYPE, linkname="./b"), "not in it"),
    "a step up": (lambda add: add("../a"), "cannot be"),
    "a kind of its own": (lambda add: add("a", kind=b"V"), "kind"),
    "too many files": (lambda add: [add(f"{n}") for n in range(200_000)], "has room for"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_unpacked_is_refused(case: str, tools: Tools, tmp_path: Path) -> None:
    fill, said = BAD[case]
    with pytest.raises(InputError, match=said):
        made(tools, tmp_path / "made", tar_by(fill))


def test_a_tar_that_is_cut_off_is_refused(tools: Tools, tmp_path: Path) -> None:
    out = io.BytesIO()
    tar_by(lambda add: add("a", bytes(5000)))(out)
    for length in (512, 700, 3000, 5632):
        with pytest.raises(InputError, match="cut off"):
            made(tools, tmp_path / "made", written(out.getvalue()[:length]))
