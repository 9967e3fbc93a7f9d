"""What may a strict container do less, or more, than systemd-nspawn lets every container do?

The two tuples were found by trying (tests/boot/least_privilege.py; table in docs/isolation.md).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from builder.profile.model import Privileges

# Capabilities in its own user namespace without which a whole desktop came up.
DROPPED = (
    *("audit_control", "audit_write", "dac_read_search", "ipc_owner", "lease", "linux_immutable", "mknod"),
    *("net_broadcast", "net_raw", "sys_nice", "sys_ptrace", "sys_resource", "sys_tty_config"),
)
# System calls that no desktop was seen to need, each with a history of holes in the kernel.
REFUSED = (
    *("@keyring", "@obsolete", "@swap", "bpf", "perf_event_open", "userfaultfd", "move_pages"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
)
# What systemd-nspawn(1), --capability=, leaves to every container.
LEFT = frozenset(
    (
        *("audit_control", "audit_write", "chown", "dac_override", "dac_read_search", "fowner", "fsetid"),
        *("ipc_owner", "kill", "lease", "linux_immutable", "mknod", "net_admin", "net_bind_service"),
        *("net_broadcast", "net_raw", "setfcap", "setgid", "setpcap", "setuid", "sys_admin", "sys_boot"),
        *("sys_chroot", "sys_nice", "sys_ptrace", "sys_resource", "sys_tty_config"),
    )
)


@dataclass(frozen=True)
class Limits:
    """``drop`` and ``grant`` are capabilities, ``refuse`` and ``allow`` system calls."""

    drop: tuple[str, ...] = ()
    grant: tuple[str, ...] = ()
    refuse: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()

    @property
    def lines(self) -> list[tuple[str, str]]:
        """Key and value of each line in [Exec] of systemd.nspawn(5) that is not empty."""
        found = [
            ("DropCapability", " ".join(self.drop)),
            ("Capability", " ".join(self.grant)),
            ("SystemCallFilter", " ".join(self.allow)),
            ("SystemCallFilter", f"~{' '.join(self.refuse)}" if self.refuse else ""),
        ]
        return [(key, words) for key, words in found if words]


NO_LIMITS = Limits()


def strict_limits(privileges: Privileges) -> Limits:
    """The limits of every strict container, less what the profile asks for."""
    wanted = [capability.value for capability in privileges.capabilities]
    calls = privileges.system_calls
    return Limits(
        drop=capability_words(name for name in DROPPED if name not in wanted),
        grant=capability_words(name for name in wanted if name not in LEFT),
        refuse=tuple(call for call in REFUSED if call not in calls),
        allow=tuple(calls),
    )


def capability_words(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"CAP_{name.upper()}" for name in names)
