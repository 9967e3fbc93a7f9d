"""Who on the host holds secrets, and notices what reaches it? A process that does nothing else.

It says where they are on its first line, and then a line for each thing that it noticed.
"""

import contextlib
import ctypes
import json
import mmap
import os
import secrets
import selectors
import signal
import socket
import struct
from pathlib import Path
from typing import Any

from . import drm
from .calls import SYS_ADD_KEY, SYS_KEYCTL, SYS_SHMAT, SYS_SHMGET, Absent, syscall, text

KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_SETPERM, KEYCTL_LINK = 1, 5, 8
ALL_FOR_USER = 0x3F3F0000  # its possessor, and the same user
SESSION_KEYRING, USER_KEYRING = -3, -4
IPC_CREAT = 0o1000
NETLINK_KOBJECT_UEVENT = 15
NAME = "seatsmith-victim"
PLACE = Path("/run/user/0/wayland-7")


def victim(words: list[str]) -> int:
    """Hold secrets until it is ended. ``words`` are what it looks for in messages about devices."""
    secret = os.environ["SEATSMITH_SECRET"]
    memory = ctypes.create_string_buffer(secret.encode())
    facts: dict[str, Any] = {"pid": os.getpid(), "secret": secret, "address": ctypes.addressof(memory)}
    facts |= {"key": NAME, "abstract": NAME, "wayland": str(PLACE)}
    keep_key(secret)
    facts["shm"] = keep_shared(secret)
    cards: list[int] = []
    try:
        cards.append(drm.card())
        facts["flink"] = drm.new_name(cards[0])
    except (OSError, Absent) as e:
        facts["no_flink"] = str(e)
    signal.signal(signal.SIGUSR1, lambda *_: note("signal"))
    watch = selectors.DefaultSelector()
    for name in (f"\0{NAME}", str(PLACE)):
        watch.register(server(name), selectors.EVENT_READ, "client")
    watch.register(uevents(), selectors.EVENT_READ, "uevent")
    print(json.dumps(facts), flush=True)
    while True:
        for ready, _ in watch.select():
            end = ready.fileobj
            assert isinstance(end, socket.socket)
            if ready.data == "client":
                with end.accept()[0] as client, contextlib.suppress(OSError):  # who hangs up again at once
                    client.sendall(secret.encode())
            else:
                noticed(end.recv(1 << 16), words)


def note(what: str) -> None:
    os.write(1, f"{json.dumps(what)}\n".encode())


def noticed(message: bytes, words: list[str]) -> None:
    for word in words:
        if word.encode() in message:
            note(word)


def keep_key(secret: str) -> None:
    """A key that every process of the host's root may read. Who possesses it may say so."""
    syscall(SYS_KEYCTL, KEYCTL_JOIN_SESSION_KEYRING, text(NAME))
    syscall(SYS_KEYCTL, KEYCTL_LINK, USER_KEYRING, SESSION_KEYRING)
    key = syscall(SYS_ADD_KEY, text("user"), text(NAME), text(secret), len(secret), USER_KEYRING)
    syscall(SYS_KEYCTL, KEYCTL_SETPERM, key, ALL_FOR_USER)


def keep_shared(secret: str) -> int:
    """A System V segment with the secret in it; its key."""
    key = secrets.randbits(30) | 1
    segment = syscall(SYS_SHMGET, key, mmap.PAGESIZE, IPC_CREAT | 0o600)
    place = syscall(SYS_SHMAT, segment, 0, 0)
    ctypes.memmove(place, secret.encode(), len(secret))
    return key


def server(name: str) -> socket.socket:
    if not name.startswith("\0"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).unlink(missing_ok=True)
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    end.bind(name)
    end.listen(16)
    return end


def uevents() -> socket.socket:
    """What the kernel (group 1) and udevd (2) say about devices, and whoever speaks for them."""
    end = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    end.bind((0, 3))
    return end


def packed(word: str) -> bytes:
    """A message as udevd sends it (systemd's device-monitor.c), about a keyboard that there is not."""
    body = f"ACTION=add\0SUBSYSTEM=input\0DEVNAME=/dev/input/event99\0SEATSMITH={word}\0".encode()
    return struct.pack("=8s4sIII16x", b"libudev\0", 0xFEEDCAFE.to_bytes(4, "big"), 40, 40, len(body)) + body
