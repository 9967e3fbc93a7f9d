"""Every way to write a profile wrong that we thought of: each is refused with line, column and reason."""

import os
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.profile import checks, load_profile
from builder.profile.checks import TIMEZONE
from builder.profile.positions import LARGEST
from tests.support.profiles import problems_of, project_at, write

KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"
REPOSITORY = "repositories:\n- name: {name}\n  url: {url}\n  key: k.asc\n  fingerprint: {fingerprint}\n"
FINGERPRINT = "9D74DF6F91B7BDABD5815CA84AC5588F941C2A25"


def repository(
    name: str = "ours", url: str = "https://example.org/a", fingerprint: str = FINGERPRINT
) -> str:
    return REPOSITORY.format(name=name, url=url, fingerprint=f"'{fingerprint}'")


def user(more: str) -> str:
    return "users:\n- name: bob\n  " + more


SYNTAX = [
    ("", 1, 1, "is empty"),
    ("# only a comment\n", 1, 1, "is empty"),
    ("- a\n- b\n", 1, 1, "a profile is a mapping (lines of `key: value`), not a list"),
    ("just words\n", 1, 1, "a profile is a mapping (lines of `key: value`), not text"),
    ("locale: C.UTF-8\n---\nlocale: C.UTF-8\n", 2, 1, "one file is one document"),
    ("display:\n\tvt: 8\n", 2, 1, "a tab indents this line"),
    ("locale: [a\n", 2, 1, "expected ',' or ']'"),
    ("locale: 'C.UTF-8\n", 2, 1, "unexpected end of stream"),
    ("keymap: us\nkeymap: de\n", 2, 1, "key 'keymap' is there twice, first in line 1"),
    ("display: {vt: 8, vt: 9}\n", 1, 18, "key 'vt' is there twice"),
    ("keymap: no\n", 1, 9, "no without quotes is false to some programs and a word to others; write 'no'"),
    ("bootable: yes\n", 1, 11, "yes without quotes is true to some programs"),
    ("bootable: On\n", 1, 11, "or true"),
    ("bootable: True\n", 1, 11, "True without quotes is true to some"),
    ("hostname: Null\n", 1, 11, "or null"),
    (user("uid: 01000\n"), 3, 8, "read as different numbers"),
    (user("uid: 1_000\n"), 3, 8, "read as different numbers"),
    (user("uid: 0x400\n"), 3, 8, "read as different numbers"),
    ("hostname: 12:30:45\n", 1, 11, "read as different numbers"),
    ("locale: !!python/object/apply:os.system [id]\n", 1, 9, "the tag"),
    ("locale: !mine x\n", 1, 9, "the tag '!mine' is not accepted"),
    ("locale: !!binary aGk=\n", 1, 9, "is not accepted; write the plain value"),
    ("<<: {keymap: de}\n", 1, 1, "use `extends:`"),
    ("? [a, b]\n: c\n", 1, 3, "a key is text here"),
    ("locale: *nowhere\n", 1, 9, "no `&` anchor of that name"),
    ("a: &a [*a]\n", 1, 4, "nested deeper than 20 levels"),
    ("{" * 100_000, 1, 201, "nested deeper than 20 levels"),
    ("- " * 50_000, 1, 401, "nested deeper than 20 levels"),
    ("a: " + "[" * 30 + "]" * 30 + "\n", 1, 24, "nested deeper than 20 levels"),
    (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [" + "*a," * 50 + "]\nc: [" + "*b," * 50 + "]\n",
        1,
        20,
        "repeats itself",
    ),
    ("locale: C.UTF-8\x07\n", 1, 16, "U+0007"),
    ("locale: C.UTF-8\x00\n", 1, 16, "a NUL character"),
    ("# see \u202e here\nlocale: C.UTF-8\n", 1, 7, "U+202E RIGHT-TO-LEFT OVERRIDE"),
    ("locale: C.UTF-8\u2028keymap: us\n", 1, 16, "U+2028 LINE SEPARATOR"),
    ("loca\u200ble: C.UTF-8\n", 1, 5, "U+200B ZERO WIDTH SPACE"),
]

