"""Which files does a host have for one of its containers, and how does it know them again, to change them?

They are part of the host's root. Beside them the root has a record of each container's files, with contents:
when the container is replaced, what it no longer needs can be removed, and a rollback finds what there was.
"""

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from builder.files import json_digest
from builder.profile import Profile
from builder.seat.overlay import as_in_seat, container_of, hosts
from builder.seat.plan import Plan
from builder.volume.ext4edit import File, link_to

RECORDS = "var/lib/seatsmith/containers"
RECORD_MODE = 0o600


Files = Mapping[str, File]  # by path, without a leading slash


def record_of(name: str, *, previous: bool = False) -> str:
    """Where the record of a container's files is, or that of the files which they replaced."""
    return f"{RECORDS}/{name}.previous.json" if previous else f"{RECORDS}/{name}.json"


def files_for(plan: Plan, profiles: Mapping[str, Profile], host: str, name: str, scratch: Path) -> Files:
    """What ``host`` has for the container ``name``. ``scratch`` is a directory that is made and removed."""
    from builder.render import render_container

    scratch.mkdir(mode=0o700)
    try:
        render_container(as_in_seat(plan, profiles, host), container_of(plan, profiles, name), scratch)
        return files_in(scratch)
    finally:
        shutil.rmtree(scratch)


def files_for_all(plan: Plan, profiles: Mapping[str, Profile], name: str, scratch: Path) -> dict[str, Files]:
    """What each host of the seat has for the environment ``name``, but for itself."""
    return {h: files_for(plan, profiles, h, name, scratch / "rendered") for h in hosts(plan) if h != name}


def digests_for(plan: Plan, profiles: Mapping[str, Profile], name: str) -> dict[str, str]:
    """Digests of what each host of the seat has for the environment ``name``."""
    with tempfile.TemporaryDirectory(prefix="seatsmith-") as place:
        return {h: digest_of(f) for h, f in files_for_all(plan, profiles, name, Path(place)).items()}


def files_in(root: Path) -> Files:
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_symlink() or not p.is_dir()):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = link_to(path.readlink().as_posix())
        else:
            found[name] = File(path.stat().st_mode & 0o777, path.read_bytes())
    return found


def digest_of(files: Files) -> str:
    return json_digest(as_json(files))[:16]


def as_json(files: Files) -> dict[str, dict[str, object]]:
    def one(f: File) -> dict[str, object]:
        if f.link is not None:
            return {"link": f.link}
        return {"mode": f.mode, "data": base64.b64encode(f.data).decode()}

    return {path: one(f) for path, f in files.items()}


def encode(files: Files) -> File:
    """A record, as a file."""
    return File(RECORD_MODE, (json.dumps(as_json(files), sort_keys=True) + "\n").encode())


def decode(record: File | None) -> Files | None:
    """The files of a record; None where there is none, or a damaged one."""
    if record is None:
        return None
    try:
        return dict(parse(json.loads(record.data)))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse(said: dict[str, dict[str, object]]) -> Iterator[tuple[str, File]]:
    for path, value in said.items():
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(path)
        if "link" in value:
            yield path, link_to(str(value["link"]))
        else:
            data = base64.b64decode(str(value["data"]), validate=True)
            yield path, File(int(str(value["mode"])) & 0o7777, data)
