"""Is a setting that an image cannot follow told of, whichever way its distribution lays things out?"""

import subprocess
from pathlib import Path

import pytest

from builder import localegen, treecheck
from builder.imagefault import lacking as fault
from builder.profile import load_profile
from builder.project import Project
from tests.support.profiles import project_at, write

EVDEV = """\
! layout
  de              German
  us              English (US)

! variant
  nodeadkeys      de: German (no dead keys)
  intl            us: English (US, intl., with dead keys)

! option
  uk              no layout
"""
# what glibc, kbd, xkeyboard-config and tzdata install, less all that is of no interest here
STANDIN = ("usr/share/keymaps/i386/qwertz/de-latin1.kmap.gz", "usr/share/keymaps/i386/qwerty/us.kmap.gz")
ARCH = ("usr/share/kbd/keymaps/i386/qwertz/de-latin1.map.gz", "usr/share/kbd/keymaps/i386/qwerty/us.map.gz")
GENTOO = ("usr/share/keymaps/i386/qwertz/de-latin1.map.gz", "usr/share/keymaps/i386/qwerty/us.map.gz")
KEYBOARD = 'Option "XkbLayout" "{}"\n# a remark\n    Option "XkbVariant" "{}"\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return project_at(tmp_path)


@pytest.fixture(params=["arch", "gentoo", "standin"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    root = tmp_path / "tree"
    for name in {"arch": ARCH, "gentoo": GENTOO, "standin": STANDIN}[request.param]:
        put(root / name)
    put(root / "usr/share/i18n/locales/de_DE")
    put(root / "usr/share/i18n/locales/sr_RS@latin")
    xkb = root / ("usr/share/xkeyboard-config-2" if request.param == "arch" else "usr/share/X11/xkb")
    if request.param == "arch":
        (root / "usr/share/X11").mkdir(parents=True)
        (root / "usr/share/X11/xkb").symlink_to("/usr/share/xkeyboard-config-2")  # as since 2.45
    put(xkb / "rules" / ("base.lst" if request.param == "gentoo" else "evdev.lst"), EVDEV)
    put(xkb / "symbols/de", 'xkb_symbols "basic" {};\nxkb_symbols "hidden" {};\n')
    put(xkb / "symbols/us", 'xkb_symbols "intl" {};\n')
    put(root / "usr/share/zoneinfo/Europe/Berlin")
    put(root / "usr/share/zoneinfo/UTC")
    if request.param == "gentoo":
        put(root / "usr/lib/locale/locale-archive", "…\0C.utf8\0de_DE.utf8\0")
    else:
        put(root / "usr/lib/locale/de_DE.utf8/LC_CTYPE")
    return root


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def settings(
    root: Path, locale: str = "", keymap: str = "", layout: str = "", variant: str = "", zone: str = ""
) -> None:
    put(root / "etc/locale.conf", f"LANG={locale}\n")
    put(root / "etc/vconsole.conf", f"# Written by systemd-firstboot\nKEYMAP={keymap}\n")
    put(root / "etc/X11/xorg.conf.d/00-keyboard.conf", KEYBOARD.format(layout, variant))
    put(root / "usr/lib/systemd/system-preset/00-profile.preset", "# What the profile turns on\n")
    if zone:
        (root / "etc/localtime").symlink_to(f"../usr/share/zoneinfo/{zone}")


def test_settings_that_the_image_can_follow_are_accepted(tree: Path) -> None:
    settings(tree, "de_DE.UTF-8", "de-latin1", "de,us", "nodeadkeys,intl", "Europe/Berlin")
    assert list(treecheck.lacking(tree)) == []


def test_a_variant_that_no_list_names_is_accepted(tree: Path) -> None:
    settings(tree, layout="de", variant="hidden")
    assert list(treecheck.lacking(tree)) == []


def test_settings_that_the_image_cannot_follow_are_named_with_what_is_like_them(tree: Path) -> None:
    settings(tree, "de_DD.UTF-8", "de-latin2", "uss", "", "Europe/Bern")
    assert list(treecheck.lacking(tree)) == [
        "the image has no locale de_DD.UTF-8; near: de_DE.UTF-8",
        "the image has no keymap de-latin2; near: de-latin1",
        "the image has no keyboard layout uss; near: us",
        "the image has no time zone Europe/Bern; near: Europe/Berlin",
    ]


def test_a_variant_that_the_layout_has_not_is_named_with_the_layout(tree: Path) -> None:
    settings(tree, layout="us,de", variant="intl,nodedkeys")
    said = "the image has no keyboard layout de(nodedkeys); near: de(nodeadkeys)"
    assert list(treecheck.lacking(tree)) == [said]


def test_the_layout_of_a_sway_login_is_looked_at_too(tree: Path) -> None:
    put(tree / "etc/greetd/seatsmith.sway", 'input * xkb_layout "gr"\ninput * xkb_variant ""\n')
    assert list(treecheck.lacking(tree)) == ["the image has no keyboard layout gr"]


def test_nothing_is_asked_of_a_tree_that_has_no_such_data(tmp_path: Path) -> None:
    settings(tmp_path, "xx_YY.UTF-8", "neo", "neo", "", "Europe/Atlantis")
    assert list(treecheck.lacking(tmp_path)) == []


@pytest.mark.parametrize("name", ["C.UTF-8", "C", ""])
def test_the_locale_that_glibc_has_built_in_is_never_missed(tree: Path, name: str) -> None:
    settings(tree, name)
    assert list(treecheck.lacking(tree)) == []


@pytest.mark.parametrize(
    ("locale", "made"),
    [
        ("sr_RS.UTF-8@latin", ["-i", "sr_RS@latin", "-f", "UTF-8", "/usr/lib/locale/sr_RS.utf8@latin"]),
        ("xx_YY.UTF-8", None),
        ("C.UTF-8", None),
    ],
)
def test_a_locale_is_made_where_the_image_has_what_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locale: str, made: list[str] | None
) -> None:
    monkeypatch.setenv("BUILDROOT", str(tmp_path))
    ran: list[list[str]] = []

    def run(argv: list[str], *, check: bool) -> None:
        ran.append(argv)
        (tmp_path / "work").mkdir()  # as mkosi-chroot leaves it

    monkeypatch.setattr(subprocess, "run", run)
    settings(tmp_path, locale)
    put(tmp_path / "usr/share/i18n/locales/sr_RS@latin")
    put(tmp_path / "usr/bin/localedef")
    put(tmp_path / "usr/lib/os-release")
    localegen.main()
    assert [argv[-5:] for argv in ran] == ([made] if made else [])
    assert not (tmp_path / "work").exists()
    (tmp_path / "usr/lib/locale" / treecheck.made_name(locale)).mkdir(parents=True, exist_ok=True)
    ran.clear()
    localegen.main()
    assert ran == []


def test_the_error_names_the_line_of_the_profile(project: Project, tmp_path: Path) -> None:
    write(project, work="locale: de_DD.UTF-8\nkeymap: neo\nservices: {enable: [sshdd.service]}\n")
    log = tmp_path / "mkosi.log"
    log.write_text(
        "‣  Running finalize script\n"
        "the image has no unit sshdd.service; near: sshd.service ssh.service\n"
        "the image has no locale de_DD.UTF-8; near: de_DE.UTF-8\n"
        "the image has no keyboard layout neo\n"
        "the image has no time zone UTC\n"
    )
    error = fault(project, load_profile(project, "work"), log)
    assert error is not None
    told = [line.removeprefix("profiles/work.yaml:") for line in error.message.splitlines()]
    assert told == [
        "3:21: the image has no unit sshdd.service; did you mean sshd.service or ssh.service?",
        "1:9: locale: the image has no locale de_DD.UTF-8; did you mean de_DE.UTF-8?",
        "2:9: keymap: the image has no keyboard layout neo",
        "work: timezone: the image has no time zone UTC",
    ]


def test_a_time_zone_that_firstboot_refuses_is_no_failure_of_mkosi(project: Project, tmp_path: Path) -> None:
    write(project, work="timezone: Europe/Atlantis\n")
    log = tmp_path / "mkosi.log"
    log.write_text("Failed to open timezone file\nTimezone Europe/Atlantis is not valid.\n")
    error = fault(project, load_profile(project, "work"), log)
    assert error is not None
    assert error.message.endswith("work.yaml:1:11: timezone: the image has no time zone Europe/Atlantis")


def test_a_failure_of_another_kind_is_left_to_others(project: Project, tmp_path: Path) -> None:
    write(project, work="keymap: us\n")
    (tmp_path / "mkosi.log").write_text("the disk is on fire\n")
    assert fault(project, load_profile(project, "work"), tmp_path / "mkosi.log") is None
