"""Can it reach processes of the host, and what they hold: memory, keys, sockets?

The process in question is victim.py, which holds a secret in each of these ways.
"""

import ctypes
import os
import signal
import socket
import struct
from pathlib import Path

from .calls import SYS_KEYCTL, SYS_PTRACE, SYS_SHMAT, SYS_SHMGET, Context, Notes, Refused, syscall, text
from .screen import foreign

PTRACE_ATTACH, PTRACE_DETACH = 16, 17
KEYCTL_SEARCH, KEYCTL_READ = 10, 11
USER_KEYRING = -4
PAGE = 4096


def found(context: Context, data: bytes) -> str:
    """Raise Refused where the victim's secret is not in it."""
    if context.victim["secret"].encode() not in data:
        raise Refused(f"read {len(data)} bytes, without the secret")
    return "read its secret"


def process_read(notes: Notes, context: Context) -> None:
    """Read the environment and memory of a process of the host."""
    pid, address = context.victim["pid"], context.victim["address"]
    notes.attempt(
        f"read /proc/{pid}/environ", lambda: found(context, Path(f"/proc/{pid}/environ").read_bytes())
    )

    def memory() -> str:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as stream:
            stream.seek(address)
            return found(context, stream.read(256))

    notes.attempt(f"read /proc/{pid}/mem", memory)


def process_signal(notes: Notes, context: Context) -> None:
    """Send a signal to a process of the host."""
    pid = context.victim["pid"]

    def send() -> str:
        if not context.host and Path(f"/proc/{pid}").exists():
            raise Refused("its own process has that number")
        os.kill(pid, signal.SIGUSR1)
        return "sent"

    notes.attempt("kill(victim, SIGUSR1)", send)


def process_trace(notes: Notes, context: Context) -> None:
    """Trace a process of the host."""
    pid = context.victim["pid"]

    def trace() -> str:
        if not context.host and Path(f"/proc/{pid}").exists():
            raise Refused("its own process has that number")
        syscall(SYS_PTRACE, PTRACE_ATTACH, pid, 0, 0)
        os.waitpid(pid, 0x40000000)  # __WALL
        syscall(SYS_PTRACE, PTRACE_DETACH, pid, 0, 0)
        return "attached to it"

    notes.attempt("ptrace(PTRACE_ATTACH)", trace)


def shared_memory(notes: Notes, context: Context) -> None:
    """Attach a process's shared memory by its key."""

    def attach() -> str:
        segment = syscall(SYS_SHMGET, context.victim["shm"], 0, 0)
        return found(context, ctypes.string_at(syscall(SYS_SHMAT, segment, 0, 0), 256))

    notes.attempt("shmget, shmat", attach)


def keyring(notes: Notes, context: Context) -> None:
    """Read a key from the keyring of the host's root."""

    def read(number: int) -> str:
        buffer = ctypes.create_string_buffer(PAGE)
        size = syscall(SYS_KEYCTL, KEYCTL_READ, number, buffer, PAGE)
        return found(context, buffer.raw[:size])

    def search() -> str:
        name = text(context.victim["key"])
        return read(syscall(SYS_KEYCTL, KEYCTL_SEARCH, USER_KEYRING, text("user"), name, 0))

    def every() -> str:
        lines = Path("/proc/keys").read_text().splitlines()
        for line in lines:
            try:
                return read(int(line.split()[0], 16))
            except (OSError, Refused):
                continue
        raise Refused(f"lists {len(lines)} keys, and reads none")

    notes.attempt("keyctl(KEYCTL_SEARCH), keyctl(KEYCTL_READ)", search)
    notes.attempt("read each key that /proc/keys lists", every)


def abstract_sockets(notes: Notes, context: Context) -> None:
    """Connect to a process's abstract socket, or to any that is not its own."""
    notes.attempt(
        "connect to the victim's", lambda: found(context, said(context, context.victim["abstract"]))
    )
    if context.host:
        return
    lines = Path("/proc/net/unix").read_text().splitlines()
    names = sorted({line.split(" @", 1)[1] for line in lines if " @" in line})

    def any_of_them() -> str:
        for name in names[:60]:
            try:
                said(context, name)
            except (OSError, Refused, struct.error):
                continue
            return f"reached @{name}"
        raise Refused(f"{len(names)} are listed, none of another environment's")

    notes.attempt("connect to all that /proc/net/unix lists", any_of_them)


def said(context: Context, name: str) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(3)
        end.connect(f"\0{name}")
        foreign(context, end)
        return end.recv(256)
