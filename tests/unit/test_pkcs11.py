"""Is the key on a token that SIGNING_KEY names found, or is it said why not?"""

from pathlib import Path

import pytest

from builder.errors import InputError, MachineError, UsageError
from builder.outputs import pkcs11
from builder.outputs.pkcs11 import TokenKey, parse_learned, parse_uri, the_key
from builder.outputs.sign import open_signer, sign_file

MODULE = "module-path=/usr/lib/softhsm/libsofthsm2.so"
GRIP = "BA578115C7A4DDECD0FC4CF52F97FD7398A7AE8E"
LEARNED = f"""\
S SERIALNO D27600012401115031319909A5ED1111
S APPTYPE PKCS11
S KEY-FRIEDNLY {GRIP} /CN=release a on release
S CERTINFO 101 SoftHSM\\x20project/SoftHSM\\x20v2/b59f44e2c6b50a7e/release/01
S KEYPAIRINFO {GRIP} SoftHSM\\x20project/SoftHSM\\x20v2/b59f44e2c6b50a7e/release/01
S KEYPAIRINFO {GRIP[::-1]} SoftHSM\\x20project/SoftHSM\\x20v2/b59f44e2c6b50a7e/a\\x2Fb/01AF
OK
"""
KEYS = parse_learned(LEARNED)


def test_the_keys_that_a_token_shows_are_told_apart_by_all_that_a_uri_can_name() -> None:
    first, second = KEYS
    assert first == TokenKey(GRIP, "SoftHSM\\x20project/SoftHSM\\x20v2/b59f44e2c6b50a7e/release/01")
    assert first.parts == {
        "manufacturer": b"SoftHSM project",
        "model": b"SoftHSM v2",
        "serial": b"b59f44e2c6b50a7e",
        "token": b"release",
        "id": b"\x01",
    }
    assert (second.parts["token"], second.parts["id"]) == (b"a/b", b"\x01\xaf")
    assert str(second) == "token=a/b;serial=b59f44e2c6b50a7e;id=%01%af"


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("token=release", 0),
        ("id=%01", 0),
        ("token=a%2Fb;id=%01%AF", 1),
        ("manufacturer=SoftHSM%20project;serial=b59f44e2c6b50a7e;token=release;type=private", 0),
    ],
)
def test_a_key_is_found_by_any_of_what_a_uri_names(path: str, number: int) -> None:
    assert the_key(parse_uri(f"pkcs11:{path}?{MODULE}"), KEYS) is KEYS[number]


@pytest.mark.parametrize(
    ("path", "said"), [("", "fits 2 keys; these"), ("token=other", "fits 0 keys; there")]
)
def test_a_uri_of_several_keys_or_none_names_those_that_there_are(path: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as refused:
        the_key(parse_uri(f"pkcs11:{path}?{MODULE}"), KEYS)
    assert "token=release;serial=b59f44e2c6b50a7e;id=%01" in refused.value.message


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("pkcs11:token=release", "no module by its full path"),
        ("pkcs11:token=release?module-path=libykcs11.so", "no module by its full path"),
        ("pkcs11:token=release?module-path=/x%0Aproviders%20evil", "no module by its full path"),
        (f"pkcs11:object=release?{MODULE}", "cannot be found by 'object'"),
        (f"pkcs11:token=release?{MODULE}&pin-value=123456", "a PIN is no part of SIGNING_KEY"),
        (f"pkcs11:token=release?pin-source=/pin&{MODULE}", "a PIN is no part of SIGNING_KEY"),
    ],
)
def test_a_uri_that_no_key_can_be_found_by_is_refused_and_a_pin_in_it_is_not_repeated(
    uri: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        parse_uri(uri)
    assert "123456" not in f"{refused.value.message}{refused.value.hint}"


def test_a_key_on_a_token_is_not_used_without_its_pin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SIGNING_PASSPHRASE", raising=False)
    with pytest.raises(UsageError, match="needs its PIN"), open_signer(f"pkcs11:token=release?{MODULE}"):
        pass
    (tmp_path / "pin").write_text("123456\n")
    (tmp_path / "pin").chmod(0o600)
    monkeypatch.setenv("SIGNING_PASSPHRASE", str(tmp_path / "pin"))
    monkeypatch.setattr(pkcs11, "DAEMON", "nowhere/scd")
    with pytest.raises(MachineError, match="/nowhere/scd is not installed"):
        sign_file(tmp_path / "pin", tmp_path / "sig", "pkcs11:?module-path=/nowhere.so")
    monkeypatch.setattr(pkcs11, "DAEMON", "usr/bin/env")
    with pytest.raises(InputError, match=r"no PKCS#11 module /nowhere\.so"):
        sign_file(tmp_path / "pin", tmp_path / "sig", "pkcs11:?module-path=/nowhere.so")
