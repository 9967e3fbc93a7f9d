"""Does a session of the installer make the seat, unattended and asked, and refuse what it must?"""

import json
import os
import shutil
from pathlib import Path

import pytest

from builder.errors import ExitCode, InputError, TrustError
from builder.files import file_digest
from builder.installer.answers import Then
from builder.installer.layout import PINS
from builder.project import cache_home
from builder.provision import found
from builder.provision.found import look
from builder.publish.site import Terms, publish
from builder.standin.server import serve
from builder.volume.medium import Medium
from builder.volume.read import Read
from builder.volume.traces import Traces
from tests.support.gpgkeys import KeyMaker
from tests.support.installers import PROFILES, SERIAL, Desk
from tests.support.terminal import Talk
from tests.support.tinyseat import DISK_SIZE, PASSPHRASE, put_image

BOTH = {"work": "1", "private": "1"}


def test_unattended_the_seat_is_made_and_a_second_run_refuses_to_make_it_again(desk: Desk) -> None:
    desk.answers()
    assert desk.run() is Then.POWEROFF
    assert desk.environments() == BOTH
    refused = desk.refused(InputError, "the seat tiny is already on")
    assert "--wipe" in (refused.hint or "")


def test_the_answers_that_were_signed_with_the_installer_come_before_those_on_the_stick(desk: Desk) -> None:
    desk.answers()
    shutil.move(desk.stick / "answers.yaml", desk.project.root / "answers.yaml")
    desk.answers(serial="ANOTHER-DISK", then="reboot")
    assert desk.run() is Then.POWEROFF
    assert desk.environments() == BOTH


def test_answers_for_another_seat_or_disk_are_refused(desk: Desk) -> None:
    desk.answers(seat="other")
    desk.refused(InputError, "the answers are for the seat other; this installer is for tiny")
    desk.answers(serial="SEATSMITH-TEST-8")
    desk.refused(InputError, "there is no disk with the serial number SEATSMITH-TEST-8")


def test_images_without_a_signature_by_a_trusted_key_are_refused(desk: Desk, make_key: KeyMaker) -> None:
    seat = desk.project.seats / "tiny.yaml"
    seat.write_text(seat.read_text().replace("fast-test", "benchmark"))
    desk.answers(for_tests=None)
    put_image(desk.project, "work", "2", make_key("stranger"))
    desk.refused(TrustError, "not one of the trusted keys")
    put_image(desk.project, "work", "2", None)
    desk.refused(TrustError, "the image of work is not signed")
    put_image(desk.project, "work", "2", desk.key, source="standin")  # whatever its version says
    desk.refused(TrustError, "the image of work is built from the standin")
    put_image(desk.project, "work", "2-standin", desk.key, source="standin")
    desk.refused(TrustError, "the image of work is made of stand-in packages")


def test_an_image_that_was_changed_on_the_stick_is_refused(desk: Desk) -> None:
    desk.answers()
    image = next((desk.project.dist / "private").glob("*.efi"))
    image.write_bytes(image.read_bytes().replace(b"UKI", b"uki", 1))
    desk.refused(TrustError, "private_1_x86-64.efi")


def test_an_older_signed_image_in_the_place_of_the_one_on_the_stick_is_refused(desk: Desk) -> None:
    sums = {name: file_digest(desk.project.dist / name / "SHA256SUMS") for name in PROFILES}
    (desk.project.root / PINS).write_text(json.dumps(sums))
    desk.answers()
    put_image(desk.project, "work", "0", desk.key)
    desk.refused(TrustError, "the image of work on the stick is not the one that the installer")
    put_image(desk.project, "work", "1", desk.key)
    put_image(desk.project, "private", "0", desk.key, bootable=True)
    desk.refused(TrustError, "the image of private on the stick")


def test_asked_on_a_disk_that_is_read_as_a_whole_nobody_has_to_agree_to_lose_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_large_disk(fd: int, read: Read, start: int, end: int, *, everything: bool) -> Traces:
        return Traces(end - start, end - start if everything else 0)

    said = iter(["1", "tiny"])
    monkeypatch.setattr(found, "look_for_traces", on_a_large_disk)
    monkeypatch.setattr("builtins.input", lambda _: next(said))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _: "")
    desk.answers(serial=None, read_all=True)
    assert desk.run() is Then.POWEROFF
    assert desk.environments() == BOTH


def test_a_disk_with_data_is_written_only_where_the_answers_name_just_that(desk: Desk) -> None:
    with desk.disk.open("r+b") as f:
        f.seek(300 << 20)
        f.write(b"somebody's life's work" * 400_000)
    with desk.disk.open("rb") as f:
        there = look(Medium(f.fileno(), desk.disk), DISK_SIZE, desk.tools)
    desk.answers()
    desk.refused(InputError, "is not empty")
    desk.answers(wipe="00000000")
    desk.refused(InputError, "is not empty")
    desk.answers(wipe=there.id)
    assert desk.run() is Then.POWEROFF
    assert desk.environments() == BOTH


