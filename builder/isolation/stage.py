"""How is a booted seat made ready for the test: prober, nodes, a victim, a console, somebody who types?"""

import json
import secrets
import shlex
import string
from collections.abc import Iterator, Sequence
from typing import Any

from builder.isolation.pack import command, unpack_command
from builder.isolation.rows import ROWS
from builder.isolation.verdict import Attempt
from builder.machine.bench import SeatInTest
from builder.machine.desktop import Desktop
from builder.machine.errors import Unmet
from builder.machine.shell import ContainerShell, Shell, until

TEXT_VT = 12  # no getty starts there by itself (logind.conf(5), NAutoVTs=)
RUN = "/run/seatsmith-probe"  # where the host keeps what probers that run in the background say
STOP = "/run/seatsmith-probe-stop"  # probe/listen.py
CONSOLE = "/run/seatsmith-console"  # probe/console.py
PREMADE = "/root/seatsmith-nodes"
SOUND = "unix:/run/pulse-shared/native"
FIXED = {  # devices whose numbers never change (probe/nodes.py)
    "uinput": "c 10 223",
    "fb0": "c 29 0",
    "mem": "c 1 1",
    "port": "c 1 4",
    "kmsg": "c 1 11",
    "tty0": "c 4 0",
    f"tty{TEXT_VT}": f"c 4 {TEXT_VT}",
    "vcs": "c 7 0",
    f"vcs{TEXT_VT}": f"c 7 {TEXT_VT}",
}
LONG = 400.0
NodeRow = tuple[str, int, int, bool]


def word(length: int = 8) -> str:
    """Letters that nobody types by chance, no two alike beside each other: a repeated key looks like one."""
    found = ""
    while len(found) < length:
        letter = secrets.choice(string.ascii_lowercase)
        found += letter if found[-1:] != letter else ""
    return found


class Side:
    """Who tries: root in the container under its limits, or for the control root on the host."""

    def __init__(self, stage: "Stage", shell: Shell, facts: dict[str, Any]) -> None:
        self.stage, self.shell = stage, shell
        self.words = {row.id: word() for row in ROWS if row.arrives} | {"screen": stage.screen}
        self.words["inject-paste"] = stage.screen  # it pastes what stands there
        self.context = {**facts, "words": self.words}
        self.limits: dict[str, str] = {}

    @property
    def contained(self) -> bool:
        return isinstance(self.shell, ContainerShell)

    def line(self, what: str, **more: Any) -> str:
        """The command line on the host that runs the prober on this side."""
        prober = command(what, {"context": self.context, **more})
        if not self.contained:
            return prober
        words = ("--wait", "--pipe", "--quiet", "--collect", "--expand-environment=no")
        return shlex.join(
            ["systemd-run", f"--machine={self.shell.name}", *words, "/bin/bash", "-c", f"exec {prober}"]
        )

    def tries(self, rows: Sequence[str]) -> dict[str, Attempt]:
        """What came of these rows; a row that the prober did not answer has a problem."""
        return self.ask(rows) if rows else {}

    def ask(self, rows: Sequence[str]) -> dict[str, Attempt]:
        answer = self.stage.host.run(self.line("try", rows=list(rows)), timeout=LONG)
        said = entries(answer.output)
        for entry in said:
            self.limits |= entry.get("confined", {})
        found = {entry["row"]: entry for entry in said if "row" in entry}
        last = " ".join(answer.output.split())[-300:]
        missing = {"problem": f"the prober ended with {answer.status}: {last}"}
        return {row: Attempt.model_validate(found.get(row, missing)) for row in rows}

    def confined(self) -> dict[str, str]:
        """By which limits the prober runs here."""
        if not self.limits:
            self.ask([])
        if not self.limits:
            raise Unmet(f"{self.shell.name}: the prober does not run there")
        return self.limits


