"""Does the broker understand what the kernel, udev and systemd tell it, and they what it tells them?"""

import contextlib
import ctypes
import errno
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.broker import real, sdnotify
from builder.broker import terminal as terminals
from builder.broker.real import HEADER, MAGIC, MASK, message_properties
from builder.broker.shapes import Shape
from builder.broker.terminal import ActiveTerminal

ASK = """
import os
from builder.broker import sdnotify
print(sorted((name, os.read(fd, 9)) for name, fd in sdnotify.kept().items()))
"""


def udev_message(*pairs: str, magic: bytes = MAGIC) -> bytes:
    body = b"".join(pair.encode() + b"\0" for pair in pairs)
    prefix, number = magic[:8], magic[8:]
    return HEADER.pack(prefix, number, HEADER.size, HEADER.size, len(body)) + body


def test_udevs_message_names_action_and_node() -> None:
    found = message_properties(udev_message("ACTION=add", "SUBSYSTEM=input", "DEVNAME=/dev/input/event3"))
    assert found == {"ACTION": "add", "SUBSYSTEM": "input", "DEVNAME": "/dev/input/event3"}


@pytest.mark.parametrize(
    "data",
    [b"", b"add@/devices/x\0ACTION=add\0", udev_message("ACTION=add", magic=b"libudev\0abcd"), MAGIC],
    ids=["empty", "the kernel's own", "another version", "cut off"],
)
def test_what_is_no_message_of_udevs_says_nothing(data: bytes) -> None:
    assert message_properties(data) == {}


HEARD = sum(1 << code for code in (29, 97, 56, 100, *range(59, 69), 87, 88))  # Ctrl, Alt, F1 to F12


@pytest.mark.parametrize(
    ("deaf", "keys", "types"), [(True, HEARD, 1 << 1), (False, (1 << 768) - 1, 0xFFFFFFFF)]
)
def test_masks_of_events_are_whole_longs_as_the_kernel_asks(
    deaf: bool, keys: int, types: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int, int]] = []

    def ioctl(fd: int, request: int, argument: bytes) -> None:
        kind, size, address = MASK.unpack(argument)
        asked.append((request, kind, size, int.from_bytes(ctypes.string_at(address, size), sys.byteorder)))

    monkeypatch.setattr(real.fcntl, "ioctl", ioctl)
    real.Devices(lambda node: Shape({}, {})).deafen(3, deaf=deaf)
    # _IOW('E', 0x93, struct input_mask); bits_from_user in drivers/input/evdev.c refuses half a long
    assert asked == [(0x40104593, 1, 96, keys), (0x40104593, 0, ctypes.sizeof(ctypes.c_long), types)]