SHAPE = [
    ("distribution: arhc\n", 1, 15, "'arhc' is not accepted; accepted: arch, gentoo; did you mean 'arch'?"),
    ("role: HOST\n", 1, 7, "did you mean 'host'?"),
    ("isolation: 7\n", 1, 12, "expected one of the words, found a number (7)"),
    ("pakages:\n  add: []\n", 1, 1, "unknown key 'pakages'; did you mean 'packages'?"),
    ("display:\n  servr: x11\n", 2, 3, "display: unknown key 'servr'; did you mean 'server'?"),
    ("vt: 9\n", 1, 1, "unknown key 'vt' here; it belongs below `display:`"),
    ("display:\n  keymap: us\n", 2, 3, "it belongs to the top of the file"),
    ("zzz: 1\n", 1, 1, "unknown key 'zzz'; accepted: audio, bootable, description"),
    ("extend: _desktop\n", 1, 1, "did you mean 'extends'?"),
    ('"\\e[31m": 1\n', 1, 1, "unknown key '\\x1b[31m'"),
    (user("password: x\n"), 3, 3, "users[0]: unknown key 'password'"),
    ("users:\n- uid: 1000\n", 2, 3, "users[0]: the key 'name' is missing"),
    ("users: bob\n", 1, 8, "users: expected a list (lines that begin with `- `, or [one, two]), found text"),
    ("users:\n- bob\n", 2, 3, "users[0]: expected a mapping"),
    ("display: 8\n", 1, 10, "expected a mapping (lines of `key: value`), found a number (8)"),
    ("display:\nlocale: C.UTF-8\n", 1, 9, "display: has no value; accepted: a mapping"),
    ("packages: {add: vim}\n", 1, 17, "for a list of one write [vim]"),
    ("hostname: 12\n", 1, 11, "found a number (12); write '12' in quotes"),
    ("hostname: true\n", 1, 11, "found true or false; write 'true' in quotes"),
    ("bootable: 'true'\n", 1, 11, "expected true or false, found text ('true'); leave the quotes away"),
    ("display: {vt: '8'}\n", 1, 15, "expected a whole number, found text ('8'); leave the quotes away"),
    ("display: {vt: 8.5}\n", 1, 15, "expected a whole number"),
    ("display: {vt: true}\n", 1, 15, "expected a whole number, found true or false"),
    ("sizes: {root: big}\n", 1, 15, "'big' is not a size; accepted: a number with a unit: 512MiB"),
    ("sizes: {root: 8gib}\n", 1, 15, "did you mean 'GiB'?"),
    ("sizes: {root: 0}\n", 1, 15, "accepted: more than 0"),
    ("name: other\n", 1, 7, "name: 'other' is not the file's name; write 'work'"),
]

