"""How does a test put the input broker into a running guest, and see what its environments are told?"""

import base64
import io
import json
import lzma
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import builder.broker
from builder.machine.input import send
from builder.machine.machine import Machine
from builder.machine.shell import until

BROKER = Path(builder.broker.__file__).parent
RECORDER = Path(__file__).with_name("brokerrecorder.py")
SERVICE = "seatsmith-broker.service"
LOG = "/run/broker-test.log"
TERMINALS = {"alpha": 10, "beta": 11}
HOST, TEXT = 7, 12  # the host's desktop, and a terminal of nobody
KEYS = {letter: code for row, first in (("qwertyuiop", 16), ("asdfghjkl", 30), ("zxcvbnm", 44))
        for code, letter in enumerate(row, first)}  # fmt: skip
EV_KEY = 1
MOMENT = 0.3  # seconds, in which the broker does what follows on what we can see


@dataclass(frozen=True)
class Told:
    """An event that somebody read from a virtual device."""

    environment: str
    clone: str
    kind: int
    code: int
    value: int


class BrokerGuest:
    """A guest with two strict environments, which are readers of their virtual devices and nothing else."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.host = machine.host
        self.nodes: dict[str, str] = {}

    # --- the host's side

    def install(self) -> None:
        """As docs/isolation.md says ("The broker's interface"), with a recorder instead of containers."""
        files = {f"usr/lib/seatsmith/broker/{p.name}": p.read_bytes() for p in BROKER.glob("*.py")}
        files[f"run/systemd/system/{SERVICE}"] = (BROKER / "host" / SERVICE).read_bytes()
        rules = "73-seatsmith-broker.rules"
        files[f"run/udev/rules.d/{rules}"] = (BROKER / "host" / rules).read_bytes()
        files["run/broker-recorder.py"] = RECORDER.read_bytes()
        for name, vt in TERMINALS.items():
            facts = {"name": name, "vt": vt, "uid_base": 524288, "gpu": True, "input": True, "extra": []}
            files[f"etc/seatsmith/environments/{name}.json"] = json.dumps(facts).encode()
        data = base64.b64encode(lzma.compress(archive(files))).decode()
        self.host.succeed(f"base64 -d <<<{data} | tar -xJ -C / && udevadm control --reload")
        # the kernel's keyboard switches to a terminal only once somebody has opened it, as an X server does
        opened = " ".join(f"</dev/tty{vt}" for vt in (*TERMINALS.values(), TEXT))
        self.host.succeed(f"systemctl daemon-reload; : {opened}")
        start = f"systemctl restart {SERVICE} || (journalctl -u {SERVICE} -o cat; exit 1)"
        self.host.succeed(start, timeout=240)

    def record(self) -> None:
        """Read all virtual devices that there are now, from here on."""
        self.host.run("systemctl stop broker-recorder")
        words = [
            f"{environment}/{name.strip()}=/dev/seatsmith/{environment}/{name.strip()}"
            for environment in TERMINALS
            for name in self.host.succeed(f"ls /dev/seatsmith/{environment}").split()
        ]
        run = "systemd-run --quiet --collect --unit=broker-recorder python3 /run/broker-recorder.py"
        self.host.succeed(f"rm -f {LOG}; {run} {LOG} {' '.join(words)}")
        self.host.wait_until_succeeds(f"test -s {LOG}", timeout=30)

    def told(self) -> list[Told]:
        """All that was read since ``record``, without the ends of frames."""
        rows = (line.split() for line in self.host.succeed(f"tail -n +2 {LOG}").splitlines())
        found = []
        for _, place, kind, code, value in rows:
            environment, _, clone = place.partition("/")
            if int(kind):
                found.append(Told(environment, clone, int(kind), int(code), int(value)))
        return found

    def wait_told(self, *wanted: Told, timeout: float = 45) -> list[Told]:
        """Wait until these were read, in any order; everything that was read."""
        found: list[Told] = []

        def probe() -> bool:
            found[:] = self.told()
            return set(wanted) <= set(found)

        until(probe, f"a reader sees {wanted}", timeout=timeout)
        return found

    def letters(self, environment: str) -> str:
        """The letters that went down in an environment."""
        names = {code: letter for letter, code in KEYS.items()}
        pressed = (t for t in self.told() if (t.environment, t.kind, t.value) == (environment, EV_KEY, 1))
        return "".join(names.get(t.code, "") for t in pressed)

    def python(self, script: str) -> str:
        """What a Python program says in the guest."""
        data = base64.b64encode(script.encode()).decode()
        return self.host.succeed(f"base64 -d <<<{data} | python3 -")

    # --- the keyboard's side

    def go(self, vt: int) -> None:
        """Switch by the keyboard, and wait until the terminal is active and the broker has seen it."""
        self.machine.send_key(f"ctrl-alt-f{vt}")
        self.wait_active(vt)

    def wait_active(self, vt: int, *, timeout: float = 60) -> None:
        """Wait until the broker lets that environment's keyboard speak, and no other."""
        wanted = [f"tty{vt}", *("0" if own == vt else "1" for own in TERMINALS.values())]
        silent = " ".join(f"/sys/class/input/{self.event_node(name)}/device/inhibited" for name in TERMINALS)
        ask = f"cat /sys/class/tty/tty0/active {silent}"
        until(lambda: self.host.succeed(ask).split() == wanted, f"tty{vt} is active", timeout=timeout)
        time.sleep(MOMENT)

    def event_node(self, environment: str) -> str:
        """The kernel's name of its virtual keyboard, which stays the same."""
        if environment not in self.nodes:
            link = f"/dev/seatsmith/{environment}/keyboard"
            self.nodes[environment] = self.host.succeed(f"basename $(readlink -f {link})").strip()
        return self.nodes[environment]

    def plug(self, kind: str, name: str) -> None:
        """Plug in a device, and wait until the broker hears it."""
        before = self.heard()
        self.machine.plug(kind, name)
        until(lambda: self.heard() > before, f"the broker hears the {name}", timeout=60)
        time.sleep(MOMENT)

    def heard(self) -> int:
        """How many real devices the broker has open."""
        process = self.host.succeed(f"systemctl show {SERVICE} -p MainPID --value").strip()
        return self.host.run(f"readlink /proc/{process}/fd/*").output.count("/dev/input/event")

    def key(self, name: str, *, down: bool) -> None:
        send(self.machine.monitor, ("key", {"down": down, "key": {"type": "qcode", "data": name}}))


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()
