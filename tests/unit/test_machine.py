"""Do the small parts of the virtual PC do what a check relies on?"""

import math
import struct
import subprocess
import time
import wave
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from builder.errors import InputError, UsageError
from builder.machine import audio
from builder.machine.credentials import Credential, smbios_arguments
from builder.machine.errors import MachineDied
from builder.machine.hardware import DirectKernel, Firmware, Hardware, Sockets, qemu_arguments
from builder.machine.kernel import read_uki, uncompressed
from builder.machine.keys import combination, keys_for
from builder.machine.places import private_directory
from builder.machine.screen import Stillness, difference, dominant_colour
from builder.machine.subject import EnvironmentFacts
from builder.machine.watch import Watch, deadly_line, plain


@pytest.mark.parametrize(
    ("character", "keys"),
    [("a", ["a"]), ("A", ["shift", "a"]), ("?", ["shift", "slash"]), ("\n", ["ret"]), ("7", ["7"])],
)
def test_a_character_is_typed_by_the_keys_of_a_us_keyboard(character: str, keys: list[str]) -> None:
    assert keys_for(character) == keys


def test_a_character_that_no_key_types_is_refused() -> None:
    with pytest.raises(UsageError, match="'ä'"):
        keys_for("ä")


def test_a_combination_is_named_as_people_write_it() -> None:
    assert combination("ctrl-alt-F8") == ["ctrl", "alt", "f8"]
    assert combination("Enter") == ["ret"]
    assert combination("-") == ["minus"]


@given(st.text(alphabet="abcXYZ 0189!?-_=+[]{}\\|;:'\"`~,<.>/", max_size=40))
def test_everything_on_the_keyboard_can_be_typed(text: str) -> None:
    assert all(keys_for(character) for character in text)


def write_tone(path: Path, *parts: tuple[float, float]) -> None:
    """A recording as QEMU makes it: parts of (frequency, seconds); frequency 0 is silence."""
    left = np.concatenate(
        [
            10000 * np.sin(2 * math.pi * frequency * np.arange(int(seconds * audio.RATE)) / audio.RATE)
            for frequency, seconds in parts
        ]
    )
    with wave.open(str(path), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(audio.RATE)
        out.writeframes(np.stack([left, left], axis=1).astype("<i2").tobytes())


def test_a_tone_is_heard_at_its_frequency_among_silence(tmp_path: Path) -> None:
    recording = tmp_path / "sound.wav"
    write_tone(recording, (0, 1.0), (1000, 2.0), (0, 0.5))
    tone = audio.listen(recording)
    assert tone is not None
    assert abs(tone.frequency - 1000) < 1
    assert tone.purity > 0.95
    assert 1.8 < tone.seconds <= 2.1


def test_silence_is_no_tone_and_only_what_came_after_the_mark_counts(tmp_path: Path) -> None:
    recording = tmp_path / "sound.wav"
    write_tone(recording, (440, 1.0))
    mark = audio.recorded(recording)
    write_tone(recording, (440, 1.0), (0, 1.0))
    assert audio.listen(recording, mark) is None
    assert audio.listen(tmp_path / "sound.wav") is not None


@pytest.mark.parametrize(
    "line",
    [
        "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs",
        "You are in emergency mode. After logging in, type",
        "[  5.0] systemd[1]: Freezing execution.",
    ],
)
def test_a_line_that_ends_a_boot_is_recognised(line: str) -> None:
    assert deadly_line(f"[    0.1] Linux version 6\n{line}\n")


def test_ordinary_boot_messages_end_no_boot() -> None:
    assert deadly_line("[    0.1] Linux version 6\nReached target Multi-User System.\n") is None


def test_terminal_sequences_are_taken_out_of_the_serial_log() -> None:
    assert plain("\x1b[0;1;39mwork\x1b[0m\r\n") == "work\n"


def watched(folder: Path, command: str) -> Watch:
    process = subprocess.Popen(["/bin/sh", "-c", command], stdout=subprocess.DEVNULL)
    return Watch(process, folder / "serial", folder / "output")


def reason_of(watch: Watch) -> str:
    deadline = time.monotonic() + 10
    try:
        while time.monotonic() < deadline:
            try:
                watch.check()
            except MachineDied as e:
                return e.reason
            time.sleep(0.02)
        return "still alive"
    finally:
        watch.process.kill()
        watch.stop()
        watch.process.wait()


def test_a_panic_in_the_serial_log_is_noticed_while_qemu_runs_on(tmp_path: Path) -> None:
    watch = watched(tmp_path, "sleep 60")
    (tmp_path / "serial").write_bytes(b"[ 3.0] Kernel panic - not syncing: Attempted to kill init!\r\n")
    assert "kernel panicked" in reason_of(watch)


def test_a_qemu_that_ends_by_itself_is_noticed_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("qemu: cannot allocate memory\n")
    reason = reason_of(watched(tmp_path, "exit 3"))
    assert "status 3" in reason
    assert "cannot allocate memory" in reason


def test_a_machines_folder_is_private_and_gone_afterwards() -> None:
    with private_directory("unit") as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "overlay").write_text("x")
    assert not folder.exists()


