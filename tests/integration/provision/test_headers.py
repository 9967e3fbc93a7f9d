"""Can a damaged LUKS2 header be put back, and does its backup give nothing away?"""

import stat
from pathlib import Path

import pytest

from builder.errors import InputError, TrustError
from builder.provision import headers
from builder.provision.forecast import environment_rows
from builder.volume import luks
from builder.volume.keys import recovery_key
from builder.volume.luks import SECOND_HEADER
from tests.support.provisioned import Bench
from tests.support.tinyseat import PASSPHRASE


def damage(bench: Bench, name: str) -> None:
    """Overwrite the whole header area, keyslots included."""
    with bench.opened() as disk:
        disk.medium.write(disk.offset(name), b"\xff" * (16 << 20))
        disk.medium.sync()
        assert disk.header(name) is None


def save(bench: Bench, name: str, path: Path, secret: bytes) -> bytes:
    with bench.opened() as disk:
        headers.save(path, headers.seal(disk, name, bytearray(secret)))
        return headers.header_bytes(disk, name)


def restore(bench: Bench, name: str, path: Path, secret: bytes) -> None:
    with bench.opened() as disk:
        headers.restore(disk, name, headers.load(path), bytearray(secret))


def test_a_damaged_header_is_put_back_and_the_volume_opens_again(bench: Bench, tmp_path: Path) -> None:
    before, backup = bench.contents("work"), tmp_path / "work.header"
    save(bench, "work", backup, PASSPHRASE)
    damage(bench, "work")
    with pytest.raises(InputError, match="volume work: this is not a LUKS2 volume"):
        bench.contents("work")
    with bench.opened() as disk:
        rows = {row["name"]: row["damaged"] for row in environment_rows(disk, {})}
    assert rows == {"work": "this is not a LUKS2 volume (first header missing)", "private": None}
    restore(bench, "work", backup, PASSPHRASE)
    assert bench.contents("work") == before


def test_a_header_whose_copies_differ_is_told_as_that_and_cryptsetup_makes_them_one(
    bench: Bench, tmp_path: Path
) -> None:
    """As where the power goes while a device is enrolled."""
    header, secret = tmp_path / "header", tmp_path / "secret"
    secret.write_bytes(PASSPHRASE)
    with bench.opened() as disk:
        header.write_bytes(headers.header_bytes(disk, "work"))
        cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
        add = ["cryptsetup", "luksAddKey", "-q", "--key-file", secret, *cheap, header, secret]
        bench.tools.run(add)
        later = header.read_bytes()
        disk.medium.write(disk.offset("work") + 2 * SECOND_HEADER, later[2 * SECOND_HEADER :])
        disk.medium.write(disk.offset("work") + SECOND_HEADER, later[SECOND_HEADER : 2 * SECOND_HEADER])
        header.write_bytes(disk.volume_reader("work")(0, len(later)))
        with pytest.raises(InputError, match="volume work: the two copies") as caught:
            disk.whole_header("work")
        assert "start the environment once" in (caught.value.hint or "")
    bench.tools.run(["cryptsetup", "luksDump", header])
    data = header.read_bytes()
    assert len(luks.read_header(headers.reader(data)).keyslots) == 2


def test_a_backup_is_for_its_owner_alone_and_holds_no_part_of_the_header(
    bench: Bench, tmp_path: Path
) -> None:
    backup, key = tmp_path / "work.header", bytes(recovery_key())
    header = save(bench, "work", backup, key)
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    data = backup.read_bytes()
    assert b"LUKS\xba\xbe" not in data
    assert header[4096:4128] not in data
    with pytest.raises(InputError, match="File exists"):
        headers.save(backup, b"")
    with pytest.raises(TrustError, match="does not open"):
        restore(bench, "work", backup, PASSPHRASE)
    damage(bench, "work")
    restore(bench, "work", backup, key)
    assert bench.contents("work")


def test_a_backup_that_was_changed_or_is_of_another_volume_is_refused(bench: Bench, tmp_path: Path) -> None:
    backup = tmp_path / "header"
    save(bench, "work", backup, PASSPHRASE)
    whole = backup.read_bytes()
    for changed in (whole[:-1], whole[:5000] + b"\0\0" + whole[5002:], whole.replace(b'"work"', b'"kwor"')):
        backup.write_bytes(changed)
        with pytest.raises(TrustError, match="does not open"):
            restore(bench, "work", backup, PASSPHRASE)
    for nothing in (b"", b"LUKS", whole.replace(b"131072", b"9999999999"), headers.MAGIC + b"[]\n"):
        backup.write_bytes(nothing)
        with pytest.raises(InputError, match="no backup"):
            restore(bench, "work", backup, PASSPHRASE)
    backup.write_bytes(whole)
    with pytest.raises(TrustError, match="another volume"):
        restore(bench, "private", backup, PASSPHRASE)
    bench.replace("work", bench.new_image("work", "2"))
    with pytest.raises(TrustError, match="another volume"):
        restore(bench, "work", backup, PASSPHRASE)
