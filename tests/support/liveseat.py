"""Which seat runs while one of its environments is replaced? A real host, and a container of one program.

The host boots by the fast route and without a desktop, and the container is the smallest there is: so that
nearly all of the time is that of `seatsmith provision`.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from builder.machine.machine import Machine
from builder.machine.ready import leave_passphrase
from builder.machine.seatdisk import written_seat
from builder.machine.subject import Subject
from builder.project import Project, cache_home
from builder.tools import Tools
from tests.support.bootedseat import put_work_image, seatsmith
from tests.support.guestkit import PYTHON, GuestKit, make_kit
from tests.support.guestkit import SIZE as KIT_SIZE
from tests.support.smallcontainer import put_small_container

SERIAL = "SEATSMITH-TEST-0"
DISK = f"/dev/disk/by-id/virtio-{SERIAL}"
UNIT, FOLDER = "systemd-nspawn@work.service", "/var/lib/machines/work"
SECRET = "/run/provision/passphrase"
MOUNT = "var-lib-machines-work.mount"
YES = ("--yes", "--expect-serial", SERIAL, "--disk", DISK)
LONG = 300.0  # seconds that a busy machine may need for what takes ten
BOOT = 900.0
SEAT = """\
disk:
  size: 3GiB
esp: 256MiB
vg: vglive
swap: 64MiB
environments:
  work:
    profile: small
    size: 256MiB
    keep: [/home, /etc/machine-id]
  private:
    profile: work
    vt: 7
    size: 2GiB
host: private
keys:
  pbkdf: fast-test
  test_passphrase: true
"""
PROFILE = """\
description: One program
distribution: arch
isolation: shared
users:
  - name: user
    uid: 1000
display:
  vt: 8
  session: i3
  autologin: user
network:
  veth: {veth}
