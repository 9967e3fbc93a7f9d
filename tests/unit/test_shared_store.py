"""Can many machines share what one of them fetched, and can nobody put anything into an image that way?"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec import AbstractFileSystem

from builder import ui
from builder.errors import InputError, MachineError
from builder.lock import Lock
from builder.shared import Files, Shared, shared_store
from builder.standin.server import serve
from builder.store import Store
from tests.support.locks import lock_of, locked

CONTENT = os.urandom(200_000)
FILE = locked("file-1.pkg", CONTENT)
NOWHERE = {"core": "http://127.0.0.1:9/"}  # the port of discard, where nothing listens


class Listener(ui.Ui):
    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr("builder.store.PAUSE", 0.01)
    listener, before = Listener(), ui.current()
    ui.use(listener)
    yield listener
    ui.use(before)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[dict[str, str]]:
    place = tmp_path / "mirror"
    place.mkdir()
    (place / "file-1.pkg").write_bytes(CONTENT)
    with serve(place) as url:
        yield {"core": url}


def one() -> Lock:
    return lock_of(FILE)


def machine(tmp_path: Path, name: str, url: str) -> Store:
    return Store(tmp_path / name, shared=shared_store(url))


def kept(tmp_path: Path) -> Path:
    return tmp_path / "shared" / FILE.sha256[:2] / FILE.sha256


def test_a_second_machine_needs_no_mirror(tmp_path: Path, mirror: dict[str, str], heard: Listener) -> None:
    url = (tmp_path / "shared").as_uri()
    machine(tmp_path, "one", url).fetch(one(), mirror)
    assert kept(tmp_path).read_bytes() == CONTENT
    second = machine(tmp_path, "two", url)
    second.fetch(one(), NOWHERE)
    assert second.checked(FILE).read_bytes() == CONTENT
    assert not heard.warnings


def test_a_web_server_serves_what_another_machine_put_there(tmp_path: Path, mirror: dict[str, str]) -> None:
    machine(tmp_path, "one", (tmp_path / "shared").as_uri()).fetch(one(), mirror)
    with serve(tmp_path / "shared") as url:
        second = machine(tmp_path, "two", url)
        second.fetch(one(), NOWHERE)
        assert second.checked(FILE).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "poison", [CONTENT[:-1] + b"?", CONTENT[:1000], CONTENT + b"more"], ids=["changed", "cut", "longer"]
)
def test_a_poisoned_file_is_named_and_not_used(
    poison: bytes, tmp_path: Path, mirror: dict[str, str], heard: Listener
) -> None:
    kept(tmp_path).parent.mkdir(parents=True)
    kept(tmp_path).write_bytes(poison)
    store = machine(tmp_path, "one", (tmp_path / "shared").as_uri())
    store.fetch(one(), mirror)
    assert store.checked(FILE).read_bytes() == CONTENT
    (warning,) = heard.warnings
    assert warning.endswith(f"holds another file as {FILE.title}: not used; asking the mirror")
    assert not [p for p in store.root.rglob("*") if p.suffix in (".part", ".shared")]


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_a_file_does_not_keep_a_build_waiting(
    tmp_path: Path, mirror: dict[str, str], heard: Listener
) -> None:
    kept(tmp_path).parent.mkdir(parents=True)
    os.mkfifo(kept(tmp_path))
    store = machine(tmp_path, "one", (tmp_path / "shared").as_uri())
    store.fetch(one(), mirror)
    assert store.checked(FILE).read_bytes() == CONTENT
    assert kept(tmp_path).read_bytes() == CONTENT, "it is replaced"


def test_a_torn_upload_is_replaced(tmp_path: Path, mirror: dict[str, str]) -> None:
    kept(tmp_path).parent.mkdir(parents=True)
    kept(tmp_path).write_bytes(CONTENT[:1000])
    machine(tmp_path, "one", (tmp_path / "shared").as_uri()).fetch(one(), mirror)
    assert kept(tmp_path).read_bytes() == CONTENT


def test_a_poisoned_file_without_a_mirror_is_no_file(tmp_path: Path) -> None:
    kept(tmp_path).parent.mkdir(parents=True)
    kept(tmp_path).write_bytes(CONTENT[:-1] + b"?")
    store = machine(tmp_path, "one", (tmp_path / "shared").as_uri())
    with pytest.raises(MachineError, match="cannot fetch"):
        store.fetch(one(), NOWHERE)
    assert not store.has(FILE)


def test_a_shared_store_out_of_reach_is_said_once_and_done_without(
    tmp_path: Path, mirror: dict[str, str], heard: Listener
) -> None:
    files = [locked(f"file-{n}.pkg", os.urandom(n)) for n in range(1, 9)]
    (tmp_path / "mirror/file-1.pkg").write_bytes(CONTENT)
    store = machine(tmp_path, "one", "http://127.0.0.1:9/store")
    for file in files:
        assert store.shared is not None
        assert not store.shared.take(file, tmp_path / "part")
    store.fetch(one(), mirror)
    assert len(heard.warnings) == 1
    assert "going on without it" in heard.warnings[0]


class Unreachable(AbstractFileSystem):  # type: ignore[misc]
    """A place whose client fails as botocore does: by no OSError."""

    protocol = "unreachable"

    def info(self, path: str, **how: object) -> dict[str, object]:
        raise RuntimeError("Unable to locate credentials")


def test_a_client_with_errors_of_its_own_does_not_stop_a_build(
    tmp_path: Path, mirror: dict[str, str], heard: Listener
) -> None:
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    store = machine(tmp_path, "one", "unreachable://bucket/store")
    store.fetch(one(), mirror)
    assert store.checked(FILE).read_bytes() == CONTENT
    (warning,) = heard.warnings
    assert "Unable to locate credentials; going on without it" in warning


def test_a_place_that_may_only_be_read_is_not_written_to_again(
    tmp_path: Path, mirror: dict[str, str], heard: Listener
) -> None:
    (tmp_path / "shared").write_text("a file where a directory should be")
    store = machine(tmp_path, "one", (tmp_path / "shared").as_uri())
    store.fetch(one(), mirror)
    assert store.checked(FILE).read_bytes() == CONTENT
    assert len(heard.warnings) == 1


def test_many_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    url = (tmp_path / "shared").as_uri()
    writers = [
        threading.Thread(target=Files(url).put, args=(FILE.sha256, source), daemon=True) for _ in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert kept(tmp_path).read_bytes() == CONTENT
    assert [p.name for p in kept(tmp_path).parent.iterdir()] == [FILE.sha256]


@pytest.mark.parametrize("url", ["/srv/store", "nonsense://host/x", "oci://nowhere"])
def test_an_unknown_kind_of_place_is_refused_with_what_is_accepted(url: str) -> None:
    with pytest.raises(InputError) as caught:
        shared_store(url)
    assert "://" in (caught.value.hint or "")


def test_without_the_variable_nothing_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEATSMITH_STORE", raising=False)
    assert shared_store() is None
    monkeypatch.setenv("SEATSMITH_STORE", "file:///srv/store")
    assert isinstance(shared_store(), Shared)
