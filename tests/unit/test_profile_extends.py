"""What comes out when profiles extend each other, and from where each value is."""

from pathlib import Path

import pytest

from builder.profile import Profile, load_profile, resolve_profile
from builder.profile.model import Role
from builder.profile.positions import Position
from builder.project import Project
from tests.support.profiles import problems_of, project_at, write


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return project_at(tmp_path)


def test_a_later_file_wins_and_mappings_are_merged_key_by_key(project: Project) -> None:
    write(project, _a="display: {vt: 9, greeter: x}\nkeymap: de\n")
    write(project, work="extends: _a\ndisplay: {vt: 10}\n")
    profile = load_profile(project, "work")
    assert (profile.display.vt, profile.display.greeter, profile.keymap) == (10, "x", "de")


def test_of_a_list_of_files_the_later_wins(project: Project) -> None:
    write(project, _a="keymap: de\nlocale: de_DE.UTF-8\n", _b="keymap: fr\n", work="extends: [_a, _b]\n")
    profile = load_profile(project, "work")
    assert (profile.keymap, profile.locale) == ("fr", "de_DE.UTF-8")


def test_a_chain_is_followed_to_its_end(project: Project) -> None:
    write(project, _a="keymap: de\n", _b="extends: _a\n", _c="extends: _b\n", work="extends: _c\n")
    resolved = resolve_profile(project, "work")
    assert resolved.profile.keymap == "de"
    assert [f.stem for f in resolved.files] == ["_a", "_b", "_c", "work"]


def test_a_file_reached_by_two_ways_counts_once(project: Project) -> None:
    write(project, _a="packages: {add: [vim]}\n", _b="extends: _a\n", _c="extends: _a\nkeymap: de\n")
    write(project, work="extends: [_b, _c]\npackages: {add: [git]}\n")
    assert load_profile(project, "work").packages.add == ["vim", "git"]


def test_a_circle_is_refused_with_its_members(project: Project) -> None:
    write(project, _a="extends: _b\n", _b="extends: [_c]\n", _c="keymap: us\nextends: _a\n")
    write(project, work="extends: _a\n")
    (problem,) = problems_of(project)
    assert problem.message == "extends: profiles extend each other in a circle: _a → _b → _c → _a"
    assert problem.position == Position(project.profiles / "_c.yaml", 2, 10)


def test_packages_and_services_add_up_and_the_same_name_counts_once(project: Project) -> None:
    write(project, _a="packages: {add: [vim], remove: [nano]}\nservices: {enable: [a.service]}\n")
    write(project, work="extends: _a\npackages: {add: [git, vim]}\nservices: {enable: [b.timer]}\n")
    profile = load_profile(project, "work")
    assert (profile.packages.add, profile.packages.remove) == (["vim", "git"], ["nano"])
    assert profile.services.enable == ["a.service", "b.timer"]


def test_what_a_later_file_removes_is_no_longer_added_and_the_other_way_round(project: Project) -> None:
    write(project, _a="packages: {add: [vim, git], remove: [nano]}\nservices: {enable: [a.service]}\n")
    write(
        project, work="extends: _a\npackages: {add: [nano], remove: [vim]}\nservices: {mask: [a.service]}\n"
    )
    profile = load_profile(project, "work")
    assert (profile.packages.add, profile.packages.remove) == (["git", "nano"], ["vim"])
    assert (profile.services.enable, profile.services.mask) == ([], ["a.service"])


def test_users_are_merged_by_name_and_their_lists_replaced(project: Project) -> None:
    write(project, _a="users: [{name: al, uid: 1500, groups: [video]}, {name: bo}]\n")
    write(project, work="extends: _a\nusers: [{name: al, groups: [audio]}, {name: cy}]\n")
    users = load_profile(project, "work").users
    assert [(u.name, u.uid, u.groups) for u in users] == [
        ("al", 1500, ["audio"]),
        ("bo", 1000, ["audio", "video", "input"]),
        ("cy", 1001, ["audio", "video", "input"]),
    ]


