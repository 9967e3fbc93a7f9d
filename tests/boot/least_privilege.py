"""Which privileges can a strict container do without? Takes one away at a time and uses its desktop.

``python -m tests.boot.least_privilege SEAT [WORD…]`` boots a written seat whose first container is strict,
and prints the rows of the table in docs/isolation.md: under emulation about a minute for each. With WORDs
only settings are tried that have one of them in their name.
"""

import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.machine.desktop import Desktop
from builder.machine.errors import Unmet
from builder.machine.machine import Machine
from builder.machine.ready import bring_up, leave_passphrase
from builder.machine.seatdisk import written_seat
from builder.machine.shell import until
from builder.machine.subject import Subject
from builder.project import find_project
from builder.render.limits import LEFT
from builder.tools import ensure_tools

CALLS = (
    "@debug @keyring @obsolete @pkey @swap bpf io_uring_setup io_uring_enter io_uring_register userfaultfd "
    "kcmp move_pages process_vm_readv process_vm_writev perf_event_open open_by_handle_at"
)
ADDRESS = "ip -4 -o addr show dev host0 | grep -v 169.254"
WORD = "quick"
USES = {  # what root and people do beyond a desktop; under the container's limits
    "new accounts": "useradd -m probe && echo probe:Gr33n-Lamp | chpasswd",
    "files of others": "install -o probe -m 640 /etc/hosts /home/probe/hosts && chmod 600 /home/probe/hosts",
    "becoming a user": "runuser -u probe -- sh -c 'echo word >~/word'",
    "set-uid programs": "runuser -u probe -- chage -l probe",
    "file capabilities": "cp /usr/bin/true /root/probe && setcap cap_net_raw+ep /root/probe",
    "set-gid programs of others": "install -g mail -m 2755 /usr/bin/true /tmp/mail && test -g /tmp/mail",
    "chroot": "chroot / true",
    "low ports": "python3 -c 'import socket; socket.socket().bind((\"\", 81))'",
    "ending of others' processes": "runuser -u probe -- sleep 99 & sleep 1; pkill -u probe",
    "removing accounts": "userdel -r probe && rm /root/probe",
}


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
            return self.use()
        except Unmet as e:
            return str(e).splitlines()[0]

    def use(self) -> str:
        """Everything comes up, has an address, and is typed at; which of USES fail."""
        shell = self.machine.container(self.facts.name)
        desktop = Desktop(self.machine, shell, self.facts)
        desktop.wait_until_up(timeout=90)
        if self.facts.network:
            shell.wait_until_succeeds(ADDRESS, timeout=30)
        desktop.switch_to()
        desktop.open_recorder(timeout=60)
        self.machine.type_text(WORD)
        until(lambda: desktop.typed() == WORD, f"{WORD!r} was typed and came", timeout=10)
        failed = shell.succeed("systemctl list-units --failed --plain --no-legend | cut -d' ' -f1").split()
        script = "; ".join(
            f"( {command} ) >/dev/null 2>&1 || echo {shlex.quote(what)}" for what, command in USES.items()
        )
        answer = shell.run_confined(script, timeout=90)
        return ", ".join([*failed, *answer.output.splitlines()])


def settings(text: str) -> Iterator[tuple[str, str]]:
    """What is tried: nothing that the container's file ``text`` takes away already."""
    dropped = set(re.findall(r"CAP_\w+", text))
    yield "nothing", ""
    yield "gaining privileges by set-uid programs", "NoNewPrivileges=yes"
    yield "all calls below", f"SystemCallFilter=~{CALLS}"
    for capability in sorted(LEFT):
        if (name := f"CAP_{capability.upper()}") not in dropped:
            yield name, f"DropCapability={name}"
    for call in CALLS.split():
        yield f"`{call}`", f"SystemCallFilter=~{call}"


def main(seat: str, words: Sequence[str]) -> int:
    tools = ensure_tools()
    with tempfile.TemporaryDirectory() as folder:
        subject = written_seat(find_project(), seat, tools, Path(folder), full=False)
        with Machine(tools, subject.hardware(), name="least-privilege") as machine:
            bring_up(machine, subject)
            leave_passphrase(machine, subject)
            trial = Trial(machine, subject)
            print("| taken away | what does not work | seconds |\n|---|---|---|", flush=True)
            for what, setting in settings(trial.text):
                if words and not any(word in what for word in words):
                    continue
                start = time.monotonic()
                said = trial.run(setting)
                print(f"| {what} | {said or 'all works'} | {time.monotonic() - start:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
