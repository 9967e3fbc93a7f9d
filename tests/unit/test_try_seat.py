"""Is the seat that is made up around a profile one that can be written?"""

from pathlib import Path

import pytest

from builder.machine.tryseat import HOST, seat_name, try_project
from builder.project import find_project
from builder.seat.plan import load_plan

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("profile", "host"), [("work", "work"), ("guest", "private"), ("private", "private")]
)
def test_a_profile_gets_a_host_that_can_boot_and_a_terminal_of_its_own(
    tmp_path: Path, profile: str, host: str
) -> None:
    project = try_project(find_project(CHECKOUT), profile, tmp_path / "project")
    plan, file, _ = load_plan(project, seat_name(profile))
    assert plan.host == HOST
    assert file.seat.profile_of(HOST) == host
    assert len({environment.vt for environment in plan.environments}) == 2


def test_the_checkout_itself_is_not_changed(tmp_path: Path) -> None:
    project = find_project(CHECKOUT)
    before = sorted(project.profiles.rglob("*"))
    try_project(project, "work", tmp_path / "project")
    assert sorted(project.profiles.rglob("*")) == before