def pe_file(sections: dict[str, bytes]) -> bytes:
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    head = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, len(sections), 0, 0, 0, 0, 0)
    at = len(header) + len(head) + 40 * len(sections)
    table, data = b"", b""
    for name, content in sections.items():
        row = struct.pack("<IIII", len(content), 0, len(content), at + len(data))
        table += name.encode().ljust(8, b"\0") + row + bytes(16)
        data += content
    return header + head + table + data


def test_a_uki_comes_apart_into_kernel_initrd_and_command_line(tmp_path: Path) -> None:
    path = tmp_path / "x.efi"
    path.write_bytes(pe_file({".linux": b"kernel", ".initrd": b"initrd", ".cmdline": b"quiet\0"}))
    parts = read_uki(path)
    assert (parts.linux, parts.initrd, parts.cmdline) == (b"kernel", b"initrd", "quiet")


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF" * 40, pe_file({".text": b"x"})])
def test_what_is_no_uki_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.efi"
    path.write_bytes(content)
    with pytest.raises(InputError):
        read_uki(path)


def test_a_compressed_kernel_is_unpacked_and_an_unknown_one_left_alone() -> None:
    elf = b"\x7fELF" + bytes(200)
    payload = zstandard.compress(elf)
    image = bytearray(2 * 512 + len(payload))
    image[0x1F1] = 1
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    image[1024:] = payload
    assert uncompressed(bytes(image)) == elf
    image[1024:1028] = b"????"
    assert uncompressed(bytes(image)) == bytes(image)


def picture(path: Path, colour: tuple[int, int, int]) -> Path:
    Image.new("RGB", (64, 48), colour).save(path)
    return path


def test_pictures_are_told_apart_by_what_they_show(tmp_path: Path) -> None:
    black, white = picture(tmp_path / "a.png", (0, 0, 0)), picture(tmp_path / "b.png", (255, 255, 255))
    assert difference(black, black) == 0
    assert difference(black, white) == 1
    assert dominant_colour(white) == (255, 255, 255)


def test_a_screen_stands_still_only_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("builder.machine.screen.time.monotonic", lambda: now)
    stillness = Stillness(tmp_path / "before.png")
    stillness.seconds(picture(tmp_path / "now.png", (10, 20, 30)))
    now = 107.0
    assert stillness.seconds(picture(tmp_path / "now.png", (10, 20, 30))) == 7
    assert stillness.seconds(picture(tmp_path / "now.png", (200, 20, 30))) == 0


def test_a_secret_reaches_qemu_by_a_private_file_and_not_by_its_arguments(tmp_path: Path) -> None:
    words = smbios_arguments([Credential("cryptsetup.passphrase", "opensesame")], tmp_path)
    assert "opensesame" not in " ".join(words)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_full_route_has_firmware_and_the_fast_one_a_kernel(tmp_path: Path) -> None:
    sockets = Sockets(tmp_path)
    full = qemu_arguments(Hardware(tmp_path / "disk", Firmware("quiet")), sockets, name="x")
    kernel = DirectKernel(tmp_path / "vmlinux", tmp_path / "initrd", "root=/dev/mapper/root")
    fast = qemu_arguments(Hardware(tmp_path / "disk", kernel), sockets, name="x")
    assert any("OVMF_CODE" in word for word in full)
    assert "-kernel" not in full
    assert "-kernel" in fast
    assert not any("OVMF" in word for word in fast)


def test_a_guest_has_no_network_and_its_reset_ends_qemu_unless_asked_for(tmp_path: Path) -> None:
    words = qemu_arguments(Hardware(tmp_path / "disk", Firmware()), Sockets(tmp_path), name="x")
    assert words[words.index("-nic") + 1] == "none"
    assert "-no-reboot" in words
    free = Hardware(tmp_path / "disk", Firmware(), resets=True)
    assert "-no-reboot" not in qemu_arguments(free, Sockets(tmp_path), name="x")


def test_the_unit_of_a_volume_is_named_as_systemd_escapes_it() -> None:
    facts = EnvironmentFacts(name="gentoo-work", vt=8)
    assert facts.volume_unit == "systemd-cryptsetup@gentoo\\x2dwork.service"
