"""How does a seat get an image that it may trust? Fetched, checked in every respect, and only then in place.

In this order, so that nothing is read before what vouches for it: index signature, expiry, rollback; the
release's SHA256SUMS, its signature and, where one is demanded, its sigstore bundle; each file's size and
digest; manifest, provenance and lock; rebuilders; the archives' entries. State of what was seen last is kept
for each publisher.
"""

import hashlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from builder import ui
from builder.errors import MachineError, TrustError
from builder.files import atomic_path, exclusive, refuse_foreign, write_atomic
from builder.outputs import sigstore
from builder.outputs.checksums import BUNDLE, SIGNATURE, SUMS, parse_checksums
from builder.outputs.checksums import LIMIT as SUMS_LIMIT
from builder.outputs.record import image_files, role_of
from builder.outputs.release import for_testing, source_state
from builder.outputs.sign import SIGNATURE_LIMIT, check_signature
from builder.outputs.statement import LIMIT as STATEMENT_LIMIT
from builder.outputs.statement import SignedStatement, rebuilders, require_rebuilders
from builder.outputs.verify import JSON_LIMIT, Report, read_json, verify_directory
from builder.outputs.write import MANIFEST, PROVENANCE
from builder.publish.delta import apply_delta
from builder.publish.fetch import Site, kept_parts
from builder.publish.freshness import check_freshness, check_rollback, read_state, remember
from builder.publish.index import INDEX, INDEX_SIGNATURE, Index, Release, parse_index
from builder.publish.index import LIMIT as INDEX_LIMIT
from builder.publish.reuse import reused
from builder.publish.safetar import check_archive
from builder.publish.tarstream import Limits
from builder.publish.transfer import Transfer
from builder.tools import Tools, ensure_tools


@dataclass(frozen=True)
class Policy:
    """What a pulled image must fulfil beyond its signature."""

    allow_standin: bool = False
    allow_dirty: bool = False
    allow_older: bool = False
    rebuilders: int = 0
    rebuilder_keys: Sequence[bytes] = ()
    identity: sigstore.Identity | None = None
    """Whose sigstore bundle there must be over the checksums, beside the OpenPGP signature."""
    limit: int = 16 << 30
    """Bytes that one file may have."""
    unpacked: int = 64 << 30
    """Bytes that an image may unpack to."""


@dataclass(frozen=True)
class Pulled:
    """What a pull left."""

    place: Path
    release: Release
    report: Report
    rebuilders: Sequence[str]
    fetched: int
    """Bytes that came over the wire."""


class Counter:
    """Passes progress on, and counts it."""

    def __init__(self, meter: ui.Meter) -> None:
        self.meter, self.bytes = meter, 0

    def advance(self, amount: int) -> None:
        self.bytes += amount
        self.meter.advance(amount)


def pull(
    url: str,
    name: str,
    place: Path,
    *,
    keys: Sequence[bytes],
    state: Path,
    version: str | None = None,
    policy: Policy | None = None,
    tools: Tools | None = None,
) -> Pulled:
    """Fetch a profile's image from a published directory into ``place``, or leave ``place`` as it is.

    ``state`` is the file that remembers what this publisher showed last. Raises TrustError for whatever is
    not as it was signed or is older than what was seen, InputError for what is not published, MachineError
    for a transfer that fails (running it again goes on from there).
    """
    refuse_foreign(place, ("SHA256SUMS", "manifest.json", "rendered"), "an earlier result")
    policy, tools = policy or Policy(), tools or ensure_tools()
    parts = place.parent / f".{place.name}.pull"
    with exclusive(place.parent / f".{place.name}.pull.lock", f"pulling {name}"), ExitStack() as stack:
        site = stack.enter_context(Site(url))
        index = fetch_index(site, keys, tools)
        check_freshness(index)
        release = index.find(name, version)
        known = read_state(state, site.url)
        check_rollback(index, release, name, known, allow_older=policy.allow_older)
        made = stack.enter_context(kept_parts(parts))
        with ui.current().step(f"Fetching {name} {release.version}", total=release.size) as meter:
            counter = Counter(meter)
            transfer = Transfer(site, release, name, place, counter, tools)
            digests = fetch_release(transfer, made, keys, policy)
        with ui.current().step(f"Checking {name} {release.version}"):
            report = verify_directory(made, keys=keys, profile=name, tools=tools)
            report.raise_for_problems()
            check_policy(made, report, policy)
            found = fetch_rebuilders(site, release, name, digests, report, policy, tools)
            require_rebuilders(found, policy.rebuilders)
            check_archives(made, policy)
        with atomic_path(place) as final:
            final.mkdir()
            for path in made.iterdir():
                path.rename(final / path.name)
        remember(state, site.url, index, release, name, known)
        return Pulled(place, release, report, found, counter.bytes)


def fetch_index(site: Site, keys: Sequence[bytes], tools: Tools) -> Index:
    """The index, with its signature checked; asked for again if the publisher was just renewing it."""
    with tempfile.TemporaryDirectory(prefix="seatsmith-index-") as scratch:
        path = Path(scratch) / INDEX
        for attempt in (1, 2):
            path.write_bytes(site.get(INDEX, limit=INDEX_LIMIT))
            signature = check_signature(
                path, site.get(INDEX_SIGNATURE, limit=SIGNATURE_LIMIT), keys, tools=tools
            )
            if signature.good:
                return parse_index(path.read_bytes())
            if attempt == 1:
                time.sleep(1)
        raise TrustError(f"{site.url}/{INDEX}: {signature}")


