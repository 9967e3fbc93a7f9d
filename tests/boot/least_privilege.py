"""Which privileges can a strict container do without? Takes one away at a time and uses its desktop.

``python -m tests.boot.least_privilege SEAT`` boots a written seat whose first container is strict, and
prints the rows of the table in docs/isolation.md: under emulation about a minute for each.
"""

import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from builder.machine.desktop import Desktop
from builder.machine.errors import Unmet
from builder.machine.machine import Machine
from builder.machine.ready import bring_up, leave_passphrase
from builder.machine.seatdisk import written_seat
from builder.machine.shell import until
from builder.machine.subject import Subject
from builder.project import find_project
from builder.tools import ensure_tools

# what systemd-nspawn(1) leaves to a container by itself
CAPABILITIES = (
    "audit_control audit_write chown dac_override dac_read_search fowner fsetid ipc_owner kill "
    "lease linux_immutable mknod net_admin net_bind_service net_broadcast net_raw setfcap "
    "setgid setpcap setuid sys_admin sys_boot sys_chroot sys_nice sys_ptrace sys_resource "
    "sys_tty_config"
)
CALLS = (
    "@debug @keyring @obsolete @pkey @swap bpf io_uring_setup userfaultfd kcmp move_pages open_by_handle_at"
)
ADDRESS = "ip -4 -o addr show dev host0 | grep -v 169.254"
WORD = "quick"


class Trial:
    """A booted seat, whose container is started again with one setting more."""

    def __init__(self, machine: Machine, subject: Subject) -> None:
        self.machine, self.facts = machine, subject.containers[0]
        self.unit = f"systemd-nspawn@{self.facts.name}.service"
        self.file = f"/etc/systemd/nspawn/{self.facts.name}.nspawn"
        self.text = machine.host.succeed(f"cat {self.file}")

    def run(self, setting: str) -> str:
        """What does not work with this line in [Exec]; empty where everything does."""
        text = self.text.replace("[Exec]\n", f"[Exec]\n{setting}\n", 1)
        host = self.machine.host
        host.succeed(f"systemctl stop {self.unit}", timeout=150)
        host.succeed(f"printf %s {shlex.quote(text)} >{self.file}")
        try:
            host.succeed(f"systemctl start {self.unit}", timeout=150)
            self.use()
        except Unmet as e:
            return str(e).splitlines()[0]
        return ""

    def use(self) -> None:
        """Everything comes up, has an address, and is typed at."""
        shell = self.machine.container(self.facts.name)
        desktop = Desktop(self.machine, shell, self.facts)
        desktop.wait_until_up(timeout=120)
        shell.wait_until_succeeds("systemctl is-system-running --wait", timeout=60)
        if self.facts.network:
            shell.wait_until_succeeds(ADDRESS, timeout=30)
        desktop.switch_to()
        desktop.open_recorder(timeout=60)
        self.machine.type_text(WORD)
        until(lambda: desktop.typed() == WORD, f"{WORD!r} was typed and came", timeout=10)


def settings() -> Iterator[tuple[str, str]]:
    yield "nothing", ""
    for capability in CAPABILITIES.split():
        yield f"CAP_{capability.upper()}", f"DropCapability=CAP_{capability.upper()}"
    for call in CALLS.split():
        yield f"`{call}`", f"SystemCallFilter=~{call}"
    yield "gaining privileges by set-uid programs", "NoNewPrivileges=yes"


def main(seat: str) -> int:
    tools = ensure_tools()
    with tempfile.TemporaryDirectory() as folder:
        subject = written_seat(find_project(), seat, tools, Path(folder), full=False)
        with Machine(tools, subject.hardware(), name="least-privilege") as machine:
            bring_up(machine, subject)
            leave_passphrase(machine, subject)
            trial = Trial(machine, subject)
            print("| taken away | what happens | seconds |\n|---|---|---|", flush=True)
            for what, setting in settings():
                start = time.monotonic()
                said = trial.run(setting)
                print(f"| {what} | {said or 'all works'} | {time.monotonic() - start:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
