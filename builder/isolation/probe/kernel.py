"""Can it read or change what belongs to the kernel, and so to all environments?

syslog(2), proc(5), proc_sys(5), sysfs(5), capabilities(7), perf_event_open(2), bpf(2).
"""

import ctypes
import os
import socket
import stat
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from .calls import (
    SYS_BPF,
    SYS_INIT_MODULE,
    SYS_IOPL,
    SYS_PERF_EVENT_OPEN,
    SYS_SYSLOG,
    Context,
    Notes,
    Refused,
    fresh,
    private_mounts,
    syscall,
    text,
    writable,
)
from .nodes import fixed, need, read_some, use
from .victim import NETLINK_KOBJECT_UEVENT, packed

SYSLOG_READ_ALL = 3
ENOEXEC = 8
ENOUGH = 12  # files that are named
SECONDS = 20.0
# Belong to this environment's own namespaces or cgroup, where they are there at all.
OWN_SYS = ("fs/cgroup", "devices/virtual/net", "class/net")
OWN_PROC = ("sys/net", "sys/user", "sys/fs/mqueue", "sys/kernel/hostname", "sys/kernel/domainname")
OWN_IPC = (
    "sys/kernel/msg",
    "sys/kernel/sem",
    "sys/kernel/shm",
    "sys/kernel/auto_msgmni",
    "sys/kernel/ns_last_pid",
)


def kernel_log(notes: Notes, context: Context) -> None:
    """Read the kernel's log."""

    def buffer() -> str:
        into = ctypes.create_string_buffer(4096)
        return f"read {syscall(SYS_SYSLOG, SYSLOG_READ_ALL, into, 4096)} bytes"

    notes.attempt("syslog(SYSLOG_ACTION_READ_ALL)", buffer)
    use(notes, context, fixed("/dev/kmsg", 1, 11), os.O_RDONLY, read_some)
    notes.attempt("read /proc/kmsg", lambda: through("/proc/kmsg", os.O_RDONLY, read_some))

    def anew() -> object:
        private_mounts()
        return through(f"{fresh('proc')}/kmsg", os.O_RDONLY, read_some)

    notes.attempt("mount proc anew, and read its kmsg", anew)


def through(path: str, flags: int, action: Callable[[int], object]) -> object:
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return action(fd)
    finally:
        os.close(fd)


def written(path: Path, data: bytes) -> str:
    through(str(path), os.O_WRONLY, lambda fd: os.write(fd, data))
    return f"wrote to {path}"


def everywhere(notes: Notes, kind: str, bound: str, name: str, data: Callable[[Path], bytes]) -> None:
    """Write to a file of procfs or sysfs: as it is, with the read-only taken off, and in a new mount."""
    root = Path("/proc" if kind == "proc" else "/sys")
    notes.attempt(f"write {root / name}", lambda: written(root / name, data(root / name)))

    def unlocked() -> str:
        private_mounts()
        writable(bound)
        return written(root / name, data(root / name))

    def anew() -> str:
        private_mounts()
        path = fresh(kind) / name
        return written(path, data(path))

    notes.attempt(f"remount {bound} for writing", unlocked)
    notes.attempt(f"mount {kind} anew", anew)


def sysrq(notes: Notes, context: Context) -> None:
    """Give the kernel a SysRq command (the harmless one that prints help)."""
    everywhere(notes, "proc", "/proc/sysrq-trigger", "sysrq-trigger", lambda path: b"h")


def core_pattern(notes: Notes, context: Context) -> None:
    """Set which program the kernel starts on the host for a crash (to what it is)."""
    everywhere(notes, "proc", "/proc/sys", "sys/kernel/core_pattern", lambda path: path.read_bytes())


def sysctls(notes: Notes, context: Context) -> None:
    """Open each file of /proc/sys for writing that is not of a namespace of its own."""
    skip = (*OWN_PROC, *OWN_IPC)
    walks(notes, "proc", "/proc/sys", "sys", skip)


def sysfs(notes: Notes, context: Context) -> None:
    """Open each file of /sys for writing that is not of its own network or cgroup."""
    walks(notes, "sysfs", "/sys", "", OWN_SYS)


def walks(notes: Notes, kind: str, bound: str, below: str, skip: tuple[str, ...]) -> None:
    root = Path("/proc" if kind == "proc" else "/sys")
    notes.attempt(f"open files below {bound}", lambda: walk(root, below, skip))

    def unlocked() -> str:
        private_mounts()
        writable(bound)
        return walk(root, below, skip)

    def anew() -> str:
        private_mounts()
        return walk(fresh(kind), below, skip)

    notes.attempt(f"remount {bound} for writing", unlocked)
    notes.attempt(f"mount {kind} anew", anew)


def walk(root: Path, below: str, skip: tuple[str, ...]) -> str:
    """Which files can be opened for writing; nothing is written. Raises Refused where none can."""
    found: list[str] = []
    tried = 0
    deadline = time.monotonic() + SECONDS
    for path in files(root, root / below, skip):
        tried += 1
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
        except OSError:
            pass
        else:
            found.append(path.removeprefix(f"{root}/"))
        if len(found) >= ENOUGH or time.monotonic() > deadline:
            break
    if not found:
        raise Refused(f"tried {tried} files, none opens")
    return f"of {tried} files these open: {' '.join(found)}"


