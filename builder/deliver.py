"""How does a finished image reach dist/NAME: under its published names, with its papers, all at once?"""

import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.distro import backend
from builder.files import atomic_path, json_digest, linked, write_json
from builder.image import (
    Artifacts,
    build_artifacts,
    checked_version,
    current,
    image_key,
    is_carried,
    lock_path,
    mirrored_indexes,
    obtain_lock,
    source_for,
    store_of,
    version_of,
)
from builder.lock import Lock, read_lock
from builder.profile import Profile, load_profile, resolve_profile
from builder.project import Project
from builder.sources import Source
from builder.uptodate import Delivery, Request, inputs_state, published, remember

if TYPE_CHECKING:
    from builder.outputs.record import Input

SIGNING_KEY = "SIGNING_KEY"


def deliver(
    project: Project,
    profile: Profile,
    *,
    source: str,
    locked: bool = False,
    force: bool = False,
    version: str | None = None,
) -> Delivery:
    """Build a profile's image where needed and put it into dist/NAME; an older result stays until then."""
    if version:
        checked_version(version)
    origin = source_for(profile, source)
    made = delivered(project, profile, origin, locked=locked, force=force, version=version)
    request = Request(profile.name, source, version, os.environ.get(SIGNING_KEY, ""))
    note(project, request, origin, made)
    return made


def delivered(
    project: Project, profile: Profile, source: Source, *, locked: bool, force: bool, version: str | None
) -> Delivery:
    lock = obtain_lock(project, profile, source, locked=locked)
    version = version or version_of(lock)
    signing = os.environ.get(SIGNING_KEY, "")
    signed = bool(signing)
    place = project.dist / profile.name
    identity = identity_of(project, profile, lock, version, signing)
    state = state_path(project, place)
    if not force and is_current(state, identity, place):
        return Delivery(place, published(place), version, lock.source, signed, fresh=False)
    from builder.render.preview import keep_rendered

    artifacts = build_artifacts(project, profile, lock, version=version, force=force)
    with atomic_path(place) as made:
        made.mkdir()
        fill(project, profile, artifacts, made)
        if signing:
            from builder.outputs.sign import sign_checksums

            sign_checksums(made, signing)
    keep_rendered(profile, project.rendered(profile.name))  # what `seatsmith render --diff` compares with
    write_json(state, {"identity": identity, "files": stamps(place)})
    return Delivery(place, published(place), version, lock.source, signed, fresh=True)


def identity_of(
    project: Project, profile: Profile, lock: Lock, version: str, signing: str
) -> dict[str, str]:
    """What tells one result from another."""
    return {"image": image_key(project, profile, lock, version), "signing": json_digest(signing)}


def state_path(project: Project, place: Path) -> Path:
    return project.cache / "state" / f"{place.name}-{json_digest(os.fspath(place))[:16]}.json"


def note(project: Project, request: Request, source: Source, made: Delivery) -> None:
    """Work out once more, now that everything is there, that ``made`` is what was asked for, and note it."""
    began = time.time_ns()
    profile = load_profile(project, request.profile)
    locked = lock_path(project, profile, source)
    lock = read_lock(locked)
    if is_carried(lock, store_of(project)):  # the answer hangs on every file of the store
        return
    inputs = [*inputs_of(project, profile).values(), locked]
    if source is Source.STANDIN:
        inputs += mirrored_indexes(lock)
    before = inputs_state(project, inputs)
    identity = identity_of(project, profile, lock, made.version, request.signing)
    if (
        made.version == (request.version or version_of(lock))
        and current(lock, store_of(project))
        and is_current(state_path(project, made.place), identity, made.place)
    ):
        url = backend(profile.distribution).probe_url
        remember(project, request, made, inputs=inputs, probe_url=url, before=before, began=began)


def fill(project: Project, profile: Profile, artifacts: Artifacts, made: Path) -> None:
    """Put image, host bundle, UKI, lock and papers into the new directory."""
    from builder.outputs.provenance import git_state
    from builder.outputs.record import ImageRecord, Package
    from builder.outputs.write import write_outputs
    from builder.tools import ensure_tools

    lock = artifacts.lock
    record = ImageRecord(
        profile=profile.name,
        version=artifacts.version,
        distribution=lock.distribution,
        source=lock.source,
        epoch=artifacts.epoch,
        packages=[
            Package(f.name, f.version, f.size, f.sha512 or f.sha256, f.repository) for f in lock.installed()
        ],
        inputs=locked_inputs(lock),
        tools=ensure_tools().versions(),
    )
    linked(artifacts.image, made / f"{record.stem}.tar.zst")
    linked(artifacts.bundle, made / f"{record.stem}.host.tar.zst")
    if artifacts.uki:
        linked(artifacts.uki, made / f"{record.stem}.efi")
    locked = lock_path(project, profile, lock.source)
    shutil.copyfile(locked, made / f"{record.stem}.lock")  # small, and people edit locks in place
    inputs = {"lock": locked, **inputs_of(project, profile)}
    write_outputs(made, record, git=git_state(project.root), inputs=inputs)


def locked_inputs(lock: Lock) -> list["Input"]:
    """What a lock names that is neither a package of the image nor there to check others with."""
    from builder.outputs.record import Input

    packages = {file.sha256 for file in lock.installed()}
    return [
        Input(file.filename, file.kind, file.sha256)
        for file in lock.files
        if file.kind != "signature" and file.sha256 not in packages
    ]


def inputs_of(project: Project, profile: Profile) -> dict[str, Path]:
    """What of the checkout, beside the code, a profile's image is made from, by its path there."""
    places = [*resolve_profile(project, profile.name).files]
    if profile.files:
        places.append(project.profiles / profile.files)
    places += [project.profiles / repository.key for repository in profile.repositories]
    return {place.relative_to(project.root).as_posix(): place for place in places}


def stamps(place: Path) -> dict[str, list[int]]:
    """Size and time of each file: enough to see that nobody touched a result."""
    return {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in published(place)}


def is_current(state: Path, identity: dict[str, str], place: Path) -> bool:
    """Whether dist/NAME is still what was last put there, from these inputs."""
    try:
        noted: dict[str, Any] = json.loads(state.read_text())
        return bool(noted["identity"] == identity and noted["files"] == stamps(place))
    except (OSError, ValueError, KeyError, TypeError):
        return False
