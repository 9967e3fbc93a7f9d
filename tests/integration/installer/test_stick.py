"""Is the stick what it should be: signed, complete, and the same whenever it is made from the same?"""

import json
import os
from pathlib import Path

import pytest
import zstandard

from builder.errors import InputError
from builder.files import file_digest
from builder.installer.answers import Answers
from builder.installer.build import Made, SecureBoot, build_installer
from builder.installer.layout import ANSWERS, CHECKOUT, CODE, PINS, SYSTEM
from builder.installer.stick import Ids
from builder.machine.kernel import read_uki
from builder.outputs.sign import check_signature
from builder.seat.images import Image
from tests.support.cpio import unpack
from tests.support.installers import KERNEL, PROFILES, Desk, small_root, without_wheels

GIVEN = Answers(seat="tiny", serial="S1")


@pytest.fixture
def root(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    without_wheels(monkeypatch, tmp_path / "wheels")
    monkeypatch.setenv("SIGNING_KEY", os.fspath(desk.key.secret))
    return small_root(tmp_path / "root", desk.tools)


def build(desk: Desk, root: Image, place: Path, *, secure_boot: SecureBoot | None = None) -> Made:
    return build_installer(
        desk.project,
        "tiny",
        root,
        results={name: desk.project.dist / name for name in PROFILES},
        place=place,
        keys=[desk.key.public],
        answers=GIVEN,
        tools=desk.tools,
        secure_boot=secure_boot,
    )


def test_one_signed_file_holds_seatsmith_the_seat_the_keys_and_the_answers(
    desk: Desk, root: Image, tmp_path: Path
) -> None:
    made = build(desk, root, tmp_path / "out")
    parts = read_uki(made.uki)
    assert parts.linux.rstrip(b"\0") == KERNEL
    initrd = parts.initrd.rstrip(b"\0")
    found = unpack(zstandard.ZstdDecompressor().decompressobj().decompress(initrd))
    key = found[f"{CHECKOUT}/ci/keys/{desk.key.public.name}"]
    assert key.data == desk.key.public.read_bytes()
    assert json.loads(found[f"{CHECKOUT}/{ANSWERS}"].data)["serial"] == "S1"
    sums = {name: file_digest(desk.project.dist / name / "SHA256SUMS") for name in PROFILES}
    assert json.loads(found[f"{CHECKOUT}/{PINS}"].data) == sums
    assert found[f"{CHECKOUT}/profiles/seats/tiny.yaml"].data
    assert f"{CODE}/builder/provision/apply.py" in found
    assert found["init"].data == b"usr/lib/systemd/systemd"
    assert "etc/fstab" not in found
    unit = found[f"{SYSTEM}/run-seatsmith-stick.mount"].data.decode()
    assert f"by-partuuid/{Ids('tiny').data}" in unit
    sums = tmp_path / "out/SHA256SUMS"
    signature = (tmp_path / "out/SHA256SUMS.gpg").read_bytes()
    assert check_signature(sums, signature, [desk.key.public.read_bytes()], tools=desk.tools).good
    assert f"{file_digest(made.uki)} *tiny.efi" in sums.read_text()


def test_the_stick_has_the_uki_where_firmware_looks_and_every_image_with_its_papers(
    desk: Desk, root: Image, tmp_path: Path
) -> None:
    made = build(desk, root, tmp_path / "out")
    table = json.loads(desk.tools.run(["sfdisk", "--json", made.stick]).stdout)["partitiontable"]
    esp, data = table["partitions"]
    assert table["label"] == "gpt"
    assert data["uuid"].lower() == str(Ids("tiny").data)
    copy = tmp_path / "copied.efi"
    at = f"{made.stick}@@{esp['start'] * 512}"
    desk.tools.run(["mcopy", "-i", at, "::/EFI/BOOT/BOOTX64.EFI", copy])
    assert file_digest(copy) == file_digest(made.uki)
    part = tmp_path / "data"
    with made.stick.open("rb") as f:
        f.seek(data["start"] * 512)
        part.write_bytes(f.read(data["size"] * 512))
    desk.tools.run(["e2fsck", "-f", "-n", part])
    for name in PROFILES:
        for path in (desk.project.dist / name).iterdir():
            there = desk.tools.run(["debugfs", "-R", f"cat /dist/{name}/{path.name}", part]).stdout
            assert there == path.read_bytes(), path.name


def test_a_stick_depends_on_its_input_alone(desk: Desk, root: Image, tmp_path: Path) -> None:
    first = build(desk, root, tmp_path / "one")
    second = build(desk, root, tmp_path / "two")
    assert file_digest(first.uki) == file_digest(second.uki)
    assert file_digest(first.stick) == file_digest(second.stick)


def test_with_a_key_for_secure_boot_the_uki_is_signed_as_firmware_asks(
    desk: Desk, root: Image, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "db.key", tmp_path / "db.pem"
    argv = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    desk.tools.run([*argv, "-subj", "/CN=db", "-keyout", key, "-out", certificate])
    made = build(desk, root, tmp_path / "out", secure_boot=SecureBoot(key, certificate))
    assert "verification OK" in desk.tools.run(["sbverify", "--cert", certificate, made.uki]).text


def test_a_stick_without_images_and_without_a_url_is_refused(
    desk: Desk, root: Image, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no images, and no `url:`"):
        build_installer(
            desk.project,
            "tiny",
            root,
            results={},
            place=tmp_path / "out",
            keys=[desk.key.public],
            answers=GIVEN,
            tools=desk.tools,
        )
