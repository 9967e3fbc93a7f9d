"""Does the installer understand its answers, find the one disk that is meant, and pack an initrd rightly?"""

import io
import stat
import tarfile
from pathlib import Path

import pytest

from builder.errors import InputError, TrustError
from builder.installer.answers import Answers, Then, read_answers
from builder.installer.cpio import write_cpio
from builder.installer.disks import with_serial
from builder.installer.firmware import entries_called, start_first
from builder.installer.layout import unwanted
from builder.installer.pythonparts import locked, needed
from builder.installer.trial import FAILED
from builder.profile.positions import FileError
from builder.run import Result
from tests.support.cpio import Entry, unpack

NAMES = ("work", "private")


def answers(place: Path, text: str) -> Path:
    path = place / "answers.yaml"
    path.write_text(text)
    return path


def test_answers_name_seat_disk_and_what_follows(tmp_path: Path) -> None:
    text = "seat: mypc\nserial: S3Z9NB0K123456\nthen: poweroff\nhostnames:\n  work: desk\n"
    found = read_answers(answers(tmp_path, text), NAMES)
    assert (found.seat, found.serial, found.then) == ("mypc", "S3Z9NB0K123456", Then.POWEROFF)
    assert found.hostnames == {"work": "desk"}
    assert (found.wipe, found.url, found.for_tests) == (None, None, False)


def test_answers_survive_being_put_into_the_installer(tmp_path: Path) -> None:
    given = Answers(seat="mypc", serial="S1", url="https://example.org/images", wipe="0123abcd")
    assert read_answers(answers(tmp_path, given.model_dump_json(exclude_none=True)), NAMES) == given


@pytest.mark.parametrize("name", ["passphrase", "password", "recovery_key"])
def test_a_secret_in_the_answers_is_refused_with_its_line_and_not_repeated(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(InputError) as caught:
        read_answers(answers(tmp_path, f"seat: mypc\n{name}: hunter22\n"), NAMES)
    assert "answers.yaml:2" in caught.value.message
    assert "hunter22" not in caught.value.message
    assert "credential" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("disk: /dev/sda", "disk"),
        ("serial: a b", "serial"),
        ("then: explode", "then"),
        ("wipe: everything", "wipe"),
        ("url: ftp://example.org", "url"),
        ("wipe: 0f3a91c2", "is of the disk with a `serial`, which is not given"),
        ("hostnames: {wrk: desk}", "hostnames.wrk: is no environment of the seat; there are: work, private"),
    ],
)
def test_wrong_answers_are_refused_with_their_line(tmp_path: Path, line: str, wrong: str) -> None:
    with pytest.raises(FileError) as caught:
        read_answers(answers(tmp_path, f"seat: mypc\n{line}\n"), NAMES)
    [problem] = caught.value.problems
    assert problem.position.line == 2
    assert wrong in problem.message


def disk(place: Path, name: str) -> Path:
    place.mkdir(exist_ok=True)
    path = place / name
    path.write_bytes(bytes(4096))
    return path


def test_the_disk_is_found_by_its_serial_number(tmp_path: Path) -> None:
    disks = [disk(tmp_path, "A1"), disk(tmp_path, "B2")]
    assert with_serial("B2", lambda: disks, patience=0).identity.path == disks[1]


def test_without_that_serial_number_the_disks_that_are_there_are_named(tmp_path: Path) -> None:
    disks = [disk(tmp_path, "A1"), disk(tmp_path, "B2")]
    with pytest.raises(InputError) as caught:
        with_serial("C3", lambda: disks, patience=0)
    assert "C3" in caught.value.message
    assert all(str(d) in caught.value.message for d in disks)


def test_a_disk_that_shows_up_late_is_waited_for(tmp_path: Path) -> None:
    late = disk(tmp_path, "A1")
    answers = iter([[], [late]])
    assert with_serial("A1", lambda: next(answers), patience=30).identity.path == late


def test_two_disks_with_one_serial_number_are_refused(tmp_path: Path) -> None:
    disks = [disk(tmp_path / "one", "A1"), disk(tmp_path / "two", "A1")]
    with pytest.raises(TrustError, match="all have the serial number A1"):
        with_serial("A1", lambda: disks, patience=0)


