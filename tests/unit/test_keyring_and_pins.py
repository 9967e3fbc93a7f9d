"""Does a newer archlinux-keyring count, and does one lost connection spoil a lock?"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from builder.distro import pin
from builder.distro.keyring import archlinux_files
from builder.distro.pin import fetch_signature
from builder.errors import TrustError

URL = "https://archive.example.org/a.sig"


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pin, "PAUSE", 0)


def answers(*outcomes: int | Exception) -> tuple[httpx.Client, Iterator[int | Exception]]:
    """A client that meets these outcomes one after the other, and what is left of them."""
    left = iter(outcomes)

    def handle(_: httpx.Request) -> httpx.Response:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return httpx.Response(outcome, content=b"signature")

    return httpx.Client(transport=httpx.MockTransport(handle)), left


def test_a_lost_connection_and_a_busy_mirror_are_asked_again() -> None:
    http, left = answers(httpx.ConnectError("reset"), 429, httpx.ReadTimeout("slow"), 200)
    assert fetch_signature(http, URL) == b"signature"
    assert list(left) == []


def test_a_mirror_that_stays_away_is_given_up() -> None:
    http, left = answers(*[httpx.ConnectError("reset")] * pin.ATTEMPTS)
    with pytest.raises(httpx.ConnectError):
        fetch_signature(http, URL)
    assert list(left) == []


def test_a_mirror_that_stays_busy_is_given_up() -> None:
    http, left = answers(*[503] * pin.ATTEMPTS)
    with pytest.raises(httpx.HTTPStatusError):
        fetch_signature(http, URL)
    assert list(left) == []


def test_a_signature_that_is_not_there_is_none() -> None:
    http, _ = answers(404)
    assert fetch_signature(http, URL) is None


def test_an_endless_signature_is_refused() -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=bytes(pin.MAX_SIGNATURE + 1))

    with pytest.raises(TrustError, match="too long"):
        fetch_signature(httpx.Client(transport=httpx.MockTransport(handle)), URL)


@pytest.mark.parametrize("place", ["usr/share/keyrings", "usr/share/pacman/keyrings"])
def test_the_files_of_archlinux_keyring_are_found_where_a_distribution_has_them(
    tmp_path: Path, place: str
) -> None:
    directory = tmp_path / place
    directory.mkdir(parents=True)
    for name in ("archlinux.gpg", "archlinux-trusted", "archlinux-revoked", "debian-archive-keyring.gpg"):
        (directory / name).write_text(name)
    found = [path.name for path in archlinux_files(tmp_path)]
    assert found == ["archlinux.gpg", "archlinux-trusted", "archlinux-revoked"]