def published(desk: Desk, place: Path, key: Path) -> Path:
    """The images in a published directory, and none on the stick or from an earlier session's pull."""
    root = place / "www"
    terms = Terms(os.fspath(key), [desk.key.public.read_bytes()])
    publish(root, [desk.project.dist / name for name in PROFILES], terms, tools=desk.tools)
    shutil.rmtree(desk.project.dist)
    for name in PROFILES:  # what is the same there would not be fetched
        shutil.rmtree(cache_home() / "dist" / name, ignore_errors=True)
    return root


def test_images_are_fetched_from_a_url_with_all_their_checks(desk: Desk, tmp_path: Path) -> None:
    root = published(desk, tmp_path, desk.key.secret)
    with serve(root) as url:
        desk.answers(url=url)
        assert desk.run() is Then.POWEROFF
    assert desk.environments() == BOTH


def test_an_image_that_was_changed_on_the_server_is_refused(desk: Desk, tmp_path: Path) -> None:
    root = published(desk, tmp_path, desk.key.secret)
    image = next(root.glob("work/1/*.tar.zst"))
    image.write_bytes(image.read_bytes()[:-1] + b"!")
    with serve(root) as url:
        desk.answers(url=url)
        desk.refused(TrustError, "is not the file that was signed")


def talk(desk: Desk) -> Talk:
    """A session at a terminal, where no credential says the passphrase."""
    env = {k: v for k, v in os.environ.items() if k != "CREDENTIALS_DIRECTORY"}
    words = ["installer", "run", "--stick", os.fspath(desk.stick), "--disk", os.fspath(desk.disk)]
    return Talk(words, {**env, "TERM": "dumb", "COLUMNS": "200", "PYTHONPATH": os.pathsep.join(desk_path())})


def desk_path() -> list[str]:
    return [os.fspath(Path(__file__).parents[3])]


def test_asked_a_person_sees_the_plan_types_the_seats_name_and_gets_the_seat(
    desk: Desk, tmp_path: Path
) -> None:
    desk.answers(serial=None)
    with talk(desk) as person:
        person.wait_for(r"serial SEATSMITH-TEST-7")
        person.answer(r"Which disk \(1 to 1; Enter: none\)\?", "1")
        person.wait_for(r"written +protective MBR, GPT")
        person.wait_for(r"Nothing was written")
        person.answer(r"Type the seat's name to go on \(tiny\):", "tiny")
        person.answer(r"Password of root in work \(Enter: none\):", "")
        person.answer(r"Password of user in work", "mistyped")
        person.answer(r"Repeat the password", "mis typed")
        person.answer(r"they differ(?s:.)*Password of user in work", "a password")
        person.answer(r"Repeat the password", "a password")
        person.answer(r"Password of root in private", "")
        person.answer(r"Password of user in private", "")
        person.answer(r"New passphrase", PASSPHRASE.decode())
        person.answer(r"Repeat the passphrase", PASSPHRASE.decode())
        person.wait_for("recovery key of work, shown only now")
        assert person.end() == 0
        assert PASSPHRASE.decode() not in person.said
    assert desk.environments() == BOTH
    assert desk.passwords("work", tmp_path) == {"root": "*", "user": "$6$"}
    assert desk.passwords("private", tmp_path) == {"root": "*", "user": "!*"}


@pytest.mark.parametrize(
    ("disk", "name", "said"),
    [
        ("", None, "no disk was chosen; nothing was written"),
        ("2", None, "no disk was chosen; nothing was written"),
        ("1", "tinny", "the name is another; nothing was written"),
    ],
)
def test_asked_a_person_who_does_not_agree_loses_nothing(
    desk: Desk, disk: str, name: str | None, said: str
) -> None:
    desk.answers(serial=None)
    with talk(desk) as person:
        person.answer(r"Which disk", disk)
        if name is not None:
            person.answer(r"Type the seat's name", name)
        person.wait_for(said)
        assert person.end() == ExitCode.USAGE
    assert desk.written() == []


def test_asked_a_person_must_type_the_id_of_what_will_be_lost(desk: Desk) -> None:
    with desk.disk.open("r+b") as f:
        f.write(b"precious" * 100_000)
    desk.answers(serial=None)
    before = desk.written()
    with talk(desk) as person:
        person.answer(r"Which disk", "1")
        person.answer(r"To lose all of it type its found-id \([0-9a-f]{8}\):", "yes")
        person.wait_for("that is not the id; nothing was written")
        assert person.end() == ExitCode.USAGE
    assert desk.written() == before
    assert SERIAL in os.fspath(desk.disk)