def test_other_lists_replace_the_inherited_one(project: Project) -> None:
    write(
        project, _a="devices: {extra: [/dev/video0]}\n", work="extends: _a\ndevices: {extra: [/dev/fuse]}\n"
    )
    assert load_profile(project, "work").devices.extra == ["/dev/fuse"]


def test_null_takes_an_inherited_value_back(project: Project) -> None:
    write(project, _a="hostname: pc\nusers: [{name: al}]\ndisplay: {autologin: al}\n")
    write(project, work="extends: _a\nhostname: null\ndisplay: {autologin: null}\n")
    profile = load_profile(project, "work")
    assert (profile.hostname, profile.display.autologin) == ("work", None)


def test_the_name_of_an_extended_profile_is_not_inherited(project: Project) -> None:
    write(project, mail="name: mail\nkeymap: de\n", work="extends: mail\n")
    assert load_profile(project, "work").name == "work"


def test_an_autologin_may_name_a_user_of_an_extended_file(project: Project) -> None:
    write(project, _a="users: [{name: al}]\n", work="extends: _a\ndisplay: {autologin: al}\n")
    assert load_profile(project, "work").display.autologin == "al"


def test_a_mistake_that_only_the_merged_profile_has_is_told_where_the_value_stands(project: Project) -> None:
    write(project, _a="keymap: us\ndisplay: {autologin: al}\n", work="extends: _a\n")
    (problem,) = problems_of(project)
    assert (problem.position.file.stem, problem.position.line, problem.position.column) == ("_a", 2, 22)


def test_every_value_tells_where_it_was_set(project: Project) -> None:
    write(project, _a="keymap: de\npackages:\n  add: [vim]\nusers:\n- {name: al, uid: 1500}\n")
    write(
        project,
        work="extends: _a\nlocale: C.UTF-8\npackages:\n  add:\n  - git\n"
        "users:\n- {name: al, shell: /bin/sh}\n",
    )
    resolved = resolve_profile(project, "work")

    def place(*path: str | int) -> tuple[str, int, int] | None:
        found = resolved.origin(path)
        return (found.file.stem, found.line, found.column) if found else None

    assert place("keymap") == ("_a", 1, 9)
    assert place("locale") == ("work", 2, 9)
    assert place("packages", "add", 0) == ("_a", 3, 9)
    assert place("packages", "add", 1) == ("work", 5, 5)
    assert place("users", 0, "uid") == ("_a", 5, 19)
    assert place("users", 0, "shell") == ("work", 7, 21)
    assert place("timezone") is None
    assert place("users", 0, "groups", 0) is None


def test_a_host_is_bootable_by_itself_and_wayland_brings_sway(project: Project) -> None:
    write(
        project,
        work="role: host\ndisplay: {vt: 7, server: wayland, autologin: user}\nusers: [{name: user}]\n",
    )
    profile = load_profile(project, "work")
    assert (profile.role, profile.bootable, profile.display.session) == (Role.HOST, True, "sway")


def test_a_fingerprint_is_read_with_spaces_and_kept_without(project: Project) -> None:
    (project.profiles / "k.asc").touch()
    fingerprint = "9d74 DF6F 91B7 BDAB D581  5CA8 4AC5 588F 941C 2A25"
    more = f"key: k.asc, fingerprint: {fingerprint}"
    write(project, work=f"repositories: [{{name: a, url: 'https://a.example/$repo', {more}}}]\n")
    (repository,) = load_profile(project, "work").repositories
    assert repository.fingerprint == "9D74DF6F91B7BDABD5815CA84AC5588F941C2A25"


def test_a_profile_made_by_a_program_is_held_to_the_same_rules() -> None:
    with pytest.raises(ValueError, match="there is no user 'al'"):
        Profile.model_validate({"name": "work", "display": {"autologin": "al"}})


def test_aliases_work_and_point_to_their_anchor(project: Project) -> None:
    write(project, work="users:\n- {name: al, groups: &g [audio]}\n- {name: bo, groups: *g}\n")
    assert load_profile(project, "work").users[1].groups == ["audio"]
