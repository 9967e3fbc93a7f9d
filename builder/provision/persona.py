"""Who is an environment to others? Its host name, machine-id and ssh host keys: made once, then kept.

No image carries them. They are made when an environment is provisioned, lie in its encrypted filesystem
alone, and go over to whatever replaces it, so that others know it again.
"""

import os
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from builder.errors import InputError, UsageError
from builder.profile.checks import HostName
from builder.volume.ext4read import Filesystem, Missing

MACHINE_ID, HOSTNAME, HOSTS, SSH = "etc/machine-id", "etc/hostname", "etc/hosts", "etc/ssh"
KEY = f"{SSH}/ssh_host_ed25519_key"

_ID = re.compile(rb"[0-9a-f]{32}\n?")
_KEY_NAME = re.compile(r"ssh_host_[a-z0-9_]+_key(-cert)?(\.pub)?")
_OWN_ADDRESS = re.compile(rb"^127\.0\.1\.1[ \t]+.*$", re.MULTILINE)


@dataclass(frozen=True)
class Belonging:
    """A file of root that is an environment's own."""

    data: bytes
    mode: int


Persona = Mapping[str, Belonging]  # by path, without a leading slash


def new_persona(*, hostname: str | None = None, old: Persona | None = None) -> Persona:
    """What ``old`` has, and made anew what it lacks. ``hostname`` stands in for any other name."""
    found = dict(old or {})
    if MACHINE_ID not in found:
        found[MACHINE_ID] = Belonging(f"{uuid.uuid4().hex}\n".encode(), 0o444)
    if KEY not in found:
        found |= new_key()
    if hostname:
        found[HOSTNAME] = Belonging(f"{hostname}\n".encode(), 0o644)
    return found


def new_key() -> Persona:
    """An Ed25519 host key as ssh-keygen(1) would write it."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH)
    return {KEY: Belonging(private, 0o600), f"{KEY}.pub": Belonging(public + b"\n", 0o644)}


def persona_in(filesystem: Filesystem) -> Persona:
    """What an environment has of these; a machine-id that was never set is none."""
    found = {}
    for path in (MACHINE_ID, HOSTNAME, *key_paths(filesystem)):
        try:
            entry = filesystem.find(f"/{path}")
        except Missing:
            continue
        if entry.is_file:
            found[path] = Belonging(filesystem.data(entry), entry.inode.mode & 0o777)
    if MACHINE_ID in found and not _ID.fullmatch(found[MACHINE_ID].data):
        del found[MACHINE_ID]
    return found


def key_paths(filesystem: Filesystem) -> list[str]:
    try:
        folder = filesystem.find(f"/{SSH}")
    except Missing:
        return []
    names = sorted(name for name, _ in filesystem.listed(folder))
    return [f"{SSH}/{name}" for name in names if _KEY_NAME.fullmatch(name)]


def lay(persona: Persona, overlay: Path, *, without: Iterable[str] = (), anew: Collection[str] = ()) -> None:
    """Put these files among those that go over an image, but for what is there ``without`` us.

    What is given ``anew`` goes before that.
    """
    covered = [path.strip("/") for path in without]
    edit = edits_of(persona).get(HOSTS)
    hosts = overlay / HOSTS
    if edit and hosts.is_file():
        hosts.write_bytes(edit(hosts.read_bytes()))
    for name, belonging in persona.items():
        if name not in anew and any(name == path or name.startswith(f"{path}/") for path in covered):
            continue
        path = overlay / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as f:
            f.write(belonging.data)
        path.chmod(belonging.mode)


def edits_of(persona: Persona) -> dict[str, Callable[[bytes], bytes]]:
    """What the host name changes in the image's other files."""
    if HOSTNAME not in persona:
        return {}
    name = persona[HOSTNAME].data.strip()
    return {HOSTS: lambda text: _OWN_ADDRESS.sub(lambda _: b"127.0.1.1 " + name, text)}


def read_hostnames(values: Sequence[str], environments: Iterable[str]) -> dict[str, str]:
    """Names by environment from ``ENVIRONMENT:NAME`` of the command line.

    Raises UsageError for what is not of this form, InputError for what is no host name.
    """
    known, found = list(environments), {}
    for value in values:
        environment, colon, name = value.partition(":")
        if not colon or environment not in known:
            raise UsageError(
                f"--hostname {value}: write ENVIRONMENT:NAME", hint=f"there are: {', '.join(known)}"
            )
        try:
            found[environment] = str(TypeAdapter(HostName).validate_python(name))
        except ValidationError as e:
            raise InputError(f"--hostname {value}: {e.errors()[0]['msg']}") from e
    return found
