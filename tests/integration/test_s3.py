"""Do builders share a store in S3, spoken to by the real client? (make test-registry)"""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import httpx
import pytest

from builder import ui
from builder.shared import Files, shared_store
from builder.standin.server import serve
from builder.store import Store
from tests.support.extras import extra_packages
from tests.support.locks import lock_of, locked

pytestmark = pytest.mark.registry

WANTED = ("s3fs", "moto", "flask", "flask-cors", "py-partiql-parser")  # moto[server] brings 150 MB more
URL = "s3://team/store"
CONTENTS = {f"file{n}-1.pkg": os.urandom(50_000 + n) for n in range(8)}
FILES = [locked(name, content) for name, content in CONTENTS.items()]
NOWHERE = {"core": "http://127.0.0.1:9/"}


class Listener(ui.Ui):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def packages() -> Iterator[Path]:
    """Client and server, in the cache: they would double what every checkout installs."""
    with extra_packages("s3-for-tests", WANTED) as place:
        yield place


@pytest.fixture(scope="module")
def server(packages: Path) -> Iterator[str]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    argv = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "PYTHONPATH": os.fspath(packages)}
    with subprocess.Popen(argv, env=environment, stdout=-3, stderr=-3) as process:
        try:
            for _ in range(200):
                try:
                    httpx.get(f"http://127.0.0.1:{port}/")
                    break
                except httpx.HTTPError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture
def heard(server: str, monkeypatch: pytest.MonkeyPatch) -> Listener:
    """What is warned of, with credentials for the server in the environment, as a runner has them."""
    for name, value in (
        ("AWS_ENDPOINT_URL", server),
        ("AWS_ACCESS_KEY_ID", "runner"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_MAX_ATTEMPTS", "5"),  # moto answers 500 now and then where two write the same name at once
    ):
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()
    listener = Listener()
    ui.use(listener)
    return listener


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[dict[str, str]]:
    (tmp_path / "mirror").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / "mirror" / name).write_bytes(content)
    with serve(tmp_path / "mirror") as url:
        yield {"core": url}


def test_a_second_runner_needs_no_mirror_and_takes_nothing_that_was_changed(
    tmp_path: Path, mirror: dict[str, str], heard: Listener
) -> None:
    Store(tmp_path / "one", shared=shared_store(URL)).fetch(lock_of(*FILES), mirror)
    second = Store(tmp_path / "two", shared=shared_store(URL))
    second.fetch(lock_of(*FILES), NOWHERE)
    assert [second.checked(file).read_bytes() for file in FILES] == list(CONTENTS.values())
    assert not heard.warnings
    place = Files(URL)
    assert len(place.fs.find(place.root)) == len(FILES), "no upload is left under another name"
    with place.fs.open(place.path(FILES[0].sha256), "wb") as f:
        f.write(CONTENTS["file0-1.pkg"][:-1] + b"?")
    shared = shared_store(URL)
    assert shared is not None
    assert not shared.take(FILES[0], tmp_path / "part")
    assert "holds another file" in heard.warnings[0]


def test_eight_writers_at_once_leave_one_whole_file(tmp_path: Path, heard: Listener) -> None:
    source, url = tmp_path / "source", "s3://team/crowd"
    source.write_bytes(CONTENTS["file1-1.pkg"])
    place = Files(url)
    writers = [
        threading.Thread(target=Files(url).put, args=(FILES[1].sha256, source), daemon=True)
        for _ in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    place.fs.invalidate_cache()
    assert [Path(name).name for name in place.fs.find(place.root)] == [FILES[1].sha256]
    assert b"".join(place.blocks(FILES[1].sha256)) == CONTENTS["file1-1.pkg"]


@pytest.mark.parametrize("what", ["no credentials", "no server"])
def test_a_store_out_of_reach_is_said_once_and_done_without(
    what: str,
    tmp_path: Path,
    mirror: dict[str, str],
    heard: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    if what == "no server":
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    else:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.fspath(tmp_path / "none"))
        monkeypatch.setenv("AWS_CONFIG_FILE", os.fspath(tmp_path / "none"))
    fsspec.filesystem("s3").clear_instance_cache()
    store = Store(tmp_path / "one", shared=shared_store("s3://team/elsewhere"))
    store.fetch(lock_of(*FILES), mirror)
    assert store.checked(FILES[0]).read_bytes() == CONTENTS["file0-1.pkg"]
    assert len(heard.warnings) == 1
    assert "going on without it" in heard.warnings[0]
