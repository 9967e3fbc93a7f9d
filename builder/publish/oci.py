"""How does a registry hold what a published directory does? As OCI artifacts, which any registry stores.

    REPOSITORY:PROFILE_VERSION   one layer for each file of a release, under its name
    REPOSITORY:PROFILE_extra     package diffs, deltas, rebuild statements
    REPOSITORY:index             the signed index

Nothing that a registry says is believed: what comes from it is checked like what comes from a web server.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import ui
from builder.errors import InputError, MachineError, TrustError
from builder.files import CHUNK, file_digest
from builder.publish.index import INDEX, INDEX_SIGNATURE, parse_index, release_place

if TYPE_CHECKING:
    import requests

SCHEME = "oci://"
REPOSITORY = re.compile(r"[\w.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+")
TAG = re.compile(r"\w[\w.-]{0,127}")
LOOPBACK = re.compile(
    r"(127\.0\.0\.1|localhost)(:\d+)?"
)  # the only registries that are spoken to without TLS
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.seatsmith.release.v1"
FILE_TYPE = "application/vnd.seatsmith.file"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
MANIFEST_LIMIT = 4 << 20  # bytes; registries take no larger ones
INDEX_TAG = "index"
EXTRA = "extra"


class Repository:
    """One repository of a registry; credentials are those of `docker login` and `podman login`."""

    def __init__(self, url: str) -> None:
        import oras.provider

        self.name = url.removeprefix(SCHEME).rstrip("/")
        if not REPOSITORY.fullmatch(self.name):
            raise InputError(
                f"{url} is no repository", hint="such as oci://registry.example.org/team/images"
            )
        host = self.name.partition("/")[0]
        self.registry = oras.provider.Registry(host, insecure=bool(LOOPBACK.fullmatch(host)))
        self.manifests: dict[str, dict[str, str]] = {}
        self.registry.auth.load_configs(self.container(INDEX_TAG))

    def container(self, tag: str) -> Any:
        if not TAG.fullmatch(tag):
            raise InputError(f"{tag!r} cannot be a tag of a registry")
        return self.registry.get_container(f"{self.name}:{tag}")

    def upload(self, tag: str, files: Iterable[Path]) -> None:
        """Store files as one artifact; those that the registry has already are not sent again."""
        container = self.container(tag)
        with failures_named(f"{SCHEME}{self.name}:{tag}"), tempfile.NamedTemporaryFile() as empty:
            empty.write(b"{}")
            empty.flush()
            config = descriptor(Path(empty.name), EMPTY_TYPE)
            layers = [
                {**descriptor(path, FILE_TYPE), "annotations": {TITLE: path.name}} for path in sorted(files)
            ]
            for path, what in [(Path(empty.name), config), *zip(sorted(files), layers, strict=True)]:
                check(self.registry.upload_blob(str(path), container, what))
            manifest = {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "artifactType": ARTIFACT_TYPE,
                "config": config,
                "layers": layers,
            }
            check(self.registry.upload_manifest(manifest, container))

    def blocks(self, name: str, offset: int) -> Iterator[bytes]:
        """The content of a file by its path in the static directory, from ``offset`` on."""
        tag, title = place_of(name)
        where = f"{SCHEME}{self.name}:{tag} {title}"
        with failures_named(where):
            if title == INDEX or tag not in self.manifests:
                self.manifests[tag] = self.layers(tag)
            digest = self.manifests[tag].get(title)
            if digest is None:
                raise MachineError(f"{where}: there is no such file")
            url = f"{self.registry.prefix}://{self.container(tag).get_blob_url(digest)}"
            headers = {"Range": f"bytes={offset}-", "Accept-Encoding": "identity"} if offset else {}
            answer = self.registry.do_request(url, "GET", headers=headers, stream=True)
            if answer.status_code == 416:  # nothing is left to fetch
                return
            check(answer)
            skip = offset if answer.status_code == 200 else 0
            for block in answer.iter_content(CHUNK):
                if skip >= len(block):
                    skip -= len(block)
                    continue
                yield block[skip:]
                skip = 0

    def layers(self, tag: str) -> dict[str, str]:
        """Digests of an artifact's files by name. Raises TrustError for what is no manifest of ours."""
        url = f"{self.registry.prefix}://{self.container(tag).manifest_url()}"
        answer = self.registry.do_request(url, "GET", headers={"Accept": MANIFEST_TYPE}, stream=True)
        check(answer)
        data = b""
        for block in answer.iter_content(CHUNK):
            data += block
            if len(data) > MANIFEST_LIMIT:
                raise TrustError(f"{SCHEME}{self.name}:{tag}: its manifest is too large")
        try:
            return {
                str(layer["annotations"][TITLE]): checked_digest(layer["digest"])
                for layer in json.loads(data)["layers"]
            }
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            raise TrustError(f"{SCHEME}{self.name}:{tag} is no release of images: {e!r}") from e


def push(root: Path, target: str) -> list[str]:
    """Copy a published directory into a repository; return the tags. The index comes last.

    Raises InputError for a directory without an index, MachineError for a registry that refuses.
    """
    repository = Repository(target)
    try:
        index = parse_index((root / INDEX).read_bytes())
    except OSError as e:
        raise InputError(f"{root} is no published directory: {e.strerror}") from e
    tags = []
    for profile, releases in index.profiles.items():
        parts = {f"{profile}_{r.version}": release_place(root, profile, r.version) for r in releases}
        if any((root / profile / EXTRA).iterdir()):
            parts[f"{profile}_{EXTRA}"] = root / profile / EXTRA
        for tag, place in parts.items():
            with ui.current().step(f"Pushing {tag}"):
                repository.upload(tag, list(place.iterdir()))
            tags.append(tag)
    repository.upload(INDEX_TAG, [root / INDEX, root / INDEX_SIGNATURE, root / "keys.gpg"])
    return [*tags, INDEX_TAG]


def place_of(name: str) -> tuple[str, str]:
    """Tag and file name of what has this path in the static directory."""
    folder, _, title = name.rpartition("/")
    return folder.replace("/", "_") or INDEX_TAG, title


def descriptor(path: Path, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "size": path.stat().st_size, "digest": f"sha256:{file_digest(path)}"}


def checked_digest(text: str) -> str:
    """A digest that leads nowhere else when it is put into a URL."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise ValueError(f"{text!r} is no digest")
    return text


def check(answer: "requests.Response") -> None:
    if answer.status_code not in (200, 201, 202, 206):
        raise MachineError(f"the registry answers with HTTP status {answer.status_code}")


@contextlib.contextmanager
def failures_named(what: str) -> Iterator[None]:
    """Turn failures of the way to a registry into MachineError."""
    import requests

    try:
        yield
    except MachineError as e:
        raise MachineError(f"{what}: {e.message}" if what not in e.message else e.message) from e
    except requests.RequestException as e:
        raise MachineError(f"{what}: {e}") from e
    except ValueError as e:  # oras, where it has no credentials
        raise MachineError(f"{what}: {e}", hint="log in with: docker login, or podman login") from e
