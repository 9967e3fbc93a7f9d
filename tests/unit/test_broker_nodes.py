"""What does the maker of device nodes believe of files that the environment itself could have written?"""

import json
from pathlib import Path

import pytest

from builder.broker.environments import load_environments
from builder.broker.nodes import GROUPS, group_ids, kinds_alone


def with_groups(root: Path, text: str) -> Path:
    (root / "etc").mkdir()
    (root / "etc/group").write_text(text)
    return root


def test_devices_belong_to_the_environments_own_groups(tmp_path: Path) -> None:
    root = with_groups(tmp_path, "root:x:0:\ntty:x:7:\nvideo:x:27:user\ninput:x:995:user\n")
    assert group_ids(root) == {"tty": 7, "video": 27, "render": GROUPS["render"], "input": 995}


@pytest.mark.parametrize(
    "line", ["video:x:65536:", "video:x:-1:", "video:x:٣:", "video:x::", "video:x:4", "video"]
)
def test_an_id_outside_of_the_environment_or_no_id_is_not_believed(line: str, tmp_path: Path) -> None:
    assert group_ids(with_groups(tmp_path, f"{line}\n")) == GROUPS


def test_no_link_leads_out_of_the_environment(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with_groups(outside, "tty:x:7:\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/group").symlink_to(outside / "etc/group")
    assert group_ids(root) == GROUPS
    (root / "etc/group").unlink()
    (root / "etc").rmdir()
    (root / "etc").symlink_to(outside / "etc")
    assert group_ids(root) == GROUPS


def test_an_environment_without_groups_gets_the_usual_ids(tmp_path: Path) -> None:
    assert group_ids(tmp_path) == GROUPS


def test_of_udevs_words_only_the_kind_of_a_device_is_passed_on() -> None:
    text = "I:1\nE:ID_INPUT=1\nE:ID_INPUT_KEYBOARD=1\nE:ID_SEAT=seat-x\nS:seatsmith/work/keyboard\nG:seat\n"
    assert kinds_alone(text) == "I:1\nE:ID_INPUT=1\nE:ID_INPUT_KEYBOARD=1\n"


def test_the_environments_of_a_seat_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, vt in (("work", 8), ("guest", 9)):
        data = {"name": name, "vt": vt, "uid_base": 524288, "gpu": True, "input": True, "extra": []}
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    assert [(e.name, e.vt) for e in load_environments(tmp_path)] == [("guest", 9), ("work", 8)]
