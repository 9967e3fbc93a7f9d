"""Does the store hold exactly what a lock names, whatever mirrors, disks and people do?"""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from builder import store as store_module
from builder import ui
from builder.errors import InputError, MachineError, TrustError
from builder.lock import Lock
from builder.standin.server import Handler, serve
from builder.store import Store
from tests.support.locks import left, lock_of, locked

CONTENT = os.urandom(300_000)


class Quirks(Handler):
    """A mirror with faults, by the first part of a path."""

    asked: list[str]
    fail: int = 0

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        self.asked.append(f"{kind} {self.headers.get('Range', '')}".strip())
        match kind:
            case "sometimes" if len(self.asked) < 3:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            case "short" | "once-short" if kind == "short" or len(self.asked) == 1:
                self.send_part(CONTENT[:100_000], said=len(CONTENT))
            case "truncated":
                self.send_part(CONTENT[:100_000], said=100_000)
            case "longer":
                self.send_part(CONTENT + b"more" * 9999, said=len(CONTENT) + 4 * 9999)
            case "changed":
                self.send_part(CONTENT[:-1] + b"?", said=len(CONTENT))
            case "loop":
                self.redirect(self.path)
            case "moved":
                self.redirect(f"/plain/{name}")
            case "nowhere":
                self.redirect("ftp://elsewhere.invalid/x")
            case "hangs":
                time.sleep(1)
            case "slow" if name.startswith("many"):
                time.sleep(0.1)
                self.send_part(b"", said=0)
            case "no-range":
                self.send_part(CONTENT, said=len(CONTENT))
            case _:
                self.path = f"/{name}"
                super().do_GET()

    def send_part(self, data: bytes, *, said: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(said))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def redirect(self, target: str) -> None:
        self.send_response(HTTPStatus.FOUND)
        self.send_header("Location", target)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(store_module, "PAUSE", 0.01)
    monkeypatch.setattr(store_module, "TIMEOUT", 0.3)
    before = ui.current()
    ui.use(ui.Ui(quiet=True))
    yield
    ui.use(before)


@contextmanager
def mirror(tmp_path: Path, kind: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """URLs of a mirror of that kind, and what it has been asked for."""
    place = tmp_path / "mirror"
    place.mkdir(exist_ok=True)
    (place / "file-1.pkg").write_bytes(CONTENT)
    for n in range(20):
        (place / f"many{n}-1.pkg").write_bytes(many(n))
    asked: list[str] = []

    class Quirk(Quirks):
        pass

    Quirk.asked = asked
    with serve(place, handler=Quirk) as url:
        yield {"core": f"{url}/{kind}/"}, asked


def many(n: int) -> bytes:
    return hashlib.sha512(str(n).encode()).digest() * (n * 100)


def one() -> Lock:
    return lock_of(locked("file-1.pkg", CONTENT))


def fetched(tmp_path: Path, kind: str) -> tuple[Store, list[str]]:
    store = Store(tmp_path / "store")
    with mirror(tmp_path, kind) as (urls, asked):
        store.fetch(one(), urls)
    return store, asked


def test_many_files_are_fetched_in_parallel_and_each_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lock = lock_of(*(locked(f"many{n}-1.pkg", many(n)) for n in range(20)))
    with mirror(tmp_path, "plain") as (urls, asked):
        store.fetch(lock, urls)
        store.fetch(lock, urls)
    assert asked == ["plain"] * 20
    assert all(store.checked(f).read_bytes() == many(n) for n, f in enumerate(lock.files))
    assert left(store) == []


def test_two_names_of_one_content_are_fetched_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lock = lock_of(locked("file-1.pkg", CONTENT), locked("file-2.pkg", CONTENT))
    with mirror(tmp_path, "plain") as (urls, asked):
        store.fetch(lock, urls)
    assert len(asked) == 1
    assert all(store.has(f) for f in lock.files)


def test_two_processes_fetch_the_same_files_once(tmp_path: Path) -> None:
    store, lock = Store(tmp_path / "store"), one()
    with mirror(tmp_path, "plain") as (urls, asked):
        threads = [threading.Thread(target=store.fetch, args=(lock, urls)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(asked) == 1


def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    store, asked = fetched(tmp_path, "once-short")
    assert asked == ["once-short", "once-short bytes=100000-"]
    assert store.checked(one().files[0]).read_bytes() == CONTENT


def test_a_part_of_an_earlier_run_is_gone_on_with(tmp_path: Path) -> None:
    store, file = Store(tmp_path / "store"), one().files[0]
    store.root.mkdir()
    (store.root / f"{file.sha256}.part").write_bytes(CONTENT[:200_000])
    with mirror(tmp_path, "plain") as (urls, asked):
        store.fetch(one(), urls)
    assert asked == ["plain bytes=200000-"]
    assert store.checked(file).read_bytes() == CONTENT


@pytest.mark.parametrize("damage", [b"x" * 5000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 9), b""])
def test_a_damaged_part_is_not_held_against_the_mirror(tmp_path: Path, damage: bytes) -> None:
    store, file = Store(tmp_path / "store"), one().files[0]
    store.root.mkdir()
    (store.root / f"{file.sha256}.part").write_bytes(damage)
    with mirror(tmp_path, "plain") as (urls, _):
        store.fetch(one(), urls)
    assert store.checked(file).read_bytes() == CONTENT
    assert left(store) == []


def test_a_mirror_without_ranges_sends_the_whole_file_again(tmp_path: Path) -> None:
    store, file = Store(tmp_path / "store"), one().files[0]
    store.root.mkdir()
    (store.root / f"{file.sha256}.part").write_bytes(CONTENT[:99])
    with mirror(tmp_path, "no-range") as (urls, _):
        store.fetch(one(), urls)
    assert store.checked(file).read_bytes() == CONTENT


def test_a_mirror_that_is_busy_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    store, asked = fetched(tmp_path, "sometimes")
    assert len(asked) == 3
    assert store.has(one().files[0])


def test_a_redirect_is_followed(tmp_path: Path) -> None:
    store, asked = fetched(tmp_path, "moved")
    assert asked == ["moved", "plain"]
    assert store.has(one().files[0])


def failure(tmp_path: Path, kind: str, error: type[Exception]) -> tuple[str, Store, list[str]]:
    store = Store(tmp_path / "store")
    with mirror(tmp_path, kind) as (urls, asked), pytest.raises(error) as caught:
        store.fetch(one(), urls)
    assert not store.has(one().files[0])
    return str(caught.value), store, asked


def test_404_names_file_and_url_and_is_not_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lock = lock_of(locked("gone-1.pkg", b"x"))
    with mirror(tmp_path, "plain") as (urls, asked), pytest.raises(MachineError) as caught:
        store.fetch(lock, urls)
    assert asked == ["plain"]
    assert "cannot fetch gone 1.0-1" in caught.value.message
    assert f"{urls['core']}gone-1.pkg: HTTP status 404" in caught.value.message
    assert caught.value.exit_code == 6
    assert left(store) == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("short", r"cannot fetch file 1.0-1 from http.*/short/file-1.pkg: "),
        ("truncated", r"the connection ended after 100000 of 300000 bytes"),
        ("hangs", r"ReadTimeout"),
        ("nowhere", r"UnsupportedProtocol"),
    ],
)
def test_a_mirror_that_fails_every_time_is_given_up(tmp_path: Path, kind: str, said: str) -> None:
    import re

    message, store, asked = failure(tmp_path, kind, MachineError)
    assert re.search(said, message)
    assert len(asked) == store_module.ATTEMPTS
    assert set(left(store)) <= {f"{one().files[0].sha256}.part"}


