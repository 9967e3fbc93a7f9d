"""Does a TPM2 open a volume of the seat, only with its PIN, and is a header whole at every write of that?"""

import contextlib
import hashlib
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.errors import MachineError, TrustError
from builder.provision.enroll import enroll, tpm2, write_changes
from builder.provision.headers import header_bytes
from builder.run import dying_with_us
from builder.volume.luks import SECOND_HEADER
from builder.volume.medium import Medium
from tests.support.faults import Faulty, PowerCut
from tests.support.provisioned import Bench, MakeMedium
from tests.support.softwaretpm import software_tpm
from tests.support.tinyseat import PASSPHRASE

PIN = b"2580"
AUTH_FAIL = "0x0000098e"  # TPM_RC_AUTH_FAIL of the first session (TPM 2.0 library, part 2, 6.6.3)


@pytest.fixture
def tpm(bench: Bench) -> Iterator[str]:
    place = tempfile.TemporaryDirectory(prefix="tpm-")  # a socket's path is short
    with place as folder, software_tpm(bench.tools, Path(folder) / "state") as name:
        yield name


def enroll_work(
    bench: Bench,
    tpm: str,
    passphrase: bytes = PASSPHRASE,
    make: MakeMedium = Medium,
    *,
    pin: bytes | None = PIN,
) -> None:
    device = tpm2(tpm, pcrs="7", pin=bytearray(pin) if pin else None)
    with bench.opened(make) as disk, bench.empty_scratch() as scratch:
        enroll(disk, "work", device, bytearray(passphrase), tools=bench.tools, scratch=scratch)


def by_tpm(bench: Bench, tpm: str, pin: bytes) -> str:
    """What comes of opening the header by the TPM, by which a recovery key is added to a copy of it.

    ``opens``; ``wrong pin`` where the TPM itself says so, after which systemd-cryptenroll asks for another
    and is ended; else what was said.
    """
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        copy = scratch / "header"
        copy.write_bytes(before := header_bytes(disk, "work"))
        argv = ["systemd-cryptenroll", f"--unlock-tpm2-device={tpm}", "--recovery-key", copy]
        said, status = said_until(bench.tools.command(argv), "Failed to unseal", {"PIN": pin.decode()})
        changed = copy.read_bytes() != before
    if status == 0 and changed:
        return "opens"
    return "wrong pin" if AUTH_FAIL in said and not changed else said


def said_until(argv: list[str], last: str, env: dict[str, str]) -> tuple[str, int]:
    """What a program says, until it ends or has said ``last``; then, or after minutes, it is killed."""
    process = subprocess.Popen(
        dying_with_us(argv),
        env={"PATH": "/usr/bin:/bin", "HOME": "/root", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(120, process.kill)
    timer.start()
    said = ""
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if last in line:
                process.kill()
                break
    timer.cancel()
    return said, process.returncode


def test_a_tpm_opens_a_volume_with_the_right_pin_alone(bench: Bench, tpm: str) -> None:
    before = bench.contents("work")
    enroll_work(bench, tpm)
    with bench.opened() as disk:
        header = disk.header("work")
    assert header is not None
    assert header.tokens == ("systemd-tpm2",)
    assert by_tpm(bench, tpm, PIN) == "opens"
    assert by_tpm(bench, tpm, b"0000") == "wrong pin"
    assert by_tpm(bench, tpm, PIN) == "opens"
    assert bench.contents("work") == before


def test_a_pin_that_was_not_asked_for_at_enrolling_is_not_needed(bench: Bench, tpm: str) -> None:
    enroll_work(bench, tpm, pin=None)
    assert by_tpm(bench, tpm, b"0000") == "opens"


def test_another_tpm_opens_nothing(bench: Bench, tpm: str) -> None:
    enroll_work(bench, tpm)
    with (
        tempfile.TemporaryDirectory(prefix="tpm-") as folder,
        software_tpm(bench.tools, Path(folder) / "state") as other,
    ):
        said = by_tpm(bench, other, PIN)
    assert said not in ("opens", "wrong pin")
    assert "TPM" in said


def test_without_the_passphrase_or_a_device_nothing_is_enrolled(bench: Bench, tpm: str) -> None:
    with bench.opened() as disk:
        before = header_bytes(disk, "work")
    with pytest.raises(TrustError, match="no keyslot opens"):
        enroll_work(bench, tpm, b"wrong")
    with pytest.raises(MachineError, match="was not enrolled"):
        enroll_work(bench, "swtpm:path=/nowhere")
    with bench.opened() as disk:
        assert header_bytes(disk, "work") == before


def whole(header: bytes, at: int) -> bool:
    """Whether the primary or secondary LUKS2 header, there, is as its checksum says."""
    data = header[at : at + SECOND_HEADER]
    digest = hashlib.sha256(data[:448] + bytes(64) + data[512:]).digest()
    return data[:4] in (b"LUKS", b"SKUL") and data[448:480] == digest


def test_a_power_cut_while_a_header_changes_leaves_one_of_the_two_whole(bench: Bench, tpm: str) -> None:
    with bench.opened() as disk:
        old = header_bytes(disk, "work")
    enroll_work(bench, tpm)
    with bench.opened() as disk:
        new, start = header_bytes(disk, "work"), disk.offset("work")
    found: list[bytes] = []
    tally = 0
    while not found:
        with bench.opened() as disk:
            disk.medium.write(start, old)
        with bench.opened(cutting(tally)) as disk, contextlib.suppress(PowerCut):
            write_changes(disk, "work", old, new)
            found.append(header_bytes(disk, "work"))
        with bench.medium() as medium:
            left = medium.read(start, len(new))
        assert whole(left, 0) or whole(left, SECOND_HEADER)
        tally += 1
    assert found == [new]
    assert tally > 60


def cutting(at: int) -> MakeMedium:
    return lambda fd, path: Faulty(fd, path, at=at, kind="cut", torn=1)
