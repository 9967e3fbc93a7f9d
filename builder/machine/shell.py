"""What can a test ask of the host or of one container: run this, wait for that unit, file or port?"""

import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from builder.machine.agent import Agent, Answer, slowness
from builder.machine.errors import Unmet

WAIT = 120.0  # seconds; emulated guests on a busy machine are slow, and a panic ends a wait anyway
LONGEST = 900.0
POLL = 0.3
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def until(probe: Callable[[], object], what: str, *, timeout: float, poll: float = POLL) -> None:
    """Ask ``probe`` until its answer is true. Raises Unmet naming ``what`` after ``timeout`` seconds.

    They are those of a machine that has nothing else to do; a busy one is given more, up to LONGEST.
    """
    began = time.monotonic()
    while not probe():
        waited = time.monotonic() - began
        if waited > max(timeout, min(timeout * slowness(), LONGEST)):
            raise Unmet(f"{what}: not within {waited:.0f} s")
        time.sleep(poll)


class Shell(ABC):
    """Root's command line in one environment. ``name`` is what reports call it."""

    name: str

    @abstractmethod
    def run(self, command: str, *, timeout: float = 60.0) -> Answer:
        """Run a command by bash and return its status and output."""

    def succeed(self, command: str, *, timeout: float = 60.0) -> str:
        """Run a command that has to end well; its output. Raises Unmet otherwise."""
        answer = self.run(command, timeout=timeout)
        if answer.status != 0:
            raise Unmet(
                f"{self.name}: {command!r} ended with {answer.status}:\n{answer.output.strip()[-2000:]}"
            )
        return answer.output

    def fail(self, command: str, *, timeout: float = 60.0) -> str:
        """Run a command that must not end well; its output. Raises Unmet where it does."""
        answer = self.run(command, timeout=timeout)
        if answer.status == 0:
            raise Unmet(f"{self.name}: {command!r} was expected to fail:\n{answer.output.strip()[-2000:]}")
        return answer.output

    def wait_until_succeeds(self, command: str, *, timeout: float = WAIT) -> str:
        """Repeat a command until it ends well; its output then."""
        last = Answer(1, "")

        def probe() -> bool:
            nonlocal last
            last = self.run(command, timeout=min(timeout, 60.0))
            return last.status == 0

        try:
            until(probe, f"{self.name}: {command!r} succeeds", timeout=timeout)
        except Unmet as e:
            raise Unmet(f"{e}; it said:\n{last.output.strip()[-2000:]}") from None
        return last.output

    def unit(self, unit: str) -> dict[str, str]:
        """The properties of a unit that say how it is; all unknown where systemd does not answer yet."""
        wanted = "LoadState,ActiveState,SubState,Result,Job"
        answer = self.run(f"systemctl show {shlex.quote(unit)} -p {wanted}")
        if answer.status != 0:  # its PID 1 has only just begun
            return {"LoadState": "unknown", "ActiveState": "unknown"}
        return dict(line.split("=", 1) for line in answer.output.splitlines() if "=" in line)

    def wait_for_unit(self, unit: str, *, timeout: float = WAIT) -> None:
        """Wait until a unit is active. Raises Unmet at once where it failed or does not exist."""

        def active() -> bool:
            state = self.unit(unit)
            if state["ActiveState"] == "failed":
                log = self.run(f"journalctl -b -n 15 --no-pager -o cat -u {shlex.quote(unit)}").output
                raise Unmet(f"{self.name}: {unit} failed ({state.get('Result')}):\n{log.strip()}")
            if state["LoadState"] in ("not-found", "masked"):
                raise Unmet(f"{self.name}: {unit} is {state['LoadState']}")
            return state["ActiveState"] == "active"

        until(active, f"{self.name}: unit {unit} is active", timeout=timeout)

    def wait_for_file(self, path: str, *, timeout: float = WAIT) -> None:
        """Wait until a path exists."""
        until(
            lambda: self.run(f"test -e {shlex.quote(path)}").status == 0,
            f"{self.name}: {path} exists",
            timeout=timeout,
        )

    def wait_for_open_port(self, port: int, address: str = "localhost", *, timeout: float = WAIT) -> None:
        """Wait until somebody accepts TCP connections there."""
        probe = f"exec 9<>/dev/tcp/{address}/{port:d}"
        until(
            lambda: self.run(probe, timeout=10).status == 0,
            f"{self.name}: {address}:{port} is open",
            timeout=timeout,
        )

    def journal(self, lines: int = 200) -> str:
        """The end of this boot's journal."""
        return self.run(f"journalctl -b --no-pager -o short-monotonic -n {lines:d}").output


class HostShell(Shell):
    """Root on the host, by the agent."""

    def __init__(self, agent: Callable[[], Agent], name: str = "host") -> None:
        self.agent = agent
        self.name = name

    def run(self, command: str, *, timeout: float = 60.0) -> Answer:
        return self.agent().run(command, timeout=timeout)


class ContainerShell(Shell):
    """Root in a container: the host's agent enters its namespaces."""

    def __init__(self, host: Shell, name: str) -> None:
        self.host = host
        self.name = name
        self.unit_name = f"systemd-nspawn@{name}.service"

    def leader(self) -> str:
        """A command line whose output is the process id of the container's PID 1."""
        group = f"/sys/fs/cgroup/machine.slice/{self.unit_name}/payload/init.scope/cgroup.procs"
        asked = f"machinectl show {shlex.quote(self.name)} -p Leader --value"
        return f"{{ head -n1 {shlex.quote(group)} 2>/dev/null || {asked}; }}"

    def run(self, command: str, *, timeout: float = 60.0) -> Answer:
        environment = f"env -i PATH={PATH} HOME=/root TERM=dumb LC_ALL=C.UTF-8"
        inside = f"{environment} bash -c {shlex.quote(command)}"
        script = f"leader=$({self.leader()}) && exec nsenter --target $leader --all --root --wd {inside}"
        return self.host.run(script, timeout=timeout)

    def run_confined(self, command: str, *, timeout: float = 60.0) -> Answer:
        """Run as a unit of the container's own PID 1: under its device policy and limits, unlike ``run``."""
        return self.host.run(
            f"systemd-run --machine={shlex.quote(self.name)} --wait --pipe --quiet --collect "
            "--expand-environment=no "
            f"/bin/bash -c {shlex.quote(command)}",
            timeout=timeout,
        )
