"""Is an archive refused in which another program would find an entry that was not checked?"""

import io
import os
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import TrustError
from builder.publish.safetar import check_archive
from builder.publish.tarstream import members
from tests.support.results import entry

DEVICE = entry("./dev/evil", tarfile.CHRTYPE).tobuf(tarfile.USTAR_FORMAT)
END = bytes(2 * tarfile.BLOCKSIZE)


def summed(header: bytes) -> bytes:
    """A header with its checksum."""
    block = bytearray(header)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def patched(header: bytes, place: int, data: bytes) -> bytes:
    return summed(header[:place] + data + header[place + len(data) :])


def pax(records: bytes, member: bytes) -> bytes:
    """A member behind an extended header of these records."""
    info = entry("./PaxHeader", tarfile.XHDTYPE)
    info.size = len(records)
    return info.tobuf(tarfile.USTAR_FORMAT) + records.ljust(tarfile.BLOCKSIZE, b"\0") + member


def plain(name: str = "./a", kind: bytes = tarfile.REGTYPE) -> bytes:
    return entry(name, kind).tobuf(tarfile.USTAR_FORMAT)


def listed(path: Path) -> list[str]:
    """Kinds and names as GNU tar, which unpacks, sees them."""
    argv = ["tar", "-P", "--quoting-style=literal", "-tvf", path]
    text = subprocess.run(argv, capture_output=True, check=False).stdout.decode(errors="surrogateescape")
    # kind and rights, owner, size, day, time, name; the name can be empty
    rows = [line.split(None, 5) for line in text.split("\n") if line]
    return [row[0][0] + (row[5:] or [""])[0].partition(" -> ")[0].partition(" link to ")[0] for row in rows]


@pytest.mark.parametrize(
    ("data", "said", "hidden"),
    [
        (plain() + patched(DEVICE, 108, b"0 garbag"), "in the place of a member or the end", "c./dev/evil"),
        (pax(b"27 GNU.sparse.name=../evil\n", plain()), "the one kind of sparse file", "-../evil"),
        (pax(b"12 size=512\n", plain("./d", tarfile.DIRTYPE)) + DEVICE, "that has content", "c./dev/evil"),
        (patched(plain("./d", tarfile.DIRTYPE), 124, b"00000001000\0") + DEVICE, "has content", None),
        (
            patched(plain("x/evil"), 257, b"ustar  \0" + bytes(80) + b"./a"),
            "not a header of the POSIX",
            None,
        ),
        (entry("./" + "a" * 200).tobuf(tarfile.GNU_FORMAT), "not a header of the POSIX format", None),
        (pax(b"12 path=./b\nxx\n", plain()), "malformed", None),
        (pax(b"12 path=./bX", plain("./evil")), "record of its extended header is malformed", "-./evil"),
        (pax(b"012 path=./b\n", plain()), "malformed", None),
        (pax(b"99 path=./b\n", plain()), "malformed", None),
        (pax(b"12 path=./b\n12 path=./c\n", plain()), "says something twice", None),
        (pax(b"21 hdrcharset=BINARY\n", plain()), "with 'hdrcharset'", None),
        (pax(b"12 path=./b\n", pax(b"12 path=./c\n", plain())), "of an extended header", None),
        (plain("./g", b"g") + plain(), "a header of type b'g'", None),
        (patched(plain(), 124, b"0_1" + bytes(9)), "no plain number", None),
        (pax(b"17 linkpath=..\0x\n", plain("./l", tarfile.SYMTYPE)), "control character", None),
        (pax(b"16 path=./evil/\n", plain()), "name of a directory", "d./evil/"),
        (pax(b"22 GNU.sparse.major=1\n", plain()), "sparse file", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_header_that_programs_read_differently_is_refused(
    tmp_path: Path, data: bytes, said: str, hidden: str | None
) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(data + END)
    with pytest.raises(TrustError, match=said):
        check_archive(path)
    if hidden:
        assert hidden in listed(path), "which is what GNU tar would unpack"


def test_an_archive_without_its_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(plain())
    with pytest.raises(TrustError, match="empty header in the place of a member or the end"):
        check_archive(path)


def test_what_gnu_tar_writes_for_mkosi_is_taken(tmp_path: Path) -> None:
    """Names that do not fit into a header, files with holes, links, numbers that need a record."""
    tree, path = tmp_path / "tree", tmp_path / "image.tar"
    deep = tree / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    for holes in (tree / "holes", deep / "holes"):
        with holes.open("wb") as f:
            f.write(b"start")
            f.truncate(1 << 20)
            f.seek(1 << 19)
            f.write(b"middle")
    (tree / "link").symlink_to("t" * 150)
    os.link(deep / "holes", tree / "hard")
    (tree / "münchen").write_text("x")
    words = ["--create", "--file", path, "--directory", tree, "--xattrs", "--sparse", "--owner=big:3000000"]
    subprocess.run(["tar", *words, "--pax-option=delete=atime,delete=ctime,delete=mtime", "."], check=True)
    assert check_archive(path).files == 8
    found = {m.path for m in members(path)}
    assert found == {"", *(os.fspath(p.relative_to(tree)) for p in tree.rglob("*"))}


def scrambled(chance: random.Random) -> bytes:
    """A small archive with something wrong in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(3):
            info = entry(
                f"./{'long' * chance.choice([1, 40])}{number}", chance.choice([b"0", b"0", b"5", b"2"])
            )
            info.linkname = "target" if info.issym() else ""
            info.size = chance.choice([0, 5, 512]) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(DEVICE[: info.size]))
    made = bytearray(buffer.getvalue())
    values = [
        b"\0" * 8,
        b"00000001",
        b"1000  \0",
        b"\x80" + bytes(7),
        b"\xff" * 8,
        b"-1\0",
        b"0_1\0",
        b"1\0garbag",
    ]
    actions: list[Callable[[int], None]] = [
        lambda start: made.__setitem__(start + 156, chance.choice(b"01234567xgLKSV\0")),
        lambda start: made.__setitem__(start + chance.randrange(512), chance.randrange(256)),
        lambda start: made.__delitem__(slice(start, start + 512)),
        lambda start: made.__setitem__(
            slice(place := start + chance.choice([0, 100, 108, 124, 257, 345]), place + 8),
            chance.choice(values),
        ),
    ]
    for _ in range(chance.randint(1, 3)):
        start = 512 * chance.randrange(8)
        chance.choice(actions)(start)
        made[start : start + 512] = summed(bytes(made[start : start + 512].ljust(512, b"\0")))
    return bytes(made)


def test_what_passes_is_read_alike_by_gnu_tar(tmp_path: Path) -> None:
    path, passed = tmp_path / "image.tar", 0
    kinds = {"file": "-", "directory": "d", "symlink": "l", "hardlink": "h"}
    for seed in range(600):
        path.write_bytes(scrambled(random.Random(seed)))
        try:
            check_archive(path)
        except TrustError:
            continue
        passed += 1
        ours = [kinds[m.kind] + m.raw for m in members(path)]
        assert [name.rstrip("/") for name in listed(path)] == [name.rstrip("/") for name in ours], seed
    assert passed > 50
