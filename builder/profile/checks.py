"""Which strings does a profile accept, place by place? All of them are safe to render as they are.

Each rule has an ``Annotated`` type of the same name; ``docs/profiles.md`` lists them from the JSON schema.
"""

import base64
import binascii
import difflib
import re
from pathlib import Path
from typing import Annotated

from builder.profile.rule import LABEL, Rule, shown, steps_problem

SYSTEM_USERS = frozenset(
    (
        *("root", "bin", "daemon", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy"),
        *("www-data", "backup", "list", "irc", "http", "ftp", "nobody", "dbus", "messagebus", "polkitd"),
        *("lightdm", "greeter", "sddm", "gdm", "greetd", "pulse", "pipewire", "rtkit", "avahi", "colord"),
        *("cups", "git", "uuidd", "tss", "usbmux", "portage", "sshd", "adm", "shutdown", "halt", "operator"),
        *("alpm", "seat", "seatsmith-greeter"),
    )
)
RESERVED_PROFILES = {  # names that device-mapper, LVM or the seat's own volumes have taken
    *("control", "root", "swap", "esp", "boot", "efi", "home", "host", "snapshot", "pvmove", "mirror"),
}
ZONES = (
    *("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Brazil", "Canada"),
    *("Chile", "Etc", "Europe", "Indian", "Mexico", "Pacific", "US"),
)


ZONEINFO = Path("/usr/share/zoneinfo")  # this machine's tz database, if it has one
TYPO = 0.8  # how alike two names are when one is taken for the other misspelt


def user_why(text: str) -> str | None:
    if text in SYSTEM_USERS or text.startswith("systemd-"):
        return f"{text!r} is a user of the system itself"
    if text != text.lower():
        return f"{shown(text)} contains capitals; did you mean {text.lower()!r}?"
    return None


USER_NAME = Rule(
    what="user name",
    accepted="a lower-case letter or '_', then up to 30 lower-case letters, digits, '_' or '-'",
    pattern=r"[a-z_][a-z0-9_-]{0,30}",
    example="user",
    why=user_why,
)
UserName = Annotated[str, USER_NAME]

GROUP_NAME = Rule(
    what="group name",
    accepted="a lower-case letter or '_', then up to 30 lower-case letters, digits, '_' or '-'",
    pattern=r"[a-z_][a-z0-9_-]{0,30}",
    example="audio",
)
GroupName = Annotated[str, GROUP_NAME]


def host_why(text: str) -> str | None:
    if text == "localhost" or text.startswith("localhost."):
        return "'localhost' names every machine"
    if re.fullmatch(r"[0-9.]+", text):
        return f"{shown(text)} reads as an address"
    if "_" in text:
        return f"{shown(text)} contains '_'; did you mean {text.replace('_', '-')!r}?"
    return None


HOST_NAME = Rule(
    what="host name",
    accepted="letters, digits and inner '-' in labels of at most 63, joined by '.' (RFC 1123), 64 in all",
    pattern=rf"{LABEL}(\.{LABEL})*",
    example="work",
    longest=64,
    why=host_why,
)
HostName = Annotated[str, HOST_NAME]


def profile_why(text: str) -> str | None:
    if text in RESERVED_PROFILES:
        return f"{text!r} has a meaning of its own for volumes and machines"
    return None


PROFILE_NAME = Rule(
    what="profile name",
    accepted="lower-case letters and digits with single '-' between, beginning with a letter, at most 32",
    pattern=r"[a-z][a-z0-9]*(-[a-z0-9]+)*",
    example="work",
    longest=32,
    why=profile_why,
)
ProfileName = Annotated[str, PROFILE_NAME]
"""Also a machine name for systemd, a name for LVM and device-mapper, and a unit's instance."""

PART_NAME = Rule(
    what="name of a profile or part",
    accepted="the name of a file in profiles/, without .yaml; a part begins with '_'",
    pattern=r"_?[a-z][a-z0-9]*([_-][a-z0-9]+)*",
    example="_desktop",
    longest=32,
)


def locale_why(text: str) -> str | None:
    base, _, rest = text.partition(".")
    charset, at, modifier = rest.partition("@")
    if re.fullmatch(r"[A-Za-z]{1,3}([_-][A-Za-z]{2})?", base) and charset != "UTF-8":
        language, _, country = base.replace("-", "_").partition("_")
        country = country.upper() or language.upper()
        whole = "C" if language.upper() == "C" else f"{language.lower()}_{country}"
        return f"{shown(text)} is not a UTF-8 locale; did you mean '{whole}.UTF-8{at}{modifier}'?"
    return None


LOCALE = Rule(
    what="locale",
    accepted="C.UTF-8, or language_COUNTRY.UTF-8 with an optional @modifier",
    pattern=r"C\.UTF-8|[a-z]{2,3}_[A-Z]{2}\.UTF-8(@[a-z]+)?",
    example="de_DE.UTF-8",
    why=locale_why,
)
Locale = Annotated[str, LOCALE]


def timezone_why(text: str) -> str | None:
    if wrong := steps_problem(text):
        return wrong
    area, slash, city = text.partition("/")
    if text != "UTC" and area not in ZONES:
        near = {z.casefold(): z for z in ZONES}.get(area.casefold())
        if slash and near:
            return f"{shown(text)} is not a time zone; did you mean '{near}/{city.title()}'?"
        return f"{shown(text)} is not a time zone name"
    if near := misspelt_zone(text):
        return f"there is no time zone {shown(text)}; did you mean {near!r}?"
    return None


def misspelt_zone(text: str) -> str | None:
    """The zone that was meant. A name unlike all of this machine's passes: the image's may be newer."""
    area = ZONEINFO / text.partition("/")[0]
    if not re.fullmatch(TIMEZONE.pattern, text) or not area.is_dir() or (ZONEINFO / text).is_file():
        return None
    there = sorted(path.relative_to(ZONEINFO).as_posix() for path in area.rglob("*") if path.is_file())
    return next(iter(difflib.get_close_matches(text, there, n=1, cutoff=TYPO)), None)


TIMEZONE = Rule(
    what="time zone",
    accepted="UTC, or Area/City as in /usr/share/zoneinfo: Europe/Berlin",
    pattern=rf"UTC|({'|'.join(ZONES)})(/[A-Z][A-Za-z0-9_+-]*){{1,2}}",
    example="Europe/Berlin",
    longest=64,
    why=timezone_why,
)
Timezone = Annotated[str, TIMEZONE]

KEYMAP = Rule(
    what="keymap",
    accepted="a console keymap by name, without path and suffix: us, de-latin1, fr-bepo",
    pattern=r"[A-Za-z][A-Za-z0-9_]*([.-][A-Za-z0-9_]+)*",
    example="de-latin1",
    longest=40,
    why=lambda t: f"{shown(t)} has a suffix; leave it away" if t.endswith((".map", ".map.gz")) else None,
)
Keymap = Annotated[str, KEYMAP]

TOKEN = Rule(
    what="name",
    accepted="the file's name without path and suffix: letters, digits, '.', '_', '+' and '-'",
    pattern=r"[A-Za-z0-9][A-Za-z0-9._+-]*",
    example="i3",
    longest=64,
    why=lambda t: f"{shown(t)} has a suffix; leave it away" if t.endswith(".desktop") else None,
)
Token = Annotated[str, TOKEN]

DESCRIPTION = Rule(
    what="description",
    accepted="one line of text, without % \" ' \\ $ ` and control characters",
    pattern=r"""[^\s%"'\\$`]([^%"'\\$`]*[^\s%"'\\$`])?""",
    example="Mail and documents",
    longest=80,
    ascii_only=False,
)
Description = Annotated[str, DESCRIPTION]

SUFFIXES = ("service", "socket", "timer", "path", "target", "mount", "automount", "swap", "slice")


def unit_why(text: str) -> str | None:
    if "/" in text:
        return f"{shown(text)} is a path; name the unit alone"
    if "*" in text:
        return f"{shown(text)} is a pattern; name each unit"
    if "." not in text:
        return f"{shown(text)} has no suffix; did you mean '{text}.service'?"
    if text.rpartition(".")[2] not in SUFFIXES:
        return f"{shown(text)} does not end in a unit's suffix ({', '.join(SUFFIXES)})"
    return None


UNIT_NAME = Rule(
    what="unit name",
    accepted="letters, digits, ':', '_', '.', '-', '\\xNN' and one '@', with a suffix such as .service",
    pattern=r"([A-Za-z0-9:_.-]|\\x[0-9a-f]{2})+(@([A-Za-z0-9:_.-]|\\x[0-9a-f]{2})*)?"
    rf"\.({'|'.join(SUFFIXES)})",
    example="sshd.service",
    why=unit_why,
)
UnitName = Annotated[str, UNIT_NAME]


def absolute_why(text: str) -> str | None:
    return f"{shown(text)} is not an absolute path" if not text.startswith("/") else steps_problem(text)


SHELL = Rule(
    what="login shell",
    accepted="an absolute path in the image, of letters, digits, '.', '_', '+' and '-': /bin/bash",
    pattern=r"(/[A-Za-z0-9._+-]+){2,}",
    example="/bin/bash",
    why=absolute_why,
)
Shell = Annotated[str, SHELL]

OPENS_EVERYTHING = re.compile(
    r"mem|kmem|port|kmsg|core|nvram|vcs\w*|sd[a-z]+\d*|sr\d+|sg\d+|vd[a-z]+\d*|nvme.*|dm-\d+|mapper|mmcblk.*|loop.*"
    r"|md\d*|disk|block|char|bsg|vg\w*|raw|pts|shm|mqueue|hugepages|console|ptmx|fd|std(in|out|err)|initctl|log"
)
OTHER_KEYS = {"dri": "devices.gpu", "input": "devices.input", "snd": "audio.server"}


def device_why(text: str) -> str | None:
    if wrong := absolute_why(text):
        return wrong
    if not text.startswith("/dev/"):
        return f"{shown(text)} is not below /dev"
    top = text.split("/")[2]
    if top in OTHER_KEYS:
        return f"{shown(text)} is given by {OTHER_KEYS[top]}"
    if re.fullmatch(r"tty\d*", top):
        return f"{shown(text)} is a virtual terminal, and those are given by display.vt"
    if top in ("uinput", "uhid"):
        return f"{shown(text)} would let the environment type into every other"
    if OPENS_EVERYTHING.fullmatch(top):
        return f"{shown(text)} would open the whole machine to the environment"
    return None


DEVICE = Rule(
    what="device node",
    accepted="a path below /dev of letters, digits, '.', '_', '+' and '-'; not disks, memory or terminals",
    pattern=r"/dev(/[A-Za-z0-9._+-]+)+",
    example="/dev/video0",
    why=device_why,
)
DevicePath = Annotated[str, DEVICE]


SYSTEM_CALL = Rule(
    what="system call",
    accepted="a system call, or a group of them with '@' as `systemd-analyze syscall-filter` lists them",
    pattern=r"@?[a-z][a-z0-9_-]*",
    example="perf_event_open",
    longest=64,
)
SystemCall = Annotated[str, SYSTEM_CALL]


def tree_why(text: str) -> str | None:
    if text.startswith(("/", "~")):
        return f"{shown(text)} is not relative to profiles/"
    return steps_problem(text)


TREE_PATH = Rule(
    what="path below profiles/",
    accepted="a relative path without '..', of letters, digits, '.', '_', '+', '@' and '-': files/work",
    pattern=r"[A-Za-z0-9._+@-]+(/[A-Za-z0-9._+@-]+)*",
    example="files/work",
    why=tree_why,
)
TreePath = Annotated[Path, TREE_PATH]

SSH_TYPES = (
    *("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"),
    *("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"),
)


def ssh_why(text: str) -> str | None:
    if "PRIVATE KEY" in text:
        return "is a private key! Take it out of this file and give the public half (*.pub)"
    kind, *rest = text.split(" ")
    if kind == "ssh-dss":
        return "is a DSA key, which OpenSSH no longer takes"
    if kind not in SSH_TYPES:
        return f"{shown(kind)} is not a key type ({', '.join(SSH_TYPES)})"
    if not rest:
        return "has a key type but no key"
    try:
        blob = base64.b64decode(rest[0], validate=True)
    except (binascii.Error, ValueError):
        return "has a key that is not base64"
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
        return f"has a key that is not of the type {kind} it says (cut off, or altered)"
    return None


SSH_KEY = Rule(
    what="SSH public key",
    accepted="one line of an OpenSSH .pub file: type, base64 and a comment",
    pattern=rf"({'|'.join(re.escape(t) for t in SSH_TYPES)}) [A-Za-z0-9+/]+={{0,2}}( [A-Za-z0-9 @._+:/-]*)?",
    example="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g me@home",
    longest=4096,
    why=ssh_why,
)
SshKey = Annotated[str, SSH_KEY]


RULES = [value for value in list(globals().values()) if isinstance(value, Rule)]