def fetch_release(transfer: Transfer, made: Path, keys: Sequence[bytes], policy: Policy) -> dict[str, str]:
    """Fetch a release's files into ``made``; return their digests. What is fetched is of a bounded size."""
    digests = fetch_papers(transfer, made, keys)
    if policy.identity:
        fetch_bundle(transfer.site, transfer.base, made, policy.identity)
    sizes = {str(f["name"]): int(f["size"]) for f in read_json(made / MANIFEST)["files"]}
    for file in sorted(n for n in digests if role_of(n)):
        if file not in sizes:
            raise TrustError(f"{file}: {MANIFEST} does not say how large it is")
        if sizes[file] > policy.limit:
            raise TrustError(f"{file} has {sizes[file]} bytes; no more than {policy.limit} are accepted")
        if reused(transfer, made / file, digests[file], most=sizes[file]):
            continue
        if role_of(file) == "image" and not (made / file).exists():
            most = Limits(unpacked=policy.unpacked).allowed(sizes[file])
            if apply_delta(transfer, made / file, digests[file], most=most):
                continue
        transfer.site.download(
            f"{transfer.base}/{file}",
            made / file,
            sha256=digests[file],
            size=sizes[file],
            limit=policy.limit,
            meter=transfer.meter,
        )
    return digests


def fetch_papers(transfer: Transfer, made: Path, keys: Sequence[bytes]) -> dict[str, str]:
    """Fetch what is said about a release, signed checksums first, into ``made``; return all its digests."""
    site, base = transfer.site, transfer.base
    sums = site.get(f"{base}/{SUMS}", limit=SUMS_LIMIT)
    write_atomic(made / SUMS, sums)
    write_atomic(made / SIGNATURE, site.get(f"{base}/{SIGNATURE}", limit=SIGNATURE_LIMIT))
    signature = check_signature(made / SUMS, (made / SIGNATURE).read_bytes(), keys, tools=transfer.tools)
    if not signature.good:
        raise TrustError(f"{site.url}/{base}/{SUMS}: {signature}")
    if hashlib.sha256(sums).hexdigest() != transfer.release.sums:
        raise TrustError(f"{site.url}/{base}/{SUMS} is signed, but it is not the one that the index names")
    digests = parse_checksums(sums)
    for stale in made.iterdir():
        if stale.name not in digests and stale.name not in (SUMS, SIGNATURE):
            stale.unlink()
    for paper in sorted(n for n in digests if not role_of(n)):
        if reused(transfer, made / paper, digests[paper], most=JSON_LIMIT):
            continue
        site.download(
            f"{base}/{paper}",
            made / paper,
            sha256=digests[paper],
            size=None,
            limit=JSON_LIMIT,
            meter=transfer.meter,
        )
    return digests


def fetch_bundle(site: Site, base: str, made: Path, identity: sigstore.Identity) -> None:
    """Fetch a release's sigstore bundle and check whose it is, before any image is fetched."""
    sigstore.need_library()
    try:
        bundle = site.get(f"{base}/{BUNDLE}", limit=sigstore.LIMIT)
    except MachineError as e:
        raise MachineError(
            f"the sigstore bundle of {identity.name} cannot be fetched: {e.message}",
            hint="was it published with one (seatsmith sign --sigstore)?",
        ) from e
    sigstore.check_bundle((made / SUMS).read_bytes(), bundle, identity)
    write_atomic(made / BUNDLE, bundle)


def check_policy(made: Path, report: Report, policy: Policy) -> None:
    """What provenance says must be acceptable here. Raises TrustError."""
    if (why := for_testing(report)) and not policy.allow_standin:
        raise TrustError(
            f"{report.profile} {report.version} {why}", hint="for trying and testing: --allow-standin"
        )
    state = source_state(read_json(made / PROVENANCE))
    if state.get("annotations", {}).get("dirty", True) and not policy.allow_dirty:
        raise TrustError(
            f"{report.profile} {report.version} was built from a checkout with uncommitted changes",
            hint="to accept it nevertheless: --allow-dirty",
        )


def fetch_rebuilders(
    site: Site,
    release: Release,
    name: str,
    digests: Mapping[str, str],
    report: Report,
    policy: Policy,
    tools: Tools,
) -> list[str]:
    """Fingerprints of those who vouch for the image, if any are asked for; bad statements do not count."""
    if not policy.rebuilders or report.signature is None:
        return []
    statements = []
    for statement in release.rebuilds:
        where = f"{name}/extra/{statement}"
        try:
            data = site.get(where, limit=STATEMENT_LIMIT)
            statements.append(
                SignedStatement(statement, data, site.get(f"{where}.gpg", limit=SIGNATURE_LIMIT))
            )
        except (MachineError, TrustError) as e:
            ui.current().warn(f"the rebuild statement {statement} cannot be used: {e.message}")
    return rebuilders(
        statements,
        digests,
        keys=policy.rebuilder_keys,
        publisher=report.signature.fingerprint,
        tools=tools,
    )


def check_archives(made: Path, policy: Policy) -> None:
    """Raises TrustError for an archive that must not be unpacked."""
    for path in image_files(made):
        if role_of(path.name) in ("image", "host-bundle"):
            check_archive(
                path, bundle=role_of(path.name) == "host-bundle", limits=Limits(unpacked=policy.unpacked)
            )
