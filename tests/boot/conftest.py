"""What do the boot tests share? One seat, made and booted once."""

from collections.abc import Iterator

import pytest

from builder.machine.boottest import first_boot
from builder.machine.seatdisk import written_seat
from builder.project import Project, cache_home
from builder.tools import ensure_tools
from tests.support.bootedseat import BootedSeat, make_seat


@pytest.fixture(scope="session")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedSeat]:
    tools = ensure_tools()
    place = tmp_path_factory.mktemp("boot")
    project = Project(place / "project", cache_home(), place / "dist")
    make_seat(project)
    folder, kernel = place / "report", place / "kernel"
    folder.mkdir()
    kernel.mkdir()
    subject = written_seat(project, "twins", tools, kernel)
    overlay = place / "ready.qcow2"
    boot = first_boot(subject, tools, folder, overlay, print)
    yield BootedSeat(tools, project, subject, folder, overlay, boot)
    for path in (overlay, subject.disk):
        path.unlink(missing_ok=True)
