"""Does a real registry hold what is published and what builders share? (make test-registry)"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from builder.errors import TrustError
from builder.files import atomic_path
from builder.outputs.sign import sign_checksums
from builder.project import cache_home
from builder.publish.oci import push
from builder.publish.pull import Policy, Pulled, pull
from builder.publish.site import Terms, publish
from builder.shared import shared_store
from builder.standin.server import serve
from builder.store import Store
from builder.tools import Tools
from tests.support.gpgkeys import TestKey
from tests.support.locks import lock_of, locked
from tests.support.results import record, tree, write_result

pytestmark = [pytest.mark.tools, pytest.mark.registry]

FIRST, SECOND = "2026.11.01", "2026.11.08"
CONFIG = """\
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {data}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


def registry_program() -> Path:
    """Debian's docker-registry, unpacked into the cache and not installed."""
    place = cache_home() / "docker-registry"
    if not place.is_dir():
        with atomic_path(place) as made:
            made.mkdir(parents=True)
            subprocess.run(["apt-get", "-q", "download", "docker-registry"], cwd=made, check=True)
            (package,) = made.glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", package, made], check=True)
    return place / "usr/bin/docker-registry"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(scope="module")
def registry(data: Path) -> Iterator[str]:
    """The address of a running registry that keeps its files in ``data``."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    config = data / "config.yml"
    config.write_text(CONFIG.format(data=data / "files", port=port))
    with subprocess.Popen([registry_program(), "serve", config], stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/v2/").status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def published(root: Path, version: str, key: TestKey, **what: object) -> None:
    result = root.parent / "dist" / version
    write_result(result, record(version=version), **what)  # type: ignore[arg-type]
    sign_checksums(result, str(key.secret))
    publish(root, [result], Terms(str(key.secret), [key.public.read_bytes()]))


def fetched(place: Path, url: str, key: TestKey) -> Pulled:
    state = place / "state.json"
    return pull(url, "work", place / "seat", keys=[key.public.read_bytes()], state=state, policy=Policy())


def test_what_is_pushed_is_pulled_and_an_update_follows(
    registry: str, release: TestKey, tmp_path: Path, tools: Tools
) -> None:
    url, root = f"oci://{registry}/team/images", tmp_path / "www"
    published(root, FIRST, release)
    assert push(root, url) == [f"work_{FIRST}", "index"]
    assert fetched(tmp_path, url, release).release.version == FIRST
    published(root, SECOND, release)
    assert push(root, url) == [f"work_{SECOND}", f"work_{FIRST}", "work_extra", "index"]
    assert fetched(tmp_path, url, release).release.version == SECOND
    for path in (root / "work" / SECOND).iterdir():
        assert (tmp_path / "seat" / path.name).read_bytes() == path.read_bytes()


def test_a_registry_that_was_filled_by_somebody_else_is_not_believed(
    registry: str, release: TestKey, make_key: object, tmp_path: Path
) -> None:
    url = f"oci://{registry}/team/taken-over"
    published(tmp_path / "www", FIRST, release)
    push(tmp_path / "www", url)
    other = make_key("registry-thief")  # type: ignore[operator]
    published(tmp_path / "evil/www", FIRST, other, image=tree("./etc/evil"))
    push(tmp_path / "evil/www", url)
    with pytest.raises(TrustError, match="not one of the trusted keys"):
        fetched(tmp_path, url, release)


def test_a_blob_changed_inside_the_registry_is_refused(
    registry: str, release: TestKey, data: Path, tmp_path: Path
) -> None:
    url = f"oci://{registry}/team/poisoned"
    published(tmp_path / "www", FIRST, release, image=tree("./etc/only-here"))
    push(tmp_path / "www", url)
    image = (tmp_path / "www/work" / FIRST / f"work_{FIRST}_x86-64.tar.zst").read_bytes()
    (blob,) = [p for p in data.rglob("blobs/sha256/*/*/data") if p.read_bytes() == image]
    shutil.copy(blob, tmp_path / "kept")
    blob.write_bytes(image[:-1] + b"\xff")
    with pytest.raises(TrustError, match="is not the file that was signed"):
        fetched(tmp_path, url, release)
    assert not (tmp_path / "seat").exists()


def test_builders_share_a_store_in_a_registry(registry: str, data: Path, tmp_path: Path) -> None:
    """SEATSMITH_STORE=oci://…: eight at once fill it, another takes from it; a changed blob is no use."""
    contents = {f"file{n}-1.pkg": os.urandom(50_000 + n) for n in range(8)}
    files = [locked(name, content) for name, content in contents.items()]
    (tmp_path / "mirror").mkdir()
    for name, content in contents.items():
        (tmp_path / "mirror" / name).write_bytes(content)
    url, lock = f"oci://{registry}/team/store", lock_of(*files)
    with serve(tmp_path / "mirror") as mirror:
        Store(tmp_path / "one", shared=shared_store(url)).fetch(lock, {"core": mirror})
    second = Store(tmp_path / "two", shared=shared_store(url))
    second.fetch(lock, {"core": "http://127.0.0.1:9/"})
    assert [second.checked(file).read_bytes() for file in files] == list(contents.values())
    (blob,) = [p for p in data.rglob("blobs/sha256/*/*/data") if p.read_bytes() == contents["file0-1.pkg"]]
    blob.write_bytes(contents["file0-1.pkg"][:-1] + b"?")
    shared = shared_store(url)
    assert shared is not None
    assert not shared.take(files[0], tmp_path / "part")