STRINGS = [
    ("display: {vt: 0}\n", 1, 15, "0 is no terminal but the one that is active"),
    ("display: {vt: 1}\n", 1, 15, "VT 1 shows boot messages"),
    ("display: {vt: 64}\n", 1, 15, "there is no VT 64; accepted: 2 to 63"),
    ("display: {vt: -3}\n", 1, 15, "there is no VT -3"),
    ("display: {session: i3.desktop}\n", 1, 20, "has a suffix"),
    ("display: {session: '../i3'}\n", 1, 20, "is not a name"),
    ('display: {greeter: "a\\nb"}\n', 1, 20, "contains a line break"),
    ("hostname: a%b\n", 1, 11, "'%', which systemd would expand"),
    ("hostname: my_host\n", 1, 11, "did you mean 'my-host'?"),
    ("hostname: -work\n", 1, 11, "starts with '-'"),
    ("hostname: work-\n", 1, 11, "is not a host name; accepted: letters, digits"),
    ("hostname: localhost\n", 1, 11, "names every machine"),
    ("hostname: 10.0.0.1\n", 1, 11, "reads as an address"),
    (f"hostname: {'a' * 65}\n", 1, 11, "is longer than 64 characters"),
    ("hostname: w\u043erk\n", 1, 11, "U+043E CYRILLIC SMALL LETTER O"),
    ('hostname: ""\n', 1, 11, "hostname: is empty"),
    ("locale: de_DE\n", 1, 9, "did you mean 'de_DE.UTF-8'?"),
    ("locale: de_DE.ISO-8859-1\n", 1, 9, "did you mean 'de_DE.UTF-8'?"),
    ("locale: german\n", 1, 9, "is not a locale"),
    ("timezone: berlin\n", 1, 11, "is not a time zone name; accepted: UTC, or Area/City"),
    ("timezone: europe/berlin\n", 1, 11, "did you mean 'Europe/Berlin'?"),
    ("timezone: Europe/../../etc/passwd\n", 1, 11, "contains '..'"),
    ("timezone: /etc/localtime\n", 1, 11, "is not a time zone name"),
    ("keymap: de.map.gz\n", 1, 9, "has a suffix"),
    ("keymap: ../../x\n", 1, 9, "is not a keymap"),
    ('description: "say \\"hi\\""\n', 1, 14, "is not a description"),
    ('description: "two\\nlines"\n', 1, 14, "contains a line break"),
    ("description: 100% work\n", 1, 14, "'%'"),
    ("files: /etc\n", 1, 8, "is not relative to profiles/"),
    ("files: ../x\n", 1, 8, "contains '..'"),
    ("files: a//b\n", 1, 8, "contains an empty step"),
    ("files: nowhere\n", 1, 8, "files: there is no directory"),
    ("users:\n- name: Bob\n", 2, 9, "did you mean 'bob'?"),
    ("users:\n- name: root\n", 2, 9, "'root' is a user of the system itself"),
    ("users:\n- name: systemd-oom\n", 2, 9, "is a user of the system itself"),
    ("users:\n- name: a:b\n", 2, 9, "'a:b' is not a user name"),
    (f"users:\n- name: {'b' * 32}\n", 2, 9, "is not a user name; accepted: a lower-case letter"),
    (user("uid: 999\n"), 3, 8, "999 is not accepted; accepted: at least 1000"),
    (user("uid: 65534\n"), 3, 8, "accepted: at most 59999"),
    (user("shell: bash\n"), 3, 10, "'bash' is not an absolute path"),
    (user("shell: /bin/../bash\n"), 3, 10, "contains '..'"),
    (user("shell: '/bin/sh:x'\n"), 3, 10, "is not a login shell"),
    (user("groups: [wh eel]\n"), 3, 12, "is not a group name"),
    (user("ssh_keys: [nonsense]\n"), 3, 14, "is not a key type"),
    (user("ssh_keys: [ssh-ed25519]\n"), 3, 14, "has a key type but no key"),
    (user("ssh_keys: ['ssh-ed25519 ???']\n"), 3, 14, "not base64"),
    (user(f"ssh_keys: [ssh-rsa {KEY}]\n"), 3, 14, "not of the type ssh-rsa"),
    (user(f"ssh_keys: [ssh-dss {KEY}]\n"), 3, 14, "is a DSA key"),
    (user(f"ssh_keys: ['command=\"x\" ssh-ed25519 {KEY}']\n"), 3, 14, "is not a key type"),
    (user("ssh_keys: ['-----BEGIN OPENSSH PRIVATE KEY-----']\n"), 3, 14, "starts with '-'"),
    (user("ssh_keys: ['x BEGIN OPENSSH PRIVATE KEY']\n"), 3, 14, "is a private key!"),
    ("devices: {extra: [video0]}\n", 1, 19, "'video0' is not an absolute path"),
    ("devices: {extra: [/etc/shadow]}\n", 1, 19, "is not below /dev"),
    ("devices: {extra: [/dev/../etc]}\n", 1, 19, "contains '..'"),
    ("devices: {extra: ['/dev/a:/b']}\n", 1, 19, "is not a device node"),
    ("devices: {extra: [/dev/sda]}\n", 1, 19, "would open the whole machine"),
    ("devices: {extra: [/dev/mapper/root]}\n", 1, 19, "would open the whole machine"),
    ("devices: {extra: [/dev/tty7]}\n", 1, 19, "given by display.vt"),
    ("devices: {extra: [/dev/dri/card0]}\n", 1, 19, "given by devices.gpu"),
    ("devices: {extra: [/dev/uinput]}\n", 1, 19, "type into every other"),
    ("privileges: {capabilities: [sys_ptrac]}\n", 1, 29, "did you mean 'sys_ptrace'"),
    ("privileges: {system_calls: [b-P]}\n", 1, 29, "is not a system call"),
    ("packages: {add: [firefox=1.0]}\n", 1, 18, "versions are fixed by the lock"),
    ("packages: {add: [-y]}\n", 1, 18, "starts with '-'"),
    ("packages: {add: [a b]}\n", 1, 18, "is not a package name"),
    ("packages: {add: [vim.pkg.tar.zst]}\n", 1, 18, "is a file, not a package name"),
    ("packages: {add: [app-editors/vim]}\n", 1, 18, "is a Gentoo name"),
    ("services: {enable: [sshd]}\n", 1, 21, "did you mean 'sshd.service'?"),
    ("services: {enable: [sshd.servce]}\n", 1, 21, "does not end in a unit's suffix"),
    ("services: {enable: ['get*.service']}\n", 1, 21, "is a pattern"),
    ("services: {mask: [/etc/x.service]}\n", 1, 19, "is a path"),
    ("services: {enable: ['a@%i.service']}\n", 1, 21, "'%'"),
    (repository(url="http://example.org/a"), 3, 8, "plain http"),
    (repository(url="ftp://example.org/a"), 3, 8, "is not an https URL"),
    (repository(url="https://u:p@example.org/a"), 3, 8, "carries a user name or password"),
    (repository(url="https://example.org/a?b"), 3, 8, "query or fragment"),
    (repository(url="https://example.org/../a"), 3, 8, "contains '..'"),
    (repository(url="https://example.org:99999/a"), 3, 8, "Port out of range"),
    (repository(url="https://example.org/$(id)"), 3, 8, "is not a URL"),
    (repository(name="core"), 2, 9, "is one of pacman's own"),
    (repository(name="'a]b'"), 2, 9, "is not a repository name"),
    (repository(fingerprint="941C2A25"), 5, 16, "short key id"),
    (repository(fingerprint="9D74"), 5, 16, "is not an OpenPGP fingerprint"),
    (repository(), 4, 8, "repositories[0].key: there is no file"),
    ("distribution: gentoo\ngentoo: {use: ['a b']}\n", 2, 16, "is not a USE flag"),
    ("distribution: gentoo\ngentoo: {masks: [vim]}\n", 2, 18, "has no category"),
    ("distribution: gentoo\ngentoo: {masks: ['>a/b']}\n", 2, 18, "has an operator but no version"),
    ("distribution: gentoo\ngentoo: {keywords: {a/b: ['x y']}}\n", 2, 27, "gentoo.keywords['a/b'][0]"),
    ("distribution: gentoo\ngentoo: {keywords: {vim: ['~amd64']}}\n", 2, 21, "has no category"),
    ("distribution: gentoo\ngentoo: {make_conf: {USE: x}}\n", 2, 22, "set by the build; use gentoo.use"),
    ("distribution: gentoo\ngentoo: {make_conf: {A: '$(id)'}}\n", 2, 25, "is not a make.conf value"),
    ("distribution: gentoo\npackages: {add: [vim]}\n", 2, 18, "has no category; accepted for Gentoo"),
]

