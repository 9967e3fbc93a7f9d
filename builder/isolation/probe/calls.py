"""How does the prober ask the kernel, and how does it note what came of it?

Numbers of system calls are those of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
"""

import contextlib
import ctypes
import errno
import mmap
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SYS_IOCTL = 16
SYS_SHMGET, SYS_SHMAT, SYS_PTRACE, SYS_SYSLOG = 29, 30, 101, 103
SYS_MOUNT, SYS_IOPL, SYS_INIT_MODULE = 165, 172, 175
SYS_ADD_KEY, SYS_KEYCTL, SYS_UNSHARE = 248, 250, 272
SYS_PERF_EVENT_OPEN, SYS_BPF = 298, 321
CLONE_NEWNS = 0x20000
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18  # linux/mount.h

DONE, REFUSED, ABSENT = "done", "refused", "absent"


class Refused(Exception):
    """The kernel said yes, and yet nothing came of it: why."""


class Absent(Exception):
    """There is nothing here that could be tried: what is missing."""


@dataclass
class Notes:
    """What one row tried, one entry for each way."""

    tries: list[dict[str, Any]] = field(default_factory=list)

    def attempt(self, how: str, action: Callable[[], object], *, picture: bool = False) -> bool:
        """Try it; what ``action`` returns is what it got. With ``picture`` that is PNG data."""
        entry: dict[str, Any] = {"how": how, "outcome": DONE, "said": ""}
        try:
            got = action()
            if picture:
                entry["picture"] = got
            else:
                entry["said"] = "" if got is None else str(got)[:300]
        except Absent as e:
            entry |= {"outcome": ABSENT, "said": str(e)}
        except Refused as e:
            entry |= {"outcome": REFUSED, "said": str(e)}
        except OSError as e:
            entry |= {"outcome": REFUSED, "said": errno.errorcode.get(e.errno or 0, str(e))}
        self.tries.append(entry)
        return bool(entry["outcome"] == DONE)


@dataclass(frozen=True)
class Node:
    """A device of the seat by its numbers; ``path`` is where the host has it."""

    path: str
    major: int
    minor: int
    block: bool = False


@dataclass(frozen=True)
class Context:
    """What the runner tells the prober. ``host``: this is the control, as the host's root."""

    host: bool
    own_vt: int
    front_vt: int
    text_vt: int
    premade: str
    """Where the host's root has put nodes that this environment could not make; empty: nowhere."""
    events: list[Node]
    hidraws: list[Node]
    blocks: list[Node]
    victim: dict[str, Any]
    """What a process of the host holds, which nobody else may get at (victim.py)."""
    words: dict[str, str]
    """By row: what to type or write, so that the runner recognises it where it arrives."""
    sound: str
    """Address of the host's sound server, as containers know it."""
    sound_user: str
    """Whose it is: the control asks as that user, at the server's own door."""

    @classmethod
    def read(cls, data: dict[str, Any]) -> "Context":
        lists = {name: [Node(*row) for row in data[name]] for name in ("events", "hidraws", "blocks")}
        return cls(**{**data, **lists})


def syscall(number: int, *words: int | ctypes.Array[ctypes.c_char] | None) -> int:
    """One system call. Raises OSError as Python's own do."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    ready = [ctypes.c_long(word) if isinstance(word, int) else word for word in (number, *words)]
    result = int(call(*ready))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


# push rbx; mov eax, 54 (ioctl of syscall_32.tbl); mov ebx, edi; mov ecx, esi; int 0x80; pop rbx; ret
IOCTL_32 = bytes.fromhex("53 b8 36 00 00 00 89 fb 89 f1 cd 80 5b c3")
MAP_32BIT = 0x40  # asm/mman.h: the address fits into what such a call can pass


def call_as_32_bit(fd: int, request: int, buffer: bytearray) -> None:
    """ioctl(2) as 32-bit programs call it. Raises OSError as Python's own does."""
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT
    page = mmap.mmap(-1, mmap.PAGESIZE, kind, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page[: len(IOCTL_32)] = IOCTL_32
    place = len(page) // 2
    page[place : place + len(buffer)] = bytes(buffer)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)(address)
    result = function(fd, request, address + place)
    buffer[:] = page[place : place + len(buffer)]
    if result < 0:
        raise OSError(-result, os.strerror(-result))


def text(value: str) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(value.encode())


def mount(source: str, target: str, kind: str, flags: int = 0) -> None:
    syscall(SYS_MOUNT, text(source), text(target), text(kind), flags, None)


def private_mounts() -> None:
    """From here on this process mounts for itself alone."""
    syscall(SYS_UNSHARE, CLONE_NEWNS)
    mount("none", "/", "none", MS_REC | MS_PRIVATE)


def fresh(kind: str) -> Path:
    """A new mount of one of the kernel's own file systems."""
    place = tempfile.mkdtemp(prefix=f"seatsmith-{kind}-", dir="/run")
    mount("seatsmith", place, kind)
    if kind == "sysfs":  # a new mount shares the read-only of what the container was given
        with contextlib.suppress(OSError):
            mount("seatsmith", place, kind, MS_REMOUNT)
    return Path(place)


def writable(place: str) -> None:
    """Take the read-only off a mount that this environment was given."""
    mount("none", place, "none", MS_REMOUNT | MS_BIND)
