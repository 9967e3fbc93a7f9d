"""Which passwords do a new environment's users have? Those given at provisioning, else those of the old one.

An image never holds a password. What is set is the hash in the /etc/shadow of the environment's filesystem,
which is encrypted; a password that somebody changed on the running seat outlives a replacement.
"""

import getpass
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from builder import ui
from builder.errors import InputError, UsageError
from builder.profile import Profile
from builder.seat.secrets import checked, read_file
from builder.seat.tree import Edit
from builder.tools import Tools
from builder.volume.ext4read import Filesystem, Missing
from builder.volume.keys import wipe

SHADOW = "etc/shadow"
USABLE = "$"  # how the hash of a password begins (crypt(5)); "!", "*" and nothing mean that there is none
HASH = re.compile(rb"\$[0-9a-z]+\$[!-9;-~]+")  # crypt(5), all but the oldest form
LONGEST = 256  # bytes of a password: what openssl-passwd(1) leaves out of a longer one, nobody is told

Hashes = Mapping[str, str]  # by user


def users_of(profile: Profile) -> list[str]:
    """Who may have a password: root and the profile's users."""
    return ["root", *(user.name for user in profile.users)]


def read_passwords(
    values: Sequence[str], users: Mapping[str, Iterable[str]], tools: Tools
) -> dict[str, dict[str, str]]:
    """Hashes by environment and user from ``ENVIRONMENT:USER:FILE`` of the command line.

    A file, readable by nobody else, holds a password, or a hash: what looks like one of crypt(5). ``users``
    are those that each environment has. Raises UsageError for what is not of this form, InputError for
    unknown users and passwords that are too long.
    """
    found: dict[str, dict[str, str]] = {}
    for value in values:
        environment, _, rest = value.partition(":")
        user, _, path = rest.partition(":")
        if not path:
            raise UsageError(f"--password-file {value}: write ENVIRONMENT:USER:FILE")
        if user not in users.get(environment, ()):
            known = ", ".join(f"{name}:{u}" for name, all_users in users.items() for u in all_users)
            raise InputError(f"there is no user {user!r} in {environment!r}", hint=f"there are: {known}")
        secret = read_file(path)
        try:
            found.setdefault(environment, {})[user] = hash_of(tools, secret, path)
        finally:
            wipe(secret)
    return found


def hash_of(tools: Tools, secret: bytearray, where: str) -> str:
    """The hash of a password, or the text itself where it has the form of one.

    Raises InputError for a password that is longer than openssl-passwd(1) takes.
    """
    checked(secret, where)
    if HASH.fullmatch(secret):
        return secret.decode("ascii")
    if len(secret) > LONGEST:
        raise InputError(f"the password in {where} is longer than {LONGEST} bytes")
    return tools.run(["openssl", "passwd", "-6", "-stdin"], stdin=bytes(secret) + b"\n").text.strip()


def hashes_in(filesystem: Filesystem, users: Iterable[str]) -> dict[str, str]:
    """The passwords that users have in an environment; nothing for those who have none."""
    try:
        text = filesystem.data(filesystem.find(f"/{SHADOW}")).decode(errors="replace")
    except Missing:
        return {}
    fields = (line.split(":") for line in text.splitlines())
    return {f[0]: f[1] for f in fields if len(f) > 2 and f[0] in set(users) and f[1].startswith(USABLE)}


def shadow_edit(given: Hashes, taken_over: Hashes, where: str) -> Callable[[bytes], bytes]:
    """Gives an /etc/shadow these passwords. Users that it lacks are left out where theirs was taken over.

    Raises InputError for those that one is given for now.
    """
    hashes = {**taken_over, **given}

    def edit(text: bytes) -> bytes:
        lines, missing = [], set(given)
        for line in text.decode(errors="surrogateescape").splitlines():
            fields = line.split(":")
            if len(fields) > 2 and fields[0] in hashes:
                fields[1] = hashes[fields[0]]
                missing.discard(fields[0])
            lines.append(":".join(fields))
        if missing:
            raise InputError(
                f"{where} has no {' and no '.join(sorted(missing))} in /{SHADOW}, who was to get a password",
                hint="give none to that user, or build the image again if the profile is newer than it",
            )
        return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")

    return edit


def edits_for(given: Hashes, taken_over: Hashes | None = None, *, where: str) -> dict[str, Edit]:
    """What to change in small files of ``where`` on their way into the filesystem."""
    return {SHADOW: shadow_edit(given, taken_over or {}, where)} if given or taken_over else {}


def ask_for_all(profiles: Mapping[str, Profile], tools: Tools) -> dict[str, Hashes]:
    """Hashes of the passwords that a person types for the users of environments; Enter leaves one out."""
    found: dict[str, dict[str, str]] = {}
    for name, profile in profiles.items():
        for user in users_of(profile):
            secret = asked(f"{user} in {name}")
            if secret is not None:
                found.setdefault(name, {})[user] = hash_of(tools, secret, "the terminal")
                wipe(secret)
    return dict(found)


def asked(whose: str) -> bytearray | None:
    """A password, typed twice."""
    while first := getpass.getpass(f"Password of {whose} (Enter: none): "):
        if first == getpass.getpass("Repeat the password: "):
            return bytearray(first.encode())
        ui.current().warn("they differ; once more")
    return None


def read_for_all(values: Sequence[str], profiles: Mapping[str, Profile], tools: Tools) -> dict[str, Hashes]:
    """``read_passwords`` for environments with these profiles, each with root and the profile's users."""
    return dict(read_passwords(values, {name: users_of(p) for name, p in profiles.items()}, tools))