RULES = [
    ("display: {vt: 7}\n", 1, 15, "VT 7 is the host's; accepted for a container: 2 to 6 and 8 to 63"),
    ("network: {veth: false}\n", 1, 17, "isolation: strict, the default, needs a network of its own"),
    ("isolation: strict\nnetwork: {veth: false}\n", 2, 17, "needs a network of its own"),
    ("display: {autologin: bob}\n", 1, 22, "there is no user 'bob'; the profile has no users"),
    ("users: [{name: al}]\ndisplay: {autologin: bob}\n", 2, 22, "there is no user 'bob'; accepted: 'al'"),
    ("users: [{name: al}, {name: al}]\n", 1, 28, "user 'al' is there twice"),
    ("users: [{name: a, uid: 1000}, {name: b, uid: 1000}]\n", 1, 46, "user id 1000 is there twice"),
    (user("groups: [audio, video, audio]\n"), 3, 26, "group 'audio' is there twice"),
    (user(f"ssh_keys: [ssh-ed25519 {KEY}, ssh-ed25519 {KEY}]\n"), 3, 96, "this SSH key is there twice"),
    ("packages: {add: [vim, vim]}\n", 1, 23, "package 'vim' is there twice"),
    ("packages: {add: [vim], remove: [vim]}\n", 1, 33, "in both packages.add and packages.remove"),
    (
        "services: {enable: [a.service], mask: [a.service]}\n",
        1,
        40,
        "in both services.enable and services.mask",
    ),
    ("devices: {extra: [/dev/fuse, /dev/fuse]}\n", 1, 30, "device '/dev/fuse' is there twice"),
    ("privileges: {system_calls: [bpf, bpf]}\n", 1, 34, "system call 'bpf' is there twice"),
    (
        "isolation: shared\nprivileges: {system_calls: [bpf]}\n",
        2,
        13,
        "nothing is taken from a shared environment",
    ),
    (repository() + repository().removeprefix("repositories:\n"), 6, 9, "repository 'ours' is there twice"),
    ("role: host\nbootable: false\n", 2, 11, "a host must be bootable"),
    ("distribution: gentoo\n" + repository(), 3, 1, "no place in a Gentoo environment"),
    ("gentoo: {slim: true}\n", 1, 9, "no place in an Arch environment"),
    ("display: {server: wayland, session: i3}\n", 1, 37, "session 'i3' needs display.server: x11"),
    ("display: {session: sway}\n", 1, 20, "session 'sway' needs display.server: wayland"),
    ("distribution: gentoo\ngentoo: {use: [X, -X]}\n", 2, 19, "turned on and off"),
    ("distribution: gentoo\ngentoo: {masks: [a/b], unmasks: [a/b]}\n", 2, 34, "in both gentoo.masks"),
]

