"""Are the machine-readable lines of gpgv and gpg understood, also where somebody would rather not?"""

from datetime import UTC, datetime

import pytest

from builder.outputs.gpg import parse_key_listing
from builder.outputs.sign import Verdict, parse_status

SUBKEY, PRIMARY = "A" * 40, "B" * 40
VALID = f"[GNUPG:] VALIDSIG {SUBKEY} 2026-11-24 1795492685 0 4 0 22 10 00 {PRIMARY}\n"
GOOD = f"[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG {'A' * 16} R <r@x>\n{VALID}"


def test_a_good_signature_is_credited_to_the_primary_key() -> None:
    found = parse_status(GOOD)
    assert found.verdict is Verdict.GOOD
    assert found.fingerprint == PRIMARY
    assert found.made == datetime(2026, 11, 24, 3, 58, 5, tzinfo=UTC)
    assert found.user == "R <r@x>"


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("EXPKEYSIG", Verdict.EXPIRED_KEY),
        ("REVKEYSIG", Verdict.REVOKED_KEY),
        ("EXPSIG", Verdict.EXPIRED_SIGNATURE),
    ],
)
def test_a_valid_signature_by_a_key_out_of_standing_is_not_good(word: str, verdict: Verdict) -> None:
    assert parse_status(GOOD.replace("GOODSIG", word)).verdict is verdict
    # and the bad word wins over a good one, in whichever order they come
    assert parse_status(GOOD + f"[GNUPG:] {word} {'A' * 16} R\n").verdict is verdict


@pytest.mark.parametrize(
    "status",
    [
        "",
        "[GNUPG:] NODATA 4\n",
        f"[GNUPG:] GOODSIG {'A' * 16} no valid line\n",
        VALID,
        GOOD + GOOD,
        GOOD.replace("[GNUPG:] ", "[GNUPG:]"),
        GOOD.replace("[GNUPG:] ", "gpg: "),
        f"[GNUPG:] ERRSIG {'A' * 16} 22 10 00 1795492685 4 -\n",
    ],
)
def test_nothing_but_one_good_valid_signature_is_good(status: str) -> None:
    assert parse_status(status).verdict is Verdict.UNREADABLE


def test_a_user_id_cannot_forge_a_status_line() -> None:
    status = f"[GNUPG:] NEWSIG\n[GNUPG:] BADSIG {'A' * 16} x [GNUPG:] GOODSIG {'A' * 16} y\n"
    assert parse_status(status).verdict is Verdict.BAD


def test_a_bad_signature_beside_a_good_one_is_bad() -> None:
    assert parse_status(GOOD + f"[GNUPG:] BADSIG {'A' * 16} R\n").verdict is Verdict.BAD


def test_a_key_listing_tells_expiry_and_revocation_of_the_primary_key() -> None:
    listing = (
        "pub:e:255:22:66F6A5E8B02C83C8:1577836800:1577923200::-:::sc:::::ed25519:::0:\n"
        f"fpr:::::::::{PRIMARY}:\n"
        "uid:e::::1577836800::7B9D::old <e@x>::::::::::0:\n"
        "sub:r:255:22:AAAA:1577836800:::::s:::::ed25519::\n"
        f"fpr:::::::::{SUBKEY}:\n"
        "rev:?::22:55:1577836801::::x:18x:::::10:\n"
        "pub:r:255:22:55714FAA090E6800:1795492685:::-:::sc:::::ed25519:::0:\n"
        f"fpr:::::::::{'C' * 40}:\n"
        "rev:?::22:55714FAA090E6800:1795492685::::[User ID not found]:20x,00:::::10:\n"
        "uid:r::::1795492685::7346::rev <r@x>::::::::::0:\n"
    )
    old, leaked = parse_key_listing(listing)
    assert (old.fingerprint, old.expired, old.revoked) == (PRIMARY, True, False)
    assert old.expires == datetime(2020, 1, 2, tzinfo=UTC)
    assert (leaked.revoked, leaked.user) == (True, "rev <r@x>")
    assert leaked.revoked_at == datetime(2026, 11, 24, 3, 58, 5, tzinfo=UTC)
