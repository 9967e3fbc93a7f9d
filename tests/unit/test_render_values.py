"""builder.render: what may be interpolated, how names are escaped, which values are derived?"""

import colorsys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.profile.model import User
from builder.render.escape import device_unit, path_unit, unit_name
from builder.render.templates import RenderError, render_tree
from builder.render.values import Layout, terminal_color, with_uids, xkb_layout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A template tree with one file that shows the value ``x``."""
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/file.j2").write_text("[Unit]\nDescription={{ x }}\n")
    return tmp_path / "tree"


@pytest.mark.parametrize(
    "bad", ["a\nExecStart=/bin/sh", "a\rb", "a\0b", "50%", "\x1b[2J", "a\u2028b", "a\u202eb"]
)
def test_no_value_can_end_its_line_or_be_expanded_by_systemd(bad: str, tree: Path, tmp_path: Path) -> None:
    with pytest.raises(RenderError, match=r"template etc/file\.j2: the value"):
        render_tree(tree, tmp_path / "out", {"x": bad})


@given(st.text(st.characters(categories=["Cc", "Zl", "Zp"]), min_size=1), st.text(), st.text())
def test_control_characters_are_refused_wherever_they_stand(bad: str, before: str, after: str) -> None:
    from builder.render.templates import guarded

    with pytest.raises(RenderError):
        guarded(before + bad + after)


def test_ordinary_values_pass_unchanged(tree: Path, tmp_path: Path) -> None:
    render_tree(tree, tmp_path / "out", {"x": 'Büro <1> & "2" {{ y }}'})
    assert (tmp_path / "out/etc/file").read_text() == '[Unit]\nDescription=Büro <1> & "2" {{ y }}\n'


def test_a_value_that_is_missing_is_an_error_that_names_the_template(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(RenderError, match=r"template etc/file\.j2: 'x' is undefined"):
        render_tree(tree, tmp_path / "out", {})


def test_a_file_name_is_rendered_too_and_cannot_leave_the_tree(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/{{ x }}.conf").write_text("static {{ not rendered }}\n")
    assert render_tree(tmp_path / "tree", tmp_path / "out", {"x": "work"}) == [Path("work.conf")]
    assert (tmp_path / "out/work.conf").read_text() == "static {{ not rendered }}\n"
    with pytest.raises(RenderError, match="outside of the tree"):
        render_tree(tmp_path / "tree", tmp_path / "out", {"x": "../../etc/passwd"})
    with pytest.raises(RenderError, match="outside of the tree"):
        render_tree(tmp_path / "tree", tmp_path / "out", {"x": "/etc/passwd"})


def test_a_program_is_executable_and_an_empty_result_makes_no_file(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/program").write_text("#!/bin/sh\n")
    (tmp_path / "tree/nothing.j2").write_text("{% if x %}\nsomething\n{% endif %}\n")
    assert render_tree(tmp_path / "tree", tmp_path / "out", {"x": False}) == [Path("program")]
    assert (tmp_path / "out/program").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("work", "work"), ("my-work", "my\\x2dwork"), ("a/b", "a-b"), (".x", "\\x2ex"), ("ü", "\\xc3\\xbc")],
)
def test_names_are_escaped_as_systemd_escape_does(text: str, escaped: str) -> None:
    assert unit_name(text) == escaped


def test_paths_become_unit_names() -> None:
    assert path_unit("/") == "-"
    assert path_unit("//dev//mapper/a-b/") == "dev-mapper-a\\x2db"
    assert device_unit("/dev/mapper/work") == "dev-mapper-work.device"


def test_users_without_a_uid_get_the_next_free_ones_in_order() -> None:
    users = [User(name="a"), User(name="b", uid=1000), User(name="c", uid=1002), User(name="d")]
    assert [user.uid for user in with_uids(users)] == [1001, 1000, 1002, 1003]


def test_neighbouring_terminals_have_colours_that_are_told_apart() -> None:
    hues = []
    for vt in range(7, 13):
        text = terminal_color(vt)
        red, green, blue = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
        hues.append(colorsys.rgb_to_hsv(red, green, blue)[0] * 360)
    distances = [min(abs(a - b), 360 - abs(a - b)) for i, a in enumerate(hues) for b in hues[:i]]
    assert min(distances) > 25


@pytest.mark.parametrize(
    ("keymap", "layout"),
    [
        ("us", Layout("us", "")),
        ("de-latin1", Layout("de", "")),
        ("de-latin1-nodeadkeys", Layout("de", "nodeadkeys")),
        ("uk", Layout("gb", "")),
        ("dvorak", Layout("us", "dvorak")),
        ("br-abnt2", Layout("br", "")),
        ("et", Layout("ee", "")),
        ("sr-latin", Layout("rs", "latin")),
        ("lt.baltic", Layout("lt", "")),
    ],
)
def test_a_console_key_map_has_a_layout_of_x(keymap: str, layout: Layout) -> None:
    assert xkb_layout(keymap) == layout