EXTENDS = [
    ("extends: _dsktop\n", 1, 10, "did you mean '_desktop'?"),
    ("extends: work\n", 1, 10, "in a circle: work → work"),
    ("extends: 5\n", 1, 10, "expected the name of a profile, or a list of names, found a number"),
    ("extends: [_desktop, {a: b}]\n", 1, 21, "found a mapping"),
    ("extends: [_desktop, _desktop]\n", 1, 21, "is there twice"),
    ("extends: ../secret\n", 1, 10, "is not a name of a profile or part"),
    ("extends: /etc/passwd\n", 1, 10, "is not a name of a profile or part"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), SYNTAX + SHAPE + STRINGS + RULES + EXTENDS)
def test_a_mistake_is_told_with_its_line_column_and_what_is_accepted(
    tmp_path: Path, text: str, line: int, column: int, message: str
) -> None:
    project = project_at(tmp_path)
    write(project, work=text, _desktop="keymap: us\n")
    told = [f"{p.position.line}:{p.position.column}: {p.message}" for p in problems_of(project)]
    assert any(t.startswith(f"{line}:{column}: ") and message in t for t in told), "\n".join(told)


@pytest.mark.parametrize(
    ("zone", "meant"),
    [("Europe/Berln", "Europe/Berlin"), ("America/Argentina/Buenos_Ares", "America/Argentina/Buenos_Aires")],
)
def test_a_misspelt_time_zone_is_told_with_the_one_that_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zone: str, meant: str
) -> None:
    zones = tmp_path / "zoneinfo"
    monkeypatch.setattr(checks, "ZONEINFO", zones)
    project = project_at(tmp_path)
    write(project, work=f"timezone: {zone}\n")
    assert load_profile(project, "work").timezone == zone, "no zones here to compare with"
    (zones / meant).parent.mkdir(parents=True)
    (zones / meant).touch()
    assert [p.message for p in problems_of(project)] == [
        f"timezone: there is no time zone '{zone}'; did you mean '{meant}'? accepted: {TIMEZONE.accepted}"
    ]
    for other in (meant, "Europe/Elsewhere", "America/Elsewhere"):
        write(project, work=f"timezone: {other}\n")
        assert load_profile(project, "work").timezone == other, "known, or unlike all that are"


