"""What does the broker tell systemd, and which file descriptors does it get back after a restart?"""

import os
import socket

FIRST_FD = 3  # SD_LISTEN_FDS_START


def notify(state: str, *fds: int) -> None:
    """sd_notify(3), where systemd listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        s.connect("\0" + address[1:] if address.startswith("@") else address)
        socket.send_fds(s, [state.encode()], list(fds))


def keep(name: str, fd: int) -> None:
    """Let systemd keep a file descriptor over a restart of this service (FileDescriptorStoreMax=)."""
    notify(f"FDSTORE=1\nFDNAME={name}", fd)


def kept() -> dict[str, int]:
    """What systemd kept, by name (sd_listen_fds_with_names(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    found = {}
    for fd, name in zip(range(FIRST_FD, FIRST_FD + count), names, strict=False):
        os.set_inheritable(fd, False)
        found[name] = fd
    return found
