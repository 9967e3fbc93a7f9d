"""Is a seat's file laid over its image exactly, and a damaged image noticed?"""

import io
import os
import random
import tarfile
from pathlib import Path

import pytest
import zstandard

from builder.errors import InputError
from builder.seat.tree import write_tree

EPOCH = 1793491200


def tar_of(members: dict[str, bytes | None], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.mode, info.mtime, info.uid = (0o755 if data is None else 0o640), 5, 1000
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            tar.addfile(info, io.BytesIO(data or b""))
    return buffer.getvalue()


def laid_over(image: bytes, overlay: Path, tmp_path: Path) -> tarfile.TarFile:
    path = tmp_path / "image.tar"
    path.write_bytes(image)
    out = io.BytesIO()
    write_tree(path, overlay, out, epoch=EPOCH)
    out.seek(0)
    return tarfile.open(fileobj=out)


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    place = tmp_path / "overlay"
    (place / "etc/new").mkdir(parents=True)
    (place / "etc/fstab").write_text("ours")
    (place / "etc/new/file").write_text("new")
    (place / "etc/link").symlink_to("new/file")
    (place / "etc/secret").write_text("s")
    (place / "etc/secret").chmod(0o600)
    return place


LONG = "usr/" + "deep/" * 30 + "file"
IMAGE: dict[str, bytes | None] = {
    "./etc": None,
    "./etc/fstab": b"the image's",
    "./etc/other": b"o" * 1000,
    "./usr": None,
    f"./{LONG}": b"long name",
    "./boot": None,
    "./boot/EFI": None,
    "./boot/EFI/x": b"belongs on the ESP",
    "./efi": None,
    "./efi/y": b"this, too",
}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("packed", [False, True])
def test_files_of_the_seat_replace_those_of_the_image(
    form: int, packed: bool, overlay: Path, tmp_path: Path
) -> None:
    image = tar_of(IMAGE, form)
    image = zstandard.ZstdCompressor().compress(image) if packed else image
    with laid_over(image, overlay, tmp_path) as tar:
        names = [m.name.removeprefix("./") for m in tar.getmembers()]
        assert len(names) == len(set(names))
        text = {m.name.removeprefix("./"): f.read() for m in tar if (f := tar.extractfile(m))}
        etc, secret = tar.getmember("./etc"), tar.getmember("./etc/secret")
        assert tar.getmember("./etc/link").linkname == "new/file"
    assert text["etc/fstab"] == b"ours"
    assert text["etc/other"] == b"o" * 1000
    assert text["etc/new/file"] == b"new"
    assert text[LONG] == b"long name"
    assert {"boot", "boot/EFI", "efi", "etc/new"} <= set(names)
    assert not {"boot/EFI/x", "efi/y"} & set(names)
    assert (etc.uid, etc.mode) == (1000, 0o755)  # as the image has it
    assert (secret.uid, secret.mode, secret.mtime) == (0, 0o600, EPOCH)


def test_the_same_image_and_overlay_give_the_same_stream(overlay: Path, tmp_path: Path) -> None:
    streams = []
    for _ in range(2):
        path = tmp_path / "image.tar"
        path.write_bytes(tar_of(IMAGE))
        out = io.BytesIO()
        write_tree(path, overlay, out, epoch=EPOCH)
        streams.append(out.getvalue())
        os.utime(overlay / "etc/fstab", (1, 1))
    assert streams[0] == streams[1]


@pytest.mark.parametrize("packed", [False, True])
def test_an_image_that_is_cut_off_anywhere_is_refused(packed: bool, overlay: Path, tmp_path: Path) -> None:
    image = tar_of(IMAGE)
    end = len(image.rstrip(b"\0")) // 512 * 512 + 512  # behind it only the end mark and padding
    image = zstandard.ZstdCompressor().compress(image) if packed else image
    last = len(image) if packed else end
    for length in random.Random(1).sample(range(1, last), 40):
        with pytest.raises(InputError, match=r"cut off|damaged"):
            laid_over(image[:length], overlay, tmp_path)


def test_a_flipped_bit_in_a_tar_header_is_noticed(overlay: Path, tmp_path: Path) -> None:
    image = bytearray(tar_of(IMAGE))
    image[image.index(b"./etc/other")] ^= 1
    with pytest.raises(InputError, match="checksum"):
        laid_over(bytes(image), overlay, tmp_path)


@pytest.mark.parametrize(
    ("image", "ours", "words"),
    [
        (
            {"./etc": None, "./etc/x": None, "./etc/x/y": b""},
            "etc/x",
            "/etc/x is a directory in .*image.tar",
        ),
        ({"./etc": None, "./etc/x": b""}, "etc/x/y", "/etc/x is a file in .*image.tar"),
    ],
)
def test_a_file_in_the_place_of_a_directory_is_told_with_both_places(
    image: dict[str, bytes | None], ours: str, words: str, tmp_path: Path
) -> None:
    place = tmp_path / "overlay"
    (place / ours).parent.mkdir(parents=True)
    (place / ours).write_text("ours")
    with pytest.raises(InputError, match=words + ", and a .* of the seat's own"):
        laid_over(tar_of(image), place, tmp_path)


def test_a_file_of_the_seat_takes_the_place_of_an_empty_directory(tmp_path: Path) -> None:
    place = tmp_path / "overlay"
    (place / "etc").mkdir(parents=True)
    (place / "etc/x").write_text("ours")
    with laid_over(tar_of({"./etc": None, "./etc/x": None}), place, tmp_path) as tar:
        assert tar.getmember("./etc/x").isfile()