def test_a_closed_port_is_one_clear_error(tmp_path: Path) -> None:
    with mirror(tmp_path, "plain") as (urls, _):
        pass
    with pytest.raises(MachineError, match=r"ConnectError.*refused"):
        Store(tmp_path / "store").fetch(one(), urls)


def test_a_redirect_loop_is_refused(tmp_path: Path) -> None:
    message, store, asked = failure(tmp_path, "loop", MachineError)
    assert "more than 5 redirects" in message
    assert len(asked) == 6
    assert left(store) == []


def test_a_changed_file_is_refused_by_name_with_both_digests(tmp_path: Path) -> None:
    message, store, _ = failure(tmp_path, "changed", TrustError)
    wrong = hashlib.sha256(CONTENT[:-1] + b"?").hexdigest()
    assert "file 1.0-1 (file-1.pkg) is not the file that the lock names" in message
    assert f"expected 300000 bytes, sha256 {one().files[0].sha256}" in message
    assert f"found    300000 bytes, sha256 {wrong}" in message
    assert left(store) == []


def test_a_longer_file_is_refused_without_reading_all_of_it(tmp_path: Path) -> None:
    message, store, _ = failure(tmp_path, "longer", TrustError)
    assert "expected 300000 bytes" in message
    assert int(message.split("found")[1].split()[0]) > 300000
    assert left(store) == []


def test_one_failure_ends_the_other_downloads(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lock = lock_of(locked("gone-1.pkg", b"x"), *(locked(f"many{n}-1.pkg", many(n)) for n in range(20)))
    with mirror(tmp_path, "slow") as (urls, asked), pytest.raises(MachineError, match="gone"):
        store.fetch(lock, urls)
    assert len(asked) < 21


def test_a_full_disk_while_fetching_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "download", full)
    message, _, _ = failure(tmp_path, "plain", MachineError)
    assert message == f"cannot write {tmp_path / 'store'}: No space left on device"


@pytest.mark.parametrize("name", ["missing", "."])
def test_an_export_that_cannot_be_read_is_no_defect(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot read"):
        Store(tmp_path / "store").load(tmp_path / name)
