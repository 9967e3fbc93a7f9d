"""Makes the device nodes of one environment, and nothing else's, on a file system of the host.

They belong to the environment's own users: its user ids begin at ``uid_base`` on the host. Beside them is
the part of udev's database that is about them, which the environment sees as its /run/udev/data.
"""

import contextlib
import os
import shutil
import stat
import sys
from pathlib import Path

from .environments import DATABASE, LINKS, PLACE, Environment, load_environment

NODES = Path("/run/seatsmith/devices")
GIVEN = Path("/dev/seatsmith-given")
"""Links by number to an environment's input devices: its unit names them before there are any."""
MACHINES = Path("/var/lib/machines")
GROUPS = {"tty": 5, "video": 44, "render": 44, "input": 0}  # what is taken where a group is not there
MOST_GROUPS = 1 << 20  # bytes of /etc/group that are read: the file is the environment's


def main() -> int:
    environment = load_environment(PLACE / f"{sys.argv[1]}.json")
    Maker(environment, group_ids(MACHINES / environment.name)).make()
    return 0


class Maker:
    """Fills the directory of one environment."""

    def __init__(
        self, environment: Environment, groups: dict[str, int], place: Path = NODES, given: Path = GIVEN
    ) -> None:
        self.environment, self.groups = environment, groups
        self.place, self.given = place / environment.name, given / environment.name

    def make(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.rmtree(self.given, ignore_errors=True)
        for name in ("dri", "input", "extra", "udev"):
            (self.place / name).mkdir(mode=0o755, parents=True)
        terminal = f"/dev/tty{self.environment.vt}"
        self.node(terminal, "tty", group="tty", mode=0o620)
        if self.environment.gpu:
            self.graphics()
        if self.environment.input:
            self.inputs()
        for path in self.environment.extra:
            self.node(path, f"extra/{path.removeprefix('/dev/').replace('/', '-')}", group="video")

    def graphics(self) -> None:
        for card in sorted(Path("/dev/dri").glob("card*")):
            self.node(str(card), f"dri/{card.name}", group="video")
        for card in sorted(Path("/dev/dri").glob("renderD*")):
            # for everybody, as systemd's own udev rules say: Wayland's clients open it themselves
            self.node(str(card), f"dri/{card.name}", group="render", mode=0o666)
        for pattern in ("c226:*", "+drm:*"):
            for entry in DATABASE.glob(pattern):
                self.write(f"udev/{entry.name}", entry.read_text())

    def inputs(self) -> None:
        links = sorted((LINKS / self.environment.name).glob("*"))
        if not links:
            raise SystemExit(
                f"{LINKS / self.environment.name} has no devices: is seatsmith-broker.service running, and"
                " was it started since the environment came to this host?"
            )
        self.given.mkdir(mode=0o755, parents=True)
        for number, link in enumerate(links):
            node = link.resolve()
            (self.given / str(number)).symlink_to(node)
            self.node(str(node), f"input/{node.name}", group="input")
            device = node.stat().st_rdev
            entry = DATABASE / f"c{os.major(device)}:{os.minor(device)}"
            text = kinds_alone(entry.read_text())
            self.write(f"udev/{entry.name}", text)
            parent = Path(f"/sys/class/input/{node.name}/device").resolve().name
            self.write(f"udev/+input:{parent}", text)

    def node(self, source: str, name: str, *, group: str, mode: int = 0o660) -> None:
        """A node of the same device as ``source``, which the environment's root and a group may open."""
        there = Path(source).stat()
        if not stat.S_ISCHR(there.st_mode):
            raise SystemExit(f"{source} is not a character device")
        path = self.place / name
        os.mknod(path, stat.S_IFCHR | mode, there.st_rdev)
        path.chmod(mode)  # whatever the umask
        base = self.environment.uid_base
        os.chown(path, base, base + self.groups[group])

    def write(self, name: str, text: str) -> None:
        (self.place / name).write_text(text)


def kinds_alone(text: str) -> str:
    """What udev says about which kind of device it is, without the seat, links and tags of the host."""
    lines = (line for line in text.splitlines() if line.startswith(("I:", "V:", "E:ID_INPUT")))
    return "".join(f"{line}\n" for line in lines)


def group_ids(root: Path) -> dict[str, int]:
    """The environment's own ids of the groups that devices belong to; its file is read with suspicion."""
    found = dict(GROUPS)
    for line in read_inside(root, "etc", "group").splitlines():
        words = line.split(":")
        if len(words) == 4 and words[0] in found and words[2].isascii() and words[2].isdigit():
            number = int(words[2])
            if number < 65536:
                found[words[0]] = number
    return found


def read_inside(root: Path, *names: str) -> str:
    """A file below ``root``, through no link: the environment could point one anywhere on the host."""
    with contextlib.ExitStack() as stack:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in names:
            stack.callback(os.close, fd)
            try:
                fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
            except OSError:
                return ""
        stack.callback(os.close, fd)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, MOST_GROUPS).decode(errors="replace")


if __name__ == "__main__":
    sys.exit(main())