"""
HOME = f"{FOLDER}/home"
KEPT = f"""\
cd {HOME}
find . -printf '%P %M %U %G\\n' | sort
find . ../etc/machine-id -type f -exec sha256sum {{}} + | sort
"""
ACL_ENTRIES = ((0x01, 6), (0x02, 4, 70000), (0x04, 4), (0x10, 4), (0x20, 0))
"""tag, permissions and whose, of system.posix_acl_* (linux/posix_acl_xattr.h)."""
SET_ATTRIBUTES = f"""\
import os, struct
acl = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry, *(2**32 - 1,)[: 3 - len(entry)]) for entry in {ACL_ENTRIES}
)
os.setxattr("kept", "system.posix_acl_access", acl)
os.setxattr(".", "system.posix_acl_default", acl)
os.setxattr("kept", "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0))
for name in ("user.short", "user.long", "trusted.seat"):
    os.setxattr("kept", name, os.urandom(900 if name == "user.long" else 9))
"""
ATTRIBUTES = """\
import os
for path in (".", "kept"):
    for name in sorted(os.listxattr(path)):
        print(path, name, os.getxattr(path, name).hex())
"""


@dataclass
class LiveSeat:
    """The running seat, and seatsmith on it."""

    machine: Machine
    kit: GuestKit
    project: Project
    subject: Subject

    def provision(self, *words: str) -> dict[str, Any]:
        command = self.kit.command("provision", *words, "--json")
        said = self.machine.host.succeed(
            f"{command} 2>/run/provision/said || {{ cat /run/provision/said; exit 1; }}", timeout=LONG
        )
        return dict(json.loads(said))

    def refused(self, *words: str) -> str:
        return self.machine.host.fail(self.kit.command("provision", *words), timeout=LONG)

    def start(self) -> None:
        """Start the container, and wait until its program runs."""
        self.machine.host.succeed(
            f"systemctl start {UNIT} || {{ journalctl -b -n 60 --no-pager; false; }}", timeout=LONG
        )
        self.machine.host.wait_for_file(f"{FOLDER}/started", timeout=LONG)

    def stop(self) -> None:
        self.machine.host.succeed(f"rm {FOLDER}/started && systemctl stop {UNIT}", timeout=LONG)

    def kept(self) -> str:
        """What the container has in its home directories, with extended attributes, and its machine-id."""
        files = self.machine.host.succeed(f"sh -ec {quote(KEPT)}", timeout=LONG)
        return files + self.python(ATTRIBUTES)

    def python(self, program: str) -> str:
        """Run a Python program on the host, in the container's home directories."""
        return self.machine.host.succeed(f"cd {HOME} && {PYTHON} -c {quote(program)}", timeout=LONG)

    def version(self) -> str:
        return self.machine.host.succeed(f"sed -n s/VERSION_ID=//p {FOLDER}/usr/lib/os-release").strip()


def make_project(place: Path, tools: Tools) -> Project:
    """A project with the seat ``live``, written; the host's image is the checkout's where it has one."""
    project = Project(place / "project", cache_home(), place / "project/dist")
    put_work_image(project)
    project.seats.mkdir()
    (project.seats / "live.yaml").write_text(SEAT)
    (project.profiles / "small.yaml").write_text(PROFILE.format(veth="true"))
    put_small_container(project, "small", "1", tools)
    seatsmith(project, "seat", "write", "live")
    return project


def change_profile(project: Project, tools: Tools, *, veth: str) -> None:
    """Version 2 of the container, whose profile may want no network of its own any more."""
    for profile in ("work", "small"):
        shutil.rmtree(project.dist / profile)
    (project.profiles / "small.yaml").write_text(PROFILE.format(veth=veth))
    put_small_container(project, "small", "2", tools)


@contextmanager
def live_seat(
    place: Path,
    tools: Tools,
    *,
    veth: str = "false",
    prepare: Callable[[Project], None] | None = None,
    memory: int | None = None,
    kit_size: int = KIT_SIZE,
) -> Iterator[LiveSeat]:
    """The seat, booted; in it seatsmith, with version 2 of the container to replace version 1.

    With ``veth`` ("true" as it was, or "false") the host's files for the container stay, or change.
    ``prepare`` adds something to the project that the guest gets; large images in it want more ``memory``
    and a larger ``kit_size``.
    """
    project, kernel, kit = make_project(place, tools), place / "kernel", place / "kit"
    kernel.mkdir()
    subject = without_desktop(written_seat(project, "live", tools, kernel, full=False))
    seats = project.dist / "seats"
    seats.rename(place / "seats")  # the kit has no use for the disk
    subject = subject.model_copy(update={"disk": place / "seats/live/live.img"})
    change_profile(project, tools, veth=veth)
    if prepare:
        prepare(project)
    make_kit(kit, project, tools, size=kit_size)
    if memory:
        subject = subject.model_copy(update={"memory": memory})
    try:
        with running(tools, project, subject, kit) as seat:
            yield seat
    finally:
        kit.unlink()
        subject.disk.unlink()


@contextmanager
def running(tools: Tools, project: Project, subject: Subject, kit: Path) -> Iterator[LiveSeat]:
    """A seat whose disk was written, booted until its container runs, with seatsmith in it."""
    with Machine(tools, subject.hardware(), name="provision-live") as machine:
        machine.start()
        machine.wait_for_agent(timeout=BOOT)
        leave_passphrase(machine, subject)
        seat = LiveSeat(machine, GuestKit(machine, kit), project, subject)
        machine.host.succeed(f"umask 077; printf %s {quote(subject.passphrase or '')} >{SECRET}")
        machine.host.wait_for_file(f"{FOLDER}/started", timeout=BOOT)
        yield seat


def without_desktop(subject: Subject) -> Subject:
    quiet = f"{subject.fast.cmdline} systemd.mask=lightdm.service"
    return subject.model_copy(update={"fast": subject.fast.model_copy(update={"cmdline": quiet})})