def packed(place: Path) -> bytes:
    """A small image with an overlay over it, as an initrd."""
    image, overlay = place / "image.tar", place / "overlay"
    overlay.joinpath("usr/bin").mkdir(parents=True, exist_ok=True)
    (overlay / "usr/bin/tool").write_text("#!/bin/sh\nours\n")
    (overlay / "usr/bin/tool").chmod(0o755)
    if not (overlay / "init").is_symlink():
        (overlay / "init").symlink_to("usr/bin/tool")
    with tarfile.open(image, "w") as tar:
        for name, kind in (("./usr", tarfile.DIRTYPE), ("./usr/bin", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            tar.addfile(info)
        for name, data, owner in (
            ("./usr/bin/tool", b"theirs", 0),
            ("./usr/bin/odd", b"12345", 7),
            ("./usr/share/man/page", b"long", 0),
        ):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.uid = len(data), 0o4755, owner
            tar.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("./usr/bin/twin")
        info.type, info.linkname, info.mode = tarfile.LNKTYPE, "./usr/bin/odd", 0o4755
        tar.addfile(info)
    out = io.BytesIO()
    write_cpio(image, overlay, out, epoch=1000, unwanted=unwanted)
    return out.getvalue()


def test_an_initrd_has_the_image_under_the_overlay(tmp_path: Path) -> None:
    found = unpack(packed(tmp_path))
    assert found["usr/bin/tool"] == Entry(stat.S_IFREG | 0o755, 0, b"#!/bin/sh\nours\n")
    assert found["usr/bin/odd"] == Entry(stat.S_IFREG | 0o4755, 7, b"12345")
    assert found["usr/bin/twin"] == Entry(stat.S_IFREG | 0o4755, 0, b"12345")
    assert found["init"] == Entry(stat.S_IFLNK | 0o777, 0, b"usr/bin/tool")
    assert stat.S_ISCHR(found["dev/console"].mode)
    assert "usr/share/man/page" not in found


def test_an_initrd_depends_on_its_input_alone(tmp_path: Path) -> None:
    assert packed(tmp_path) == packed(tmp_path)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("usr/lib/modules/6.1/kernel/drivers/gpu/drm/i915/i915.ko", True),
        ("usr/lib/modules/6.1/vmlinuz", True),
        ("usr/lib/modules/6.1/kernel/drivers/nvme/host/nvme.ko", False),
        ("usr/lib/python3.13/test/support.py", True),
        ("usr/lib/python3.13/tarfile.py", False),
        ("boot/EFI/Linux/image.efi", True),
        ("usr/lib/systemd/boot/efi/systemd-bootx64.efi", False),
        ("etc/machine-id", True),
    ],
)
def test_what_an_installer_has_no_use_for_is_left_out(name: str, left_out: bool) -> None:
    assert unwanted(name) is left_out


def test_the_installer_gets_pinned_packages_without_those_of_builds_and_tests() -> None:
    lock = Path(__file__).parents[2] / "requirements.lock"
    names = needed("3.13")
    assert {"pydantic", "pydantic-core", "cryptography", "cffi", "zstandard"} <= set(names)
    assert not {"mypy", "qemu-qmp", "lxml", "pytest", "execnet", "numpy", "pillow"} & set(names)
    text = locked(lock, names)
    assert text.count("==") == len(names)
    assert text.count("--hash=sha256:") > len(names)


def test_a_package_that_is_not_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("one==1 \\\n    --hash=sha256:00\n")
    with pytest.raises(InputError, match="does not have two"):
        locked(tmp_path / "lock", ["one", "two"])


@pytest.mark.parametrize(
    ("said", "failed"),
    [
        ("error: no such device\nSeatsmith installer: seat tiny\n", False),
        ("Seatsmith installer: seat tiny\n", False),
        ("Seatsmith installer: seat tiny\nerror: /dev/vdb is not empty\n", True),
    ],
)
def test_a_trial_tells_the_installers_errors_from_the_kernels(said: str, failed: bool) -> None:
    assert bool(FAILED.search(said)) is failed


LISTED = """\
BootCurrent: 0001
Timeout: 0 seconds
BootOrder: 0001,0000,0003,00AF
Boot0000* UiApp\tFvVol(7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1)/FvFile(462caa21-7614-4503-836e-8ab6f4662331)
Boot0001* Seatsmith tiny\tHD(1,GPT,1b0c,0x800,0x24000)/File(\\EFI\\systemd\\systemd-bootx64.efi)
Boot0003  Seatsmith tiny
Boot00AF* Seatsmith tiny too\tHD(1,GPT,1b0d)
"""


class Firmware:
    """What stands in for the tools: efibootmgr's options of version 18, and a list of entries."""

    OPTIONS = ("create", "disk", "part", "label", "loader", "quiet", "bootnum", "delete-bootnum")

    def __init__(self, status: int) -> None:
        self.asked: list[list[str]] = []
        self.status = status

    def run(self, argv: list[object], *, check: bool = True) -> Result:
        words = [str(word) for word in argv]
        assert words[0] == "efibootmgr"
        assert {w for w in words if w.startswith("--")} <= {f"--{option}" for option in self.OPTIONS}
        self.asked.append(words)
        failed = "--create" in words and self.status
        return Result(self.status if failed else 0, LISTED.encode(), b"Could not: No space left\n", 0.0)


@pytest.mark.parametrize(("status", "said"), [(0, ""), (5, "took no boot entry (Could not: No space left)")])
def test_the_firmware_gets_one_entry_in_place_of_those_of_the_same_name(
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("builder.installer.firmware.EFI_VARIABLES", tmp_path)
    firmware = Firmware(status)
    start_first(Path("/dev/vdb"), "tiny", firmware)  # type: ignore[arg-type]
    assert [a[a.index("--bootnum") + 1] for a in firmware.asked if "--bootnum" in a] == ["0001", "0003"]
    created = [a for a in firmware.asked if "--create" in a]
    assert [(a[a.index("--disk") + 1], a[a.index("--label") + 1]) for a in created] == [
        ("/dev/vdb", "Seatsmith tiny")
    ]
    assert said in capsys.readouterr().err
    assert entries_called("UiApp", LISTED) == ["0000"]
