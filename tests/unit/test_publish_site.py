"""Which addresses and names are taken of what is to be fetched?"""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from builder.cli import app
from builder.errors import InputError, MachineError, TrustError, UsageError
from builder.publish import fetch
from builder.publish.fetch import Site
from builder.publish.index import parse_index


@pytest.mark.parametrize("url", ["http://[::1", "https://[half"])
def test_an_address_that_cannot_be_read_is_bad_input(url: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        Site(url)


def test_an_unknown_kind_of_address_says_which_are_known() -> None:
    with pytest.raises(InputError, match="unknown kind") as e:
        Site("gopher://example/images")
    assert "oci://" in (e.value.hint or "")


@pytest.mark.parametrize("name", ["../x", "a b", ""])
def test_a_name_that_is_no_profiles_is_refused_before_it_becomes_a_path(name: str) -> None:
    result = CliRunner().invoke(app, ["pull", "/nowhere", name])
    assert isinstance(result.exception, UsageError)
    assert "lower-case letters" in (result.exception.hint or "")


def test_an_image_that_is_not_there_is_bad_input_and_not_one_that_nobody_vouches_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.gpg").write_bytes(b"a key")
    monkeypatch.setenv("SEATSMITH_DIST", str(tmp_path))
    keys = ["--key", str(tmp_path / "key.gpg"), "--rebuilder-key", str(tmp_path / "key.gpg")]
    result = CliRunner().invoke(app, ["verify", "nowhere", "--require-rebuilders", "1", *keys])
    assert isinstance(result.exception, InputError)
    assert "there is no image of nowhere" in result.exception.message
    result = CliRunner().invoke(app, ["verify", "../x", "--require-rebuilders", "1", *keys])
    assert isinstance(result.exception, UsageError)


def test_without_a_key_of_a_rebuilder_it_is_said_where_they_go(tmp_path: Path) -> None:
    (tmp_path / "key.gpg").write_bytes(b"a key")
    words = ["pull", "/nowhere", "work", "--key", str(tmp_path / "key.gpg"), "--require-rebuilders", "1"]
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, InputError)
    assert "ci/keys/rebuilders" in result.exception.message
    assert "--rebuilder-key" in (result.exception.hint or "")


def test_an_index_whose_times_have_no_zone_is_refused_and_not_compared() -> None:
    times = '"published": "2026-11-01T00:00:00", "expires": "2026-12-01T00:00:00Z"'
    with pytest.raises(TrustError, match=r"index\.json: published: .*timezone"):
        parse_index(f'{{"serial": 1, {times}, "profiles": {{}}}}'.encode())


class Drip(BaseHTTPRequestHandler):
    """A mirror that never falls silent and never comes to an end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(b"x")
                time.sleep(0.01)

    def log_message(self, *words: object) -> None: ...


@pytest.mark.timeout(20)
def test_a_mirror_that_sends_byte_after_byte_does_not_hold_a_seat_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch, "PATIENCE", 0.2)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Drip)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        slow = pytest.raises(MachineError, match=r"index\.json: only \d+ bytes came in")
        with Site(f"http://127.0.0.1:{server.server_port}") as site, slow:
            site.get("index.json", limit=1 << 20)
    finally:
        server.shutdown()
        server.server_close()
