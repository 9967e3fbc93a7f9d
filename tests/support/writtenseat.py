"""How do the tests write a seat? By the writer's own function, on a seat that has one of everything."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import zstandard

from builder.project import Project
from builder.seat.images import checked_image
from builder.seat.inspect import Disk, inspect_disk, open_volume
from builder.seat.plan import Plan, load_plan
from builder.seat.write import Erase, Materials, Report, write_seat
from builder.tools import Tools
from builder.volume.ext4read import Filesystem
from tests.support.gpgkeys import TestKey

CHECKOUT = Path(__file__).parents[2]
SEAT = """\
disk:
  size: 832MiB
esp: 72MiB
vg: vgwritten
swap:
  size: 14MiB
  encrypted: false
environments:
  work:
    size: 128MiB
    keyfile: true
  private:
    size: 140MiB
host: private
keys:
  pbkdf: fast-test
"""
SECRETS = {"work": b"correct horse battery", "private": b"staple of the other one"}

RUNNER = """
import sys
from pathlib import Path
from builder.project import Project
from builder.tools import ensure_tools
from tests.support.gpgkeys import TestKey
from tests.support.writtenseat import SeatBench, prepare_{fault}
root, public, target, argument = sys.argv[1:]
prepare_{fault}(argument)
bench = SeatBench(Project(Path(root), Path(root) / "cache", Path(root) / "dist"), ensure_tools(),
                  TestKey("", Path(), Path(public)))
bench.write(Path(target))
"""


@dataclass(frozen=True)
class SeatBench:
    """A project with the seat ``tiny`` and signed images of it."""

    project: Project
    tools: Tools
    key: TestKey

    def plan(self) -> Plan:
        return load_plan(self.project, "tiny")[0]

    def materials(self, plan: Plan, *, recovery: bool = False) -> Materials:
        images = {
            e.name: checked_image(self.project, e.profile, [self.key.public], self.tools)
            for e in plan.environments
        }
        secrets = {name: bytearray(secret) for name, secret in SECRETS.items()}
        return Materials(images, load_plan(self.project, "tiny")[2], secrets, recovery=recovery)

    def write(
        self,
        target: Path,
        *,
        erase: Erase = Erase.AUTO,
        overwrite: bool = False,
        recovery: bool = False,
    ) -> Report:
        plan = self.plan()
        return write_seat(
            plan,
            self.materials(plan, recovery=recovery),
            target,
            tools=self.tools,
            scratch=self.project.cache / f"{target.name}.scratch",
            erase=erase,
            overwrite=overwrite,
        )

    def write_elsewhere(self, target: Path, fault: str, argument: str) -> int:
        """The same in a process of its own that is made to fail; its exit status."""
        argv = [sys.executable, "-c", RUNNER.format(fault=fault)]
        argv += [os.fspath(self.project.root), os.fspath(self.key.public), os.fspath(target), argument]
        return subprocess.run(argv, cwd=CHECKOUT, timeout=300, check=False).returncode

    def filesystem(self, disk: Disk, name: str, scratch: Path) -> Filesystem:
        found = inspect_disk(disk, self.tools)
        volume = next(v for v in found.volumes if v.name == name)
        return open_volume(disk, volume, bytearray(SECRETS[name]), self.tools, scratch)


def prepare_kill(after: str) -> None:
    """Have this process killed in the middle of the given write."""
    from builder.volume import xts

    left, whole = [int(after)], xts.write_all

    def write(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.pwrite(fd, bytes(data)[: len(data) // 2 // 512 * 512], offset)
            os.kill(os.getpid(), 9)
        whole(fd, data, offset)

    xts.write_all = write


def members_of(archive: Path) -> dict[str, tuple[int, int, int, int, str]]:
    """Mode, owner, group, time and digest (or target) of all that is in a .tar.zst, by path."""
    with archive.open("rb") as f:
        data = zstandard.ZstdDecompressor().stream_reader(f, read_across_frames=True).read()
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for m in tar:
            inside = tar.extractfile(m) if m.isreg() else None
            text = hashlib.sha256(inside.read()).hexdigest() if inside else m.linkname
            name = m.name.removeprefix(".").strip("/")
            found[name] = (m.mode, m.uid, m.gid, int(m.mtime), text)
    return found
