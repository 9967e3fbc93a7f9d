"""Does the prober read devices right, survive its own rows, and run as one file of Python alone?"""

import errno
import io
import itertools
import json
import os
import struct
import subprocess
import sys
import termios
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from builder.isolation.pack import command, packed, unpack_command
from builder.isolation.probe import drm, keyboard, main, screen, sound, terminals, victim
from builder.isolation.probe.calls import Absent, Context, Node, Notes, Refused
from builder.isolation.probe.listen import Source, plain
from builder.isolation.probe.nodes import fixed, is_same, ways
from builder.isolation.stage import word

FACTS: dict[str, Any] = {
    "host": False,
    "own_vt": 8,
    "front_vt": 7,
    "text_vt": 12,
    "premade": "/root/nodes",
    "events": [["/dev/input/event0", 13, 64, False]],
    "hidraws": [],
    "blocks": [],
    "victim": {"secret": "hidden"},
    "words": {"screen": "xylophon"},
    "sound": "",
    "sound_user": "",
}


def context(**more: Any) -> Context:
    return Context.read({**FACTS, **more})


def test_letters_are_read_from_an_event_device_as_they_go_down() -> None:
    typed = b"".join(keyboard.events("quick"))
    assert keyboard.pressed_letters(typed) == "quick"
    assert keyboard.pressed_letters(typed + b"half an event") == "quick"
    repeated = keyboard.EVENT.pack(0, 0, keyboard.EV_KEY, keyboard.CODES["q"], 2)
    assert keyboard.pressed_letters(repeated) == ""


def test_every_letter_has_its_own_key() -> None:
    assert sorted(keyboard.CODES) == [chr(n) for n in range(ord("a"), ord("z") + 1)]
    assert (keyboard.CODES["a"], keyboard.CODES["z"], keyboard.CODES["m"]) == (
        30,
        44,
        50,
    )  # input-event-codes.h


def test_letters_are_read_from_reports_of_a_usb_keyboard() -> None:
    reports = [(4,), (4, 5), (5,), (), (4,), (0x2C,), (29,)]  # a, then b while a is held, …, space, z
    data = b"".join(bytes([0, 0, *keys, *bytes(6 - len(keys))]) for keys in reports)
    assert keyboard.reported_letters(data) == "abaz"


def test_a_listener_says_what_it_heard_and_what_it_could_not_open() -> None:
    deaf = Source("keys-given", "read it", keyboard.pressed_letters, said="EPERM")
    silent = Source("keys-given", "read it", keyboard.pressed_letters, fd=3)
    heard = Source("keys-given", "read it", plain, fd=3, data=b"secret\n")
    assert [source.entry()["outcome"] for source in (deaf, silent, heard)] == ["refused", "refused", "done"]
    assert deaf.entry()["said"] == "EPERM"
    assert silent.entry()["said"] == "opens, and says nothing"


def test_notes_tell_refusals_from_what_is_not_there() -> None:
    notes = Notes()

    def refuse() -> None:
        raise PermissionError(errno.EPERM, "no")

    def absent() -> None:
        raise Absent("no card")

    def blank() -> None:
        raise Refused("blank")

    assert not notes.attempt("a", refuse)
    assert not notes.attempt("b", absent)
    assert not notes.attempt("c", blank)
    assert notes.attempt("d", lambda: 7)
    said = [(one["outcome"], one["said"]) for one in notes.tries]
    assert said == [("refused", "EPERM"), ("absent", "no card"), ("refused", "blank"), ("done", "7")]


def test_a_device_is_tried_as_given_made_and_found() -> None:
    null = Node("/dev/null", 1, 3)
    assert is_same(null)
    assert not is_same(fixed("/dev/null", 4, 0))  # another device by a name it was given
    assert [how for how, _ in ways(context(), null)] == [
        "open /dev/null, which it was given",
        "mknod null",
        "open a node of null on its disk",
    ]
    assert len(list(ways(context(), fixed("/dev/null", 4, 0)))) == 2
    assert [how for how, _ in ways(context(host=True, premade=""), null)] == ["open /dev/null", "mknod null"]


@pytest.mark.parametrize(
    ("layout", "size"),
    [  # sizes of the structures in drm_mode.h, drm.h, tiocl.h, kd.h, uinput.h
        (drm.RESOURCES, 64),
        (drm.CRTC, 104),
        (drm.FB, 28),
        (drm.FB2, 104),
        (drm.DUMB, 32),
        (drm.MAP, 16),
        (drm.PRIME, 12),
        (drm.LEASE, 24),
        (terminals.SELECTION, 11),
        (terminals.ENTRY, 4),
        (terminals.COLOURS, 48),
        (terminals.ACCENTS, 3076),
        (terminals.SIZES, 6),
        (keyboard.SETUP, 92),
    ],
)
def test_structures_have_the_kernels_sizes(layout: struct.Struct, size: int) -> None:
    assert layout.size == size


def test_requests_have_the_kernels_numbers() -> None:
    assert drm.request(0xA0, drm.RESOURCES) == 0xC04064A0  # DRM_IOCTL_MODE_GETRESOURCES
    assert drm.request(0xAD, drm.FB) == 0xC01C64AD  # DRM_IOCTL_MODE_GETFB
    assert drm.request(0x2D, drm.PRIME) == 0xC00C642D  # DRM_IOCTL_PRIME_HANDLE_TO_FD


