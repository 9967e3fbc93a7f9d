"""Does what is given now go before what is kept, and does what cannot lie together end before any write?"""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.provision import contents
from builder.provision.replace import replace_environment
from builder.provision.seatdisk import opened
from builder.seat.plan import Plan
from tests.support.provisioned import Bench
from tests.support.tinyseat import PASSPHRASE

HASH = "$6$salt$hash"


def files(bench: Bench, *names: str) -> list[bytes]:
    with (
        bench.opened() as disk,
        bench.empty_scratch() as scratch,
        opened(disk, "work", bytearray(PASSPHRASE), bench.tools, scratch) as filesystem,
    ):
        return [filesystem.data(filesystem.find(name)) for name in names]


def replaced(bench: Bench, version: str, **given: object) -> None:
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        job = replace(bench.job("work", bench.new_image("work", version)), **given)  # type: ignore[arg-type]
        replace_environment(disk, job, tools=bench.tools, scratch=scratch)


def keep(bench: Bench, *paths: str) -> None:
    seat = bench.project.seats / "tiny.yaml"
    seat.write_text(seat.read_text().replace("[/home, /etc/machine-id]", f"[{', '.join(paths)}]"))


def digest(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


@pytest.mark.parametrize("kept", [("/etc",), ("/etc/shadow", "/etc/hostname", "/etc/machine-id")])
def test_a_password_and_a_host_name_that_are_given_go_before_kept_files(
    kept: tuple[str, ...], bench: Bench
) -> None:
    keep(bench, *kept)
    replaced(bench, "2", hostname="desk", passwords={"root": "$6$old$old"})
    before = files(bench, "etc/machine-id", "etc/ssh/ssh_host_ed25519_key")
    replaced(bench, "3", hostname="table", passwords={"user": HASH})
    assert files(bench, "etc/machine-id", "etc/ssh/ssh_host_ed25519_key") == before
    name, shadow = files(bench, "etc/hostname", "etc/shadow")
    assert name == b"table\n"
    lines = {line.split(":")[0]: line.split(":", 1)[1] for line in shadow.decode().splitlines()}
    assert lines["user"] == f"{HASH}:20000::::::"
    assert lines["root"].startswith("$6$old$old:")
    assert lines["daemon"].startswith("*:")


def test_kept_names_of_hosts_follow_a_host_name_that_is_given_and_stay_without(bench: Bench) -> None:
    keep(bench, "/etc")
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        job = bench.job("work", bench.new_image("work", "2"))
        disk_of = contents.lay

        def with_hosts(persona: object, overlay: Path, **how: object) -> None:
            (overlay / "etc").mkdir(exist_ok=True)
            (overlay / "etc/hosts").write_text("127.0.1.1 odd\n10.0.0.1 mine\n")
            disk_of(persona, overlay, **how)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contents, "lay", with_hosts)
            replace_environment(disk, job, tools=bench.tools, scratch=scratch)
    replaced(bench, "3")
    assert files(bench, "etc/hosts") == [b"127.0.1.1 odd\n10.0.0.1 mine\n"]
    replaced(bench, "2", hostname="table")
    assert files(bench, "etc/hosts") == [b"127.0.1.1 table\n10.0.0.1 mine\n"]


def test_a_password_for_a_user_whom_the_kept_file_lacks_is_refused_before_any_write(bench: Bench) -> None:
    keep(bench, "/etc/shadow")
    before = digest(bench.disk)
    with pytest.raises(InputError, match="is kept, has no newcomer in /etc/shadow"):
        replaced(bench, "2", passwords={"newcomer": HASH})
    assert digest(bench.disk) == before


def test_a_password_for_a_user_whom_the_image_lacks_is_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="the image of work has no newcomer in /etc/shadow"):
        replaced(bench, "2", passwords={"newcomer": HASH})


@pytest.mark.parametrize(
    ("ours", "kept", "words"),
    [
        ("home", "/home", "/home is a directory in the old environment, .* and a file"),
        ("etc/machine-id/x", "/etc/machine-id", "/etc/machine-id is a file in the old .* and a directory"),
        ("home", "/home/user", "/home is a directory in the old environment, .* and a file"),
    ],
)
def test_a_file_of_the_seat_in_the_place_of_a_kept_directory_is_refused_before_any_write(
    ours: str, kept: str, words: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(plan: Plan, profiles: object, name: str, dest: Path) -> list[str]:
        (dest / ours).parent.mkdir(parents=True)
        (dest / ours).write_text("ours")
        return []

    keep(bench, kept)
    monkeypatch.setattr(contents, "render_overlay", render)
    monkeypatch.setattr(contents, "lay", lambda *_, **__: None)
    before = digest(bench.disk)
    with pytest.raises(InputError, match=words) as caught:
        replaced(bench, "2")
    assert kept in (caught.value.hint or "")
    assert digest(bench.disk) == before


def test_what_is_to_be_kept_and_is_not_there_is_told(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(bench, "/home", "/hme", "/etc/wireguard")
    replaced(bench, "2")
    said = capsys.readouterr().err
    for path in ("/hme", "/etc/wireguard"):
        assert f"{path} is to be kept, and the present work has none: the image's is taken" in said