def test_all_mistakes_of_a_file_are_told_at_once_sorted_by_line(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    write(project, work="locale: x\nkeymap: '%'\nwrong: 1\nextends: _gone\nhostname: -x\n")
    assert [p.position.line for p in problems_of(project)] == [1, 2, 3, 4, 5]


def test_a_mistake_in_an_extended_file_is_told_at_its_place_there(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    write(project, work="extends: _base\nhostname: x_y\n", _base="\nlocale: xx\n")
    places = [(p.position.file.name, p.position.line) for p in problems_of(project)]
    assert places == [("_base.yaml", 2), ("work.yaml", 2)]


@pytest.mark.parametrize(
    ("data", "line", "column", "message"),
    [
        (b"keymap: us\nlocale: \xff\n", 2, 9, "byte 0xff is not UTF-8"),
        ("keymap: us\n".encode("utf-16"), 1, 1, "byte 0xff is not UTF-8"),
        (b"# \xc3\xa4 \xe4\n", 1, 5, "byte 0xe4 is not UTF-8"),
        (b"#" * (LARGEST + 1), 1, 1, "is larger than 256 KiB"),
    ],
)
def test_bytes_that_are_no_profile_are_refused(
    tmp_path: Path, data: bytes, line: int, column: int, message: str
) -> None:
    project = project_at(tmp_path)
    write(project, work=data)
    (problem,) = problems_of(project)
    assert (problem.position.line, problem.position.column) == (line, column)
    assert message in problem.message


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    write(project, work=b"\xef\xbb\xbfkeymap: de\r\nlocale: C.UTF-8\r\n")
    assert load_profile(project, "work").keymap == "de"


def test_a_fifo_in_place_of_a_profile_does_not_hang(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    os.mkfifo(project.profiles / "work.yaml")
    assert "is not a file" in problems_of(project)[0].message


def test_a_files_tree_that_leads_out_of_profiles_by_a_link_is_refused(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    (project.profiles / "out").symlink_to("/etc")
    write(project, work="files: out\n")
    assert "leads out of profiles/" in problems_of(project)[0].message


def test_a_profile_that_is_not_there_is_named_with_what_was_meant(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    write(project, work="keymap: us\n")
    with pytest.raises(InputError, match="there is no profile 'wrk'") as caught:
        load_profile(project, "wrk")
    assert caught.value.hint == "did you mean 'work'?"


@pytest.mark.parametrize("name", ["../work", "", "a\nb", "Work", "-x", "/etc/passwd"])
def test_no_name_leads_out_of_the_profiles_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        load_profile(project_at(tmp_path), name)


@pytest.mark.parametrize("name", ["My_Work", "root", "swap", "a" * 33, "1st"])
def test_a_file_name_that_no_machine_can_have_is_refused(tmp_path: Path, name: str) -> None:
    project = project_at(tmp_path)
    write(project, **{name: "keymap: us\n"})
    assert "its name" in problems_of(project, name)[0].message


def test_a_part_is_not_built_by_itself(tmp_path: Path) -> None:
    project = project_at(tmp_path)
    write(project, _desktop="keymap: us\n")
    assert "it is a part, which profiles extend" in problems_of(project, "_desktop")[0].message