def files(root: Path, below: Path, skip: tuple[str, ...]) -> Iterator[str]:
    """Files with a permission to write, links not followed."""
    for place, folders, names in os.walk(below):
        inside = place.removeprefix(f"{root}").strip("/")
        folders[:] = sorted(name for name in folders if not f"{inside}/{name}".strip("/").startswith(skip))
        for name in sorted(names):
            if f"{inside}/{name}".strip("/").startswith(skip):
                continue
            path = f"{place}/{name}"
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode) and mode & 0o222:
                yield path


def mounted(notes: Notes, kind: str, sign: str) -> None:
    """Mount one of the kernel's file systems and find in it what is the host's."""

    def mount() -> str:
        private_mounts()
        place = fresh(kind)
        if not (place / sign).exists():
            raise Refused(f"mounted, and has no {sign}")
        return f"mounted, and has {sign}"

    notes.attempt(f"mount {kind}", mount)


def debugfs(notes: Notes, context: Context) -> None:
    """Mount the kernel's debugging files, the graphics card's and input devices' among them."""
    mounted(notes, "debugfs", "dri")


def tracefs(notes: Notes, context: Context) -> None:
    """Mount the kernel's tracer, by which every keystroke can be followed."""
    mounted(notes, "tracefs", "kprobe_events")


def devtmpfs(notes: Notes, context: Context) -> None:
    """Mount the host's /dev, to remove its nodes or put others in their place."""
    mounted(notes, "devtmpfs", "null")


def modules(notes: Notes, context: Context) -> None:
    """Load a kernel module (a broken one: the question is who may try)."""

    def load() -> str:
        try:
            syscall(SYS_INIT_MODULE, text("junk"), 4, text(""))
        except OSError as e:
            if e.errno == ENOEXEC:
                return "was allowed to try"
            raise
        return "loaded"

    notes.attempt("init_module", load)


def tracing(notes: Notes, context: Context) -> None:
    """Watch the whole machine by perf events or a BPF program."""

    def perf() -> str:
        attributes = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 128, 0), 128)  # software, CPU clock
        os.close(syscall(SYS_PERF_EVENT_OPEN, attributes, -1, 0, -1, 0))
        return "watches every process of a processor"

    def bpf() -> str:
        program = ctypes.create_string_buffer(
            struct.pack("=BBHi", 0xB7, 0, 0, 0) + struct.pack("=BBHi", 0x95, 0, 0, 0)
        )
        licence = text("GPL")
        kprobe, load = 2, 5
        words = (kprobe, 2, ctypes.addressof(program), ctypes.addressof(licence))
        attributes = ctypes.create_string_buffer(struct.pack("=IIQQ", *words), 128)
        os.close(syscall(SYS_BPF, load, attributes, 128))
        return "loaded a program for kernel probes"

    notes.attempt("perf_event_open of all processes", perf)
    notes.attempt("bpf(BPF_PROG_LOAD)", bpf)


def clock(notes: Notes, context: Context) -> None:
    """Set the clock (to what it is)."""
    notes.attempt("clock_settime", lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))


def memory(notes: Notes, context: Context) -> None:
    """Reach the machine's memory and ports."""
    use(notes, context, fixed("/dev/mem", 1, 1), os.O_RDONLY, read_some)
    use(notes, context, fixed("/dev/port", 1, 4), os.O_RDONLY, lambda fd: f"read {os.pread(fd, 1, 0x60)!r}")
    notes.attempt("iopl(3)", lambda: syscall(SYS_IOPL, 3))


def disks(notes: Notes, context: Context) -> None:
    """Read the seat's disk and its partitions."""
    for node in need([node for node in context.blocks if "dm-" not in node.path], "disk"):
        use(notes, context, node, os.O_RDONLY, read_some)


def volumes(notes: Notes, context: Context) -> None:
    """Read the opened volumes of all environments."""
    for node in need([node for node in context.blocks if "dm-" in node.path], "volume"):
        use(notes, context, node, os.O_RDONLY, read_some)


# --- udev


def udev_database(notes: Notes, context: Context) -> None:
    """Write into the database in which desktops look up devices."""
    path = Path("/run/udev/data/seatsmith-probe")

    def write() -> str:
        path.touch()
        path.unlink()
        return "wrote a file"

    def unlocked() -> str:
        private_mounts()
        writable("/run/udev/data")
        return write()

    notes.attempt("write a file", write)
    notes.attempt("remount it for writing", unlocked)


def udev_message(notes: Notes, context: Context) -> None:
    """Tell the host's programs about a device as udevd would."""
    word = context.words["udev-message"]
    for group, data in ((2, packed(word)), (1, f"add@/devices/{word}\0ACTION=add\0".encode())):
        notes.attempt(f"netlink, group {group}", partial(tell, group, data))


def tell(group: int, data: bytes) -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as end:
        end.sendto(data, (0, group))
    return "sent"


def uevent(notes: Notes, context: Context) -> None:
    """Have the kernel say that a device was added."""
    word = context.words["uevent"]
    everywhere(
        notes,
        "sysfs",
        "/sys",
        "devices/virtual/mem/null/uevent",
        lambda path: f"change {uuid.uuid4()} WORD={word}".encode(),
    )
