"""How are files kept in a registry? As OCI artifacts, which any registry stores: one layer for each file.

Nothing that a registry says is believed: whoever fetches from one checks what came.
"""

import contextlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import InputError, MachineError, TrustError
from builder.files import CHUNK, file_digest, from_byte

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
        self.registry.auth.load_configs(self.container("latest"))

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

    def blocks(self, tag: str, title: str, offset: int = 0, *, again: bool = False) -> Iterator[bytes]:
        """The content of an artifact's file, from ``offset`` on; ``again`` asks anew what files it has."""
        where = f"{SCHEME}{self.name}:{tag} {title}"
        with failures_named(where):
            if again or tag not in self.manifests:
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
            yield from from_byte(answer.iter_content(CHUNK), offset if answer.status_code == 200 else 0)

    def size(self, tag: str, title: str) -> int | None:
        """Of an artifact's file; None where there is no such artifact, 0 where it lacks the file."""
        container = self.container(tag)
        with failures_named(f"{SCHEME}{self.name}:{tag}"):
            answer = self.registry.do_request(
                f"{self.registry.prefix}://{container.manifest_url()}",
                "HEAD",
                headers={"Accept": MANIFEST_TYPE},
            )
            if answer.status_code == 404:
                return None
            check(answer)
            digest = self.layers(tag).get(title)
            if digest is None:
                return 0
            url = f"{self.registry.prefix}://{container.get_blob_url(digest)}"
            answer = self.registry.do_request(url, "HEAD")
            return int(answer.headers.get("Content-Length", 0)) if answer.status_code == 200 else 0

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
