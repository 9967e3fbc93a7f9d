"""Is an environment known again after it was replaced? Its machine-id, host keys and host name."""

from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import InputError, UsageError
from builder.provision.persona import Belonging, lay, new_persona, persona_in, read_hostnames
from builder.provision.replace import replace_environment
from builder.provision.seatdisk import opened
from tests.support.provisioned import Bench
from tests.support.tinyseat import PASSPHRASE


def own_files(bench: Bench, name: str) -> dict[str, bytes]:
    with (
        bench.opened() as disk,
        bench.empty_scratch() as scratch,
        opened(disk, name, bytearray(PASSPHRASE), bench.tools, scratch) as filesystem,
    ):
        return {path: belonging.data for path, belonging in persona_in(filesystem).items()}


def test_every_environment_has_an_id_and_keys_of_its_own_and_keeps_them(bench: Bench) -> None:
    host, container = own_files(bench, "private"), own_files(bench, "work")
    key = "etc/ssh/ssh_host_ed25519_key"
    assert {"etc/machine-id", key, f"{key}.pub"} <= host.keys()
    assert not set(host.values()) & set(container.values())
    for version in ("2", "3"):
        bench.replace("private", bench.new_image("private", version))
        assert own_files(bench, "private") == host


def test_a_host_name_that_was_given_outlives_replacements_until_another_is_given(bench: Bench) -> None:
    def given(name: str | None, version: str) -> bytes:
        with bench.opened() as disk, bench.empty_scratch() as scratch:
            job = replace(bench.job("private", bench.new_image("private", version)), hostname=name)
            replace_environment(disk, job, tools=bench.tools, scratch=scratch)
        return own_files(bench, "private")["etc/hostname"]

    assert given("desk-7", "2") == b"desk-7\n"
    assert given(None, "3") == b"desk-7\n"
    assert given("desk-8", "2") == b"desk-8\n"


def test_the_host_name_reaches_the_file_that_resolves_it(tmp_path: Path) -> None:
    hosts = tmp_path / "etc/hosts"
    hosts.parent.mkdir()
    hosts.write_text("127.0.0.1 localhost\n127.0.1.1 private\n")
    lay(new_persona(hostname="desk"), tmp_path)
    assert hosts.read_text() == "127.0.0.1 localhost\n127.0.1.1 desk\n"
    assert (tmp_path / "etc/ssh/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="write ENVIRONMENT:NAME"):
        read_hostnames(["desk"], ["private"])
    with pytest.raises(InputError, match="--hostname private:a b"):
        read_hostnames(["private:a b"], ["private"])


def test_a_host_name_from_an_old_environment_is_no_pattern(tmp_path: Path) -> None:
    odd = {"etc/hostname": Belonging(b"a\\9\\g<name>\n", 0o644)}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("127.0.1.1 private\n")
    lay(new_persona(old=odd), tmp_path)
    assert (tmp_path / "etc/hosts").read_bytes() == b"127.0.1.1 a\\9\\g<name>\n"