def test_pixels_become_a_png_with_their_colours() -> None:
    picture = drm.Picture(1, width=4, height=2, pitch=20, handle=1)
    row = b"".join(struct.pack("<I", colour) for colour in (0xFF0000, 0x00FF00, 0x0000FF, 0x102030))
    data = drm.png(picture, (row + bytes(4)) * 2)
    start = data.index(b"IDAT") + 4
    lines = zlib.decompress(data[start : data.index(b"IEND") - 8])
    assert lines[:13] == b"\0\xff\0\0\0\xff\0\0\0\xff\x10\x20\x30"
    assert struct.unpack(">2I", data[16:24]) == (4, 2)


def test_a_blank_picture_proves_nothing() -> None:
    with pytest.raises(Refused, match="blank"):
        drm.png(drm.Picture(1, width=64, height=64, pitch=256, handle=1), bytes(64 * 256))


def test_a_framebuffer_without_memory_is_refused() -> None:
    with pytest.raises(Refused, match="handle 0"):
        drm.with_memory(drm.Picture(1, 1024, 768, 4096, 0))


def test_text_counts_as_read_only_with_the_word_that_stands_there() -> None:
    assert "xylophon" in terminals.shows(context(), b"\0xylophon\xff")
    with pytest.raises(Refused):
        terminals.shows(context(), b"another word")


def test_settings_of_all_consoles_are_set_to_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {terminals.GIO_CMAP: bytes(range(48)), terminals.KDGKBDIACRUC: struct.pack("=4I", 1, 96, 65, 192)}
    told[termios.TIOCGWINSZ] = struct.pack("=4H", 25, 80, 0, 0)
    written: dict[int, bytes] = {}

    def ioctl(_: int, request: int, data: bytearray | bytes = b"") -> None:
        if request in told:
            assert isinstance(data, bytearray)  # fcntl.ioctl fills nothing else of this size
            data[: len(told[request])] = told[request]
        else:
            written[request] = bytes(data)

    monkeypatch.setattr(terminals, "own", lambda _: os.open(os.devnull, os.O_RDWR))
    monkeypatch.setattr(terminals.fcntl, "ioctl", ioctl)
    notes = Notes()
    terminals.console_settings(notes, context())
    assert [entry["outcome"] for entry in notes.tries] == ["done"] * 3
    assert written.pop(terminals.PIO_CMAP) == told[terminals.GIO_CMAP]
    assert written.pop(terminals.KDSKBDIACRUC).rstrip(b"\0") == told[terminals.KDGKBDIACRUC].rstrip(b"\0")
    assert written == {terminals.VT_RESIZE: struct.pack("=3H", 25, 80, 0)}


def test_silence_is_no_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = struct.pack("<4h", 0, 3, -2, 1)
    monkeypatch.setattr(sound, "ask", lambda *_, **__: samples)
    with pytest.raises(Refused, match="silent"):
        sound.recorded(context(), "source")
    samples += struct.pack("<h", 9000)
    assert "as loud as 9000" in sound.recorded(context(), "source")


def test_a_server_of_its_own_is_not_anothers() -> None:
    import socket

    one, other = socket.socketpair()
    with one, other:
        with pytest.raises(Refused, match="its own"):
            screen.foreign(context(), one)
        screen.foreign(context(host=True), one)


def test_a_message_in_udevs_name_has_its_head_and_the_word() -> None:
    message = victim.packed("zebra")
    prefix, magic, head, offset, length = struct.unpack_from("=8s4sIII", message)
    assert (prefix, magic, head, offset) == (b"libudev\0", b"\xfe\xed\xca\xfe", 40, 40)
    assert len(message) == offset + length
    assert b"SEATSMITH=zebra\0" in message


def test_a_row_that_hangs_dies_or_fails_is_a_problem_of_that_row_alone() -> None:
    def hangs(notes: Notes, context: Context) -> None:
        time.sleep(60)

    def dies(notes: Notes, context: Context) -> None:
        os._exit(1)

    def fails(notes: Notes, context: Context) -> None:
        notes.attempt("first", lambda: "ok")
        raise KeyError("no such thing")

    assert main.tried(hangs, context(), 0.2)["problem"]
    assert main.tried(dies, context())["problem"]
    answer = main.tried(fails, context())
    assert "KeyError" in answer["problem"]
    assert answer["tries"][0]["how"] == "first"
    assert main.tried(lambda notes, _: None, context())["tries"] == []


def test_the_packed_prober_is_always_the_same_and_carries_every_module() -> None:
    assert packed() == packed()
    names = zipfile.ZipFile(io.BytesIO(packed())).namelist()
    modules = {path.name for path in Path(main.__file__).parent.glob("*.py")}
    assert set(names) == {"__main__.py", *(f"probe/{name}" for name in modules)}
    assert len(unpack_command()) < 100_000  # one argument of a program holds 128 KiB (execve(2))


def test_the_packed_prober_runs_with_python_alone_and_answers_in_json(tmp_path: Path) -> None:
    place = tmp_path / "prober"
    place.write_bytes(packed())
    given = command("try", {"context": FACTS, "rows": ["x11-host"]}).split()[-1]
    argv = [sys.executable, "-I", "-B", str(place), "try", given]
    output = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    first, second = (json.loads(line) for line in output.splitlines())
    assert set(first["confined"]) == {"CapBnd", "Seccomp", "NoNewPrivs", "uid_map", "cgroup"}
    assert second["row"] == "x11-host"
    assert "problem" not in second


def test_words_to_type_have_no_letter_twice_beside_itself() -> None:
    words = {word() for _ in range(50)}
    assert len(words) == 50
    for one in words:
        assert all(a != b for a, b in itertools.pairwise(one))
