"""seatsmith-udev-forward: which messages does a container get, how many, and what happens to the others?"""

import importlib.machinery
import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.render.templates import template_root

PROGRAM = template_root() / "host/usr/lib/seatsmith/seatsmith-udev-forward"


def load_program() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("seatsmith_udev_forward", str(PROGRAM))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


forward: Any = load_program()


def message(*pairs: str) -> bytes:
    """What udevd would send: its header, then KEY=value strings."""
    body = b"".join(pair.encode() + b"\0" for pair in pairs)
    header: bytes = forward.HEADER.pack(b"libudev\0", b"\xfe\xed\xca\xfe", 40, 40, len(body))
    return header + bytes(40 - len(header)) + body


INPUT = message("ACTION=add", "SUBSYSTEM=input", "DEVNAME=/dev/input/event3")


class Wire:
    """A netlink socket that hands out what a test puts in, and keeps what is sent."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, int, int, int] | OSError] = []
        self.sent: list[bytes] = []

    def put(self, data: bytes, *, group: int = 2, uid: int = 0, flags: int = 0) -> None:
        self.waiting.append((data, group, uid, flags))

    def recvmsg(self, *_: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, tuple[int, int]]:
        if not self.waiting:
            raise BlockingIOError
        first = self.waiting.pop(0)
        if isinstance(first, OSError):
            raise first
        data, group, uid, flags = first
        credentials = forward.CREDENTIALS.pack(1, uid, 0)
        return data, [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)], flags, (0, group)

    def sendto(self, data: bytes, address: tuple[int, int]) -> None:
        assert address == (0, 2)
        self.sent.append(data)


@pytest.fixture
def wire() -> Iterator[Wire]:
    yield Wire()


def passed_on(wire: Wire) -> list[bytes]:
    forwarder = forward.Forwarder(wire, wire, {b"input", b"drm"})
    forwarder.take_in()
    forwarder.send_out()
    return wire.sent


def test_a_message_about_a_wanted_subsystem_arrives_unchanged(wire: Wire) -> None:
    wire.put(INPUT)
    wire.put(message("ACTION=add", "SUBSYSTEM=block", "DEVNAME=/dev/sda"))
    wire.put(message("ACTION=change", "SUBSYSTEM=drm", "HOTPLUG=1"))
    assert passed_on(wire) == [INPUT, message("ACTION=change", "SUBSYSTEM=drm", "HOTPLUG=1")]


@pytest.mark.parametrize(
    "how",
    [{"group": 1}, {"uid": 1000}, {"flags": socket.MSG_TRUNC}, {"flags": socket.MSG_CTRUNC}],
    ids=["from the kernel", "not from root", "cut off", "credentials cut off"],
)
def test_what_udevd_did_not_say_as_a_whole_is_not_passed_on(how: dict[str, int], wire: Wire) -> None:
    wire.put(INPUT, **how)
    assert passed_on(wire) == []


@given(st.binary(max_size=200))
def test_no_garbage_is_taken_for_a_message(data: bytes) -> None:
    assert forward.properties(data) is None or data.startswith(b"libudev\0\xfe\xed\xca\xfe")


@given(st.integers(0, len(INPUT) - 1))
def test_a_message_that_lacks_its_end_is_none(length: int) -> None:
    assert forward.properties(INPUT[:length]) is None


def test_a_flood_is_bounded_and_what_is_lost_is_counted(wire: Wire) -> None:
    for _ in range(forward.QUEUE + 10):
        wire.put(INPUT)
    forwarder = forward.Forwarder(wire, wire, {b"input"})
    forwarder.take_in()
    forwarder.take_in()
    assert (len(forwarder.queue), forwarder.lost) == (forward.QUEUE, 10)
    forwarder.send_out()
    assert forward.BURST <= len(wire.sent) < forward.BURST + 100


def test_an_overrun_of_the_kernels_buffer_is_survived(wire: Wire) -> None:
    wire.waiting.append(OSError(forward.errno.ENOBUFS, "overrun"))
    wire.put(INPUT)
    assert passed_on(wire) == [INPUT]


@given(st.lists(st.floats(0, 5), max_size=200))
def test_no_more_goes_out_than_the_rate_and_one_burst_allow(pauses: list[float]) -> None:
    pace, now, taken = forward.Pace(10.0, 20, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        while pace.take(now):
            taken += 1
        assert pace.wait() > 0
    assert taken <= 20 + now * 10 + 1e-6


def test_it_ends_when_the_container_has_ended_though_nothing_is_said_any_more() -> None:
    source, other = socket.socketpair()
    with source, other, subprocess.Popen(["sleep", "0.3"]) as container:
        leader = os.pidfd_open(container.pid)
        began = time.monotonic()
        forward.Forwarder(source, source, {b"input"}).run(leader)
        os.close(leader)
    assert 0.2 < time.monotonic() - began < 10


def test_the_program_says_in_one_line_what_it_wants() -> None:
    with pytest.raises(SystemExit) as caught:
        sys_argv = sys.argv
        sys.argv = ["seatsmith-udev-forward", "work"]
        try:
            forward.main()
        finally:
            sys.argv = sys_argv
    assert caught.value.code == 2
