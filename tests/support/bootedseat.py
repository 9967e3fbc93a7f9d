"""Which seat do the boot tests start? A real one, from nothing: image, disk, firmware, QEMU.

To be quick it is made of one image: the host and the container both carry ``work``. Free room is left for a
second container, which test_provision_live.py writes while the seat runs.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.machine.boottest import Wanted, first_boot, read_records, run_checks
from builder.machine.seatdisk import written_seat
from builder.machine.subject import Subject
from builder.project import Project, cache_home
from builder.report.model import Report
from builder.report.page import write_report
from builder.report.record import CheckRecord
from builder.tools import Tools, ensure_tools
from tests.support.tinyproject import CHECKOUT, copy_checkout

NONE: Mapping[str, tuple[str, str]] = {}
SEAT = """\
disk:
  size: 6GiB
esp: 256MiB
swap: 64MiB
environments:
  work:
    size: 2GiB
    keyfile: true
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


@dataclass(frozen=True)
class BootedSeat:
    """A seat that was brought up once; ``overlay`` holds its ready state, ``folder`` what was seen."""

    tools: Tools
    project: Project
    subject: Subject
    folder: Path
    overlay: Path
    boot: CheckRecord

    def check(
        self, *ids: str, defects: bool = False, faults: Mapping[str, tuple[str, str]] = NONE
    ) -> dict[str, CheckRecord]:
        """Run checks (all that take no minute where none is named) from the ready state.

        ``faults`` (see Job) happen before some of them.
        """
        kind = "seeded" if defects else "faulty" if faults else "unharmed"
        folder = self.folder / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        run_checks(
            self.subject,
            self.tools,
            folder,
            self.overlay,
            folder / "job.json",
            Wanted(only=ids, quick=not ids, defects=defects, faults=faults),
        )
        return {record.id: record for record in read_records(folder)}

    def report(self, records: list[CheckRecord]) -> Report:
        report = Report("twins", self.folder / "unharmed", records, self.folder / "boot.json")
        write_report(report)
        return report


@contextmanager
def booted_seat(place: Path, make: Callable[[Project], None], *, full: bool = False) -> Iterator[BootedSeat]:
    """The seat that ``make`` writes to a project below ``place``, brought up once.

    ``boot`` says whether it came up. Disks and states are removed at the end.
    """
    tools = ensure_tools()
    project = Project(place / "project", cache_home(), place / "dist")
    make(project)
    folder, kernel, overlay = place / "report", place / "kernel", place / "ready.qcow2"
    folder.mkdir()
    kernel.mkdir()
    subject = written_seat(project, "twins", tools, kernel, full=full)
    boot = first_boot(subject, tools, folder, overlay, print)
    yield BootedSeat(tools, project, subject, folder, overlay, boot)
    for path in (overlay, subject.disk):
        path.unlink(missing_ok=True)


def seatsmith(project: Project, *words: str) -> None:
    """``seatsmith WORDS`` in the project."""
    places = {"SEATSMITH_ROOT": os.fspath(project.root), "SEATSMITH_DIST": os.fspath(project.dist)}
    argv = [sys.executable, "-m", "builder", *words]
    result = subprocess.run(
        argv, cwd=CHECKOUT, env={**os.environ, **places}, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stderr[-4000:]


def put_work_image(project: Project) -> None:
    """A copy of the checkout with the image ``work``: the checkout's own where it has one."""
    copy_checkout(project.root)
    for name in ("_desktop", "work"):
        shutil.copyfile(CHECKOUT / f"profiles/{name}.yaml", project.profiles / f"{name}.yaml")
    if (CHECKOUT / "dist/work/manifest.json").exists():
        shutil.copytree(CHECKOUT / "dist/work", project.dist / "work")
    else:
        seatsmith(project, "image", "work", "--source", "standin")


def make_seat_of_image(project: Project, *, isolation: str) -> None:
    """The seat ``twins`` with an image that is there already, which is the same in both modes."""
    put_work_image(project)
    profile = project.profiles / "work.yaml"
    profile.write_text(f"{profile.read_text()}isolation: {isolation}\n")
    write_twins(project)


def write_twins(project: Project) -> None:
    project.seats.mkdir()
    (project.seats / "twins.yaml").write_text(SEAT)
    seatsmith(project, "seat", "write", "twins")


def make_seat(project: Project, more: str = "") -> None:
    """A copy of the checkout with the seat ``twins``, its image built and its disk written.

    ``more`` is merged into its profile ``work``, as whatever extends it would be.
    """
    copy_checkout(project.root)
    for name in ("_desktop", "work"):
        text = (CHECKOUT / f"profiles/{name}.yaml").read_text()
        (project.profiles / f"{name}.yaml").write_text(text)
    if more:
        (project.profiles / "work.yaml").rename(project.profiles / "_work.yaml")
        (project.profiles / "work.yaml").write_text(f"extends: _work\n{more}")
    seatsmith(project, "image", "work", "--source", "standin")
    write_twins(project)
