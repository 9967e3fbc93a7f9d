"""Is nothing that a registry says believed, and is each file looked for where it was put?"""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from builder.errors import InputError, MachineError, TrustError
from builder.publish.fetch import Site
from builder.publish.oci import place_of
from builder.registry import MANIFEST_LIMIT, TITLE, Repository

URL = "oci://127.0.0.1:1/team/images"


@pytest.mark.parametrize(
    ("path", "tag", "title"),
    [
        ("index.json", "index", "index.json"),
        ("work/2026.11.01/SHA256SUMS", "work_2026.11.01", "SHA256SUMS"),
        ("work/extra/a_b.l3.patch.zst", "work_extra", "a_b.l3.patch.zst"),
    ],
)
def test_each_path_of_a_published_directory_has_a_tag_and_a_title(path: str, tag: str, title: str) -> None:
    assert place_of(path) == (tag, title)


@pytest.mark.parametrize(
    "url", ["oci://", "oci://host", "oci://host/Team", "oci://host/a/../b", "oci://a b/c"]
)
def test_what_is_no_repository_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="is no repository"):
        Site(url)


def test_only_loopback_is_spoken_to_without_tls() -> None:
    assert Repository(URL).registry.prefix == "http"
    for host in ("registry.example.org", "127.0.0.1.example.org", "localhost.example.org:5000"):
        assert Repository(f"oci://{host}/images").registry.prefix == "https"


class Answers:
    """A registry that answers a manifest, and then contents, as an attacker likes."""

    def __init__(self, manifest: bytes, status: int = 200) -> None:
        self.manifest, self.status, self.urls = manifest, status, list[str]()

    def __call__(self, url: str, *_: object, **__: object) -> Any:
        self.urls.append(url)
        data = self.manifest if "/manifests/" in url else b"content"
        return SimpleNamespace(status_code=self.status, iter_content=lambda _: iter([data]))


def read(answers: Any, name: str = "work/1/file", offset: int = 0) -> bytes:
    repository = Repository(URL)
    repository.registry.do_request = answers
    return b"".join(repository.blocks(*place_of(name), offset))


def manifest(digest: str, title: str = "file") -> bytes:
    return json.dumps({"layers": [{"digest": digest, "annotations": {TITLE: title}}]}).encode()


GOOD = "sha256:" + "a" * 64


def test_a_file_is_read_by_the_digest_in_the_manifest_and_from_an_offset_on() -> None:
    answers = Answers(manifest(GOOD))
    assert read(answers) == b"content"
    assert answers.urls[-1].endswith(f"/v2/team/images/blobs/{GOOD}")
    assert read(Answers(manifest(GOOD)), offset=3) == b"tent", "a registry that ignores ranges"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"layers": 1}',
        b'{"layers": [{}]}',
        b'{"layers": [' * 100_000,
        manifest("sha256:../../secret"),
        manifest("md5:" + "a" * 32),
        manifest(GOOD + "/../../x"),
    ],
)
def test_a_manifest_that_is_none_of_ours_is_refused(data: bytes) -> None:
    answers = Answers(data)
    with pytest.raises(TrustError, match="is no release of images"):
        read(answers)
    assert len(answers.urls) == 1


def test_a_huge_manifest_is_not_read_to_its_end() -> None:
    with pytest.raises(TrustError, match="too large"):
        read(Answers(b" " * (MANIFEST_LIMIT + 1)))


def test_a_missing_file_or_artifact_is_named() -> None:
    with pytest.raises(MachineError, match=r"team/images:work_1 other: there is no such file"):
        read(Answers(manifest(GOOD)), "work/1/other")
    with pytest.raises(MachineError, match=r"team/images:work_1 file: .* HTTP status 404"):
        read(Answers(b"", status=404))


@pytest.mark.parametrize("error", [requests.ConnectionError("refused"), ValueError("no credentials")])
def test_a_registry_that_cannot_be_reached_is_a_failure_of_the_way(error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with pytest.raises(MachineError, match=f"team/images:work_1 file: {error}"):
        read(fail)