@pytest.mark.parametrize("error", [errno.EBUSY, errno.EINVAL, errno.ENODEV])
def test_a_device_that_another_program_has_grabbed_is_left_to_it(
    error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ioctl(fd: int, request: int, argument: int) -> None:
        assert (request, argument) == (0x40044590, 1)  # _IOW('E', 0x90, int)
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(real.fcntl, "ioctl", ioctl)
    gone = pytest.raises(OSError) if error == errno.ENODEV else contextlib.nullcontext()
    with gone:
        real.Devices(lambda node: Shape({}, {})).grab(3, grabbed=True)


def test_a_change_of_the_terminal_is_seen_once(tmp_path: Path) -> None:
    active = tmp_path / "active"
    active.write_text("tty7\n")
    terminal = ActiveTerminal(str(active))
    assert (terminal.vt, terminal.moved()) == (7, False)
    active.write_text("tty10\n")
    assert (terminal.moved(), terminal.vt) == (True, 10)
    assert not terminal.moved()
    os.close(terminal.fd)


def test_a_terminal_that_cannot_be_asked_for_stops_nothing(tmp_path: Path) -> None:
    active = tmp_path / "active"
    active.write_text("tty7\n")
    terminal = ActiveTerminal(str(active), console=str(tmp_path / "missing"))
    terminal.activate(8)
    terminal.keys_off()
    terminal.console = str(active)
    terminal.activate(8)
    terminal.keys_off()
    os.close(terminal.fd)


def test_the_keyboard_of_a_console_is_turned_off_when_the_kernel_is_done_with_the_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    active, shown, asked = tmp_path / "active", 8, []
    active.write_text("tty8\n")

    def ioctl(fd: int, request: int, argument: bytearray | int) -> None:
        asked.append(request)
        if request == 0x80045432 and isinstance(argument, bytearray):  # TIOCGDEV
            argument[:2] = bytes([shown, 4])

    monkeypatch.setattr(terminals.fcntl, "ioctl", ioctl)
    terminal = ActiveTerminal(str(active), console=str(active))
    assert terminal.keys_off()
    assert asked == [0x80045432, 0x5601, 0x4B45], "VT_GETMODE waits for the console's lock"
    shown = 9
    assert not terminal.keys_off()
    assert asked[3:] == [0x80045432], "another one is shown by now"
    os.close(terminal.fd)


@pytest.mark.parametrize(("vt", "mode", "graphic"), [(8, 1, True), (8, 0, False), (9, 1, False)])
def test_a_desktop_is_seen_by_the_mode_of_the_terminal_that_is_shown(
    vt: int, mode: int, graphic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    active = tmp_path / "active"
    active.write_text("tty8\n")

    def ioctl(fd: int, request: int, argument: bytearray) -> None:
        argument[:2] = {0x80045432: bytes([8, 4]), 0x4B3B: bytes([mode, 0])}[request]  # TIOCGDEV, KDGETMODE

    monkeypatch.setattr(terminals.fcntl, "ioctl", ioctl)
    terminal = ActiveTerminal(str(active), console=str(active))
    assert terminal.graphic(vt) is graphic
    terminal.console = str(tmp_path / "missing")
    assert not terminal.graphic(vt)
    os.close(terminal.fd)


def test_a_terminal_whose_owner_holds_up_who_opens_it_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    active, console = tmp_path / "active", tmp_path / "console"
    active.write_text("tty7\n")
    os.mkfifo(console)
    terminal = ActiveTerminal(str(active), console=str(console))
    # to open a FIFO for reading alone waits, as it does for such a terminal
    monkeypatch.setattr(terminals.os, "O_RDWR", os.O_RDONLY)
    started = time.monotonic()
    terminal.activate(8)
    assert terminals.PATIENCE <= time.monotonic() - started < 5
    os.close(terminal.fd)


def test_a_display_server_that_has_its_turn_is_starting(tmp_path: Path) -> None:
    active, turn = tmp_path / "active", tmp_path / "turn"
    active.write_text("tty7\n")
    terminal = ActiveTerminal(str(active), turn=str(turn))
    assert not terminal.starting(), "a host where none starts in turn"
    turn.touch()
    assert not terminal.starting()
    with subprocess.Popen(["flock", turn, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin and server.stdout
        server.stdin.write(b"up\n")
        server.stdin.flush()
        server.stdout.read(3)
        assert terminal.starting()
        server.stdin.close()
    assert not terminal.starting()
    os.close(terminal.fd)


def test_systemd_is_handed_a_descriptor_to_keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = tmp_path / "notify"
    (tmp_path / "device").write_text("virtual")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        monkeypatch.setenv("NOTIFY_SOCKET", str(address))
        device = os.open(tmp_path / "device", os.O_RDONLY)
        sdnotify.keep("work.keyboard", device)
        os.close(device)
        message, fds, _, _ = socket.recv_fds(systemd, 1 << 12, 4)
    assert message.decode().split("\n") == ["FDSTORE=1", "FDNAME=work.keyboard"]
    assert os.read(fds[0], 100) == b"virtual"
    os.close(fds[0])


def test_what_systemd_kept_comes_back_by_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    given = "LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=work.a:work.b"
    out = subprocess.run(
        ["/bin/sh", "-c", f'{given} exec "$0" -c "$1" 3<one 4<two', sys.executable, ASK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == "[('work.a', b'one'), ('work.b', b'two')]"


def test_descriptors_that_were_meant_for_another_process_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LISTEN_PID", "1")
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert sdnotify.kept() == {}