class Stage:
    """The host of a booted seat, one of its containers, and what is needed to test it."""

    def __init__(self, seat: SeatInTest, container: Desktop) -> None:
        self.seat, self.container = seat, container
        self.machine, self.host = seat.machine, seat.host.shell
        self.inside = seat.machine.container(container.name)
        self.screen = word()

    def set(self, *, usb: bool = True) -> tuple[Side, Side]:
        """Push the prober, make nodes, start the victim; with ``usb`` a USB keyboard is typed at."""
        for shell in (self.host, self.inside):
            shell.succeed(unpack_command(), timeout=120)
        if usb:
            self.machine.plug("usb-keyboard", "probed")
            self.machine.unplug("keyboard")
            self.host.run("for n in {1..30}; do ls /dev/hidraw* && break; sleep 0.5; done")
        self.host.run("modprobe uinput")
        nodes = self.nodes()
        self.premake([node for rows in nodes.values() for node in rows])
        facts: dict[str, Any] = {
            "own_vt": self.container.vt,
            "front_vt": self.seat.host.vt,
            "text_vt": TEXT_VT,
            "victim": {},
            "sound": SOUND,
            "sound_user": self.seat.host.facts.user or "root",
            **nodes,
        }
        attacker = Side(self, self.inside, {**facts, "host": False, "premade": PREMADE})
        control = Side(self, self.host, {**facts, "host": True, "premade": ""})
        victim = self.start_victim([*attacker.words.values(), *control.words.values()])
        for side in (attacker, control):
            side.context["victim"] = victim
        return attacker, control

    # --- devices

    def nodes(self) -> dict[str, list[NodeRow]]:
        """The seat's devices that have numbers of their own at each boot."""
        listed = self.host.run(
            "stat -c '%n|%F|%Hr|%Lr' /dev/input/event* /dev/hidraw* /dev/vd* /dev/dm-* 2>/dev/null"
        ).output
        rows = [line.split("|") for line in listed.splitlines()]
        found = [(path, int(a), int(b), "block" in kind) for path, kind, a, b in rows]
        return {
            "events": [row for row in found if "/event" in row[0]],
            "hidraws": [row for row in found if "/hidraw" in row[0]],
            "blocks": [row for row in found if row[3]],
        }

    def premake(self, nodes: Sequence[NodeRow]) -> None:
        """Put nodes on the container's disk, as its own root could not: the device policy alone is left."""
        place = f"/var/lib/machines/{self.container.name}{PREMADE}"
        wanted = dict(FIXED)
        for path, major, minor, block in nodes:
            name = path.removeprefix("/dev/").replace("/", "-")
            wanted[name] = f"{'b' if block else 'c'} {major} {minor}"
        made = " && ".join(f"mknod -m 600 {place}/{name} {numbers}" for name, numbers in wanted.items())
        self.host.succeed(f"rm -rf {place} && mkdir -m 700 {place} && {made}")

    # --- in the background

    def start(self, name: str, line: str, *, before: str = "") -> Any:
        """Start a prober that stays; its first line."""
        output = f"{RUN}-{name}"
        self.host.succeed(f"{before} setsid -f {line} >{output} 2>{output}.err </dev/null")
        first: list[Any] = []

        def begun() -> bool:
            first[:] = list(lines(self.host.run(f"cat {output}").output))[:1]
            return bool(first)

        try:
            until(begun, f"the prober begins to {name}", timeout=60)
        except Unmet as e:
            said = self.host.run(f"cat {output}.err").output.strip()[-600:]
            raise Unmet(f"{e}: {said}") from None
        return first[0]

    def said(self, name: str) -> list[Any]:
        """What it has said since."""
        return list(lines(self.host.run(f"cat {RUN}-{name}").output))[1:]

    def start_victim(self, words: list[str]) -> dict[str, Any]:
        # its secret is in its environment, where others may look for it
        secret = f"SEATSMITH_SECRET={word(16)}"
        facts: dict[str, Any] = self.start(
            "victim", command("victim", {"words": words}), before=f"export {secret};"
        )
        return facts

    def start_console(self) -> None:
        """The text console comes to the front."""
        self.start("console", command("console", {"vt": TEXT_VT, "screen": self.screen}))

    # --- typing

    def hear(self, sides: Sequence[Side], rows: Sequence[str], secret: str) -> list[dict[str, Attempt]]:
        """Let these sides listen while somebody types."""
        for number, side in enumerate(sides):
            side.shell.run(f"rm -f {STOP}")
            self.start(f"listen-{number}", side.line("listen", rows=list(rows)))
        self.machine.type_text(f"{secret}\n")
        self.host.run("sleep 1")
        found = []
        for number, side in enumerate(sides):
            side.shell.succeed(f"touch {STOP}")
            until(lambda n=number: self.said(f"listen-{n}"), "the listener ends", timeout=60)  # type: ignore[misc]
            said = self.said(f"listen-{number}")[0]
            found.append({row: Attempt.model_validate(said[row]) for row in rows})
        return found

    def typed(self) -> str:
        """What the text console was sent."""
        return self.host.run(f"cat {CONSOLE}.typed").output

    def console_reads(self) -> None:
        self.host.succeed(f"touch {CONSOLE}.read")

    def on_console(self) -> str:
        """The text that stands on the text console."""
        return self.host.run(f"tr -cd '[:print:]' </dev/vcs{TEXT_VT}").output

    def bring(self, number: int) -> None:
        self.host.succeed(command("bring", {"vt": number}))


def lines(output: str) -> Iterator[Any]:
    """The JSON lines among a prober's output."""
    for line in output.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def entries(output: str) -> list[dict[str, Any]]:
    return [line for line in lines(output) if isinstance(line, dict)]
