"""Do the tools that people use find on a written disk what the plan says, down to every file?"""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import TrustError
from builder.run import ProgramError
from builder.seat.inspect import Disk, VolumeFound, compare, inspect_disk, open_volume
from builder.seat.overlay import KEYFILE_SIZE, KEYFILES
from builder.volume import luks
from builder.volume.cipher import KEY_SIZE, SECTOR, Sectors
from builder.volume.keys import as_fd, wipe
from builder.volume.luks import HEADER_SIZE, unlock
from tests.integration.seat.conftest import WrittenDisk
from tests.support import lvm2
from tests.support.faults import copy_sparse
from tests.support.writtenseat import SECRETS, SeatBench, members_of

MIB = 1 << 20


def cut_out(written: WrittenDisk, start: int, size: int, path: Path) -> Path:
    with written.path.open("rb") as f, path.open("wb") as out:
        os.copy_file_range(f.fileno(), out.fileno(), size, start)
        out.truncate(size)
    return path


def test_sfdisk_reads_the_table_as_planned_and_finds_no_fault(
    seat_bench: SeatBench, written: WrittenDisk
) -> None:
    plan = seat_bench.plan()
    said = seat_bench.tools.run(["sfdisk", "--verify", written.path]).text
    assert "No errors detected" in said
    table = json.loads(seat_bench.tools.run(["sfdisk", "--json", written.path]).stdout)["partitiontable"]
    assert table["id"].lower() == plan.disk_id
    found = [(p["name"], p["start"] * 512, p["size"] * 512, p["uuid"].lower()) for p in table["partitions"]]
    assert found == [(p.name, p.start, p.size, str(p.id)) for p in (plan.esp, plan.pv)]


def test_lvm2_finds_no_fault_and_every_volume_where_the_plan_has_it(
    seat_bench: SeatBench, written: WrittenDisk
) -> None:
    plan = seat_bench.plan()
    found = lvm2.logical_volumes(seat_bench.tools, written.path, plan.pv.start, plan.pv.size)
    assert set(found) == {v.name for v in plan.volumes}
    for volume in plan.volumes:
        row = found[volume.name]
        last = volume.first_extent + volume.extents - 1
        assert row["lv_uuid"] == volume.id
        assert row["seg_pe_ranges"].endswith(f":{volume.first_extent}-{last}")
    with lvm2.loop_device(seat_bench.tools, written.path, plan.pv.start, plan.pv.size) as device:
        lvm2.lvm(seat_bench.tools, device, "pvck", device)
        (pv,) = json.loads(
            lvm2.lvm(
                seat_bench.tools,
                device,
                *("pvs", "--reportformat", "json", "--units", "b", "--nosuffix"),
                *("-o", "pe_start,pv_uuid,vg_uuid,vg_extent_size,vg_free_count"),
            )
        )["report"][0]["pv"]
    assert int(pv["pe_start"]) == plan.volumes[0].offset - plan.pv.start
    assert (pv["pv_uuid"], pv["vg_uuid"]) == (plan.group.pv_id, plan.group.id)
    assert int(pv["vg_free_count"]) == plan.free_extents > 0


def test_the_firmware_finds_loader_menu_and_kernel(
    seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    plan = seat_bench.plan()
    esp = cut_out(written, plan.esp.start, plan.esp.size, tmp_path / "esp")
    seat_bench.tools.run(["fsck.vfat", "-n", esp])
    uki = seat_bench.tools.run(["mtype", "-i", esp, "::/EFI/seatsmith/private.efi"]).stdout
    assert uki == seat_bench.project.dist.joinpath("private").glob("*.efi").__next__().read_bytes()
    boot = seat_bench.tools.run(["mtype", "-i", esp, "::/EFI/BOOT/BOOTX64.EFI"]).stdout
    assert boot[:2] == b"MZ"
    entry = seat_bench.tools.run(["mtype", "-i", esp, "::/loader/entries/seat-private.conf"]).text
    assert f"rd.luks.name={plan.volume('private').environment.luks_id}=root" in entry  # type: ignore[union-attr]


def test_swap_has_the_planned_signature(seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path) -> None:
    swap = seat_bench.plan().volume("swap")
    copy = cut_out(written, swap.offset, swap.size, tmp_path / "swap")
    said = seat_bench.tools.run(["blkid", "--probe", "-o", "export", copy]).text
    assert f"UUID={swap.swap_id}" in said
    assert "TYPE=swap" in said


@pytest.mark.parametrize("name", ["work", "private"])
def test_cryptsetup_opens_a_volume_by_its_passphrases_and_no_others(
    name: str, seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    volume = seat_bench.plan().volume(name)
    header = cut_out(written, volume.offset, HEADER_SIZE + MIB, tmp_path / "luks")

    def opens(secret: bytes | bytearray) -> bool:
        argv = ["cryptsetup", "open", "--test-passphrase", "--key-file"]
        with as_fd(secret) as fd:
            try:
                seat_bench.tools.run([*argv, f"/dev/fd/{fd}", os.fspath(header)], pass_fds=(fd,))
            except ProgramError as e:
                assert e.returncode == 2
                return False
        return True

    assert opens(SECRETS[name])
    assert not opens(SECRETS["work" if name == "private" else "private"])
    assert opens(written.report.recovery[name])
    assert not opens(written.report.recovery["work" if name == "private" else "private"])
    said = seat_bench.tools.run(["cryptsetup", "luksDump", header]).text
    assert str(volume.environment.luks_id) in said  # type: ignore[union-attr]
    assert "aes-xts-plain64" in said
    assert "systemd-recovery" in said


def test_the_hosts_root_has_a_key_that_opens_the_other_volume(
    seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    volume = seat_bench.plan().volume("work")
    header = cut_out(written, volume.offset, HEADER_SIZE + MIB, tmp_path / "luks")
    with Disk(written.path) as disk:
        host = seat_bench.filesystem(disk, "private", tmp_path)
        entry = next(e for e in host.walk() if e.path == f"{KEYFILES}/work.key")
        key = bytearray(host.data(entry))
    assert (entry.inode.mode & 0o777, entry.inode.uid, len(key)) == (0o600, 0, KEYFILE_SIZE)
    assert len(unlock(seat_bench.tools, header, key)) == KEY_SIZE
    with pytest.raises(TrustError):
        unlock(seat_bench.tools, header, bytearray(KEYFILE_SIZE))


@pytest.mark.parametrize("name", ["work", "private"])
def test_every_file_of_the_image_is_in_the_filesystem_and_e2fsck_finds_no_fault(
    name: str, seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    clear = decrypted(seat_bench, written.path, name, tmp_path)
    seat_bench.tools.run(["e2fsck", "-fn", clear])
    plan = seat_bench.plan()
    expected = members_of(seat_bench.materials(plan).images[name].tar)
    with Disk(written.path) as disk:
        filesystem = seat_bench.filesystem(disk, name, tmp_path)
        assert filesystem.size == plan.volume(name).environment.payload_size  # type: ignore[union-attr]
        found = {}
        for entry in filesystem.walk():
            inode = entry.inode
            text = filesystem.digest(inode) if entry.is_file else ""
            found[entry.path] = (inode.mode & 0o7777, inode.uid, inode.gid, inode.mtime, text)
    added = set(found) - set(expected) - {"lost+found"}
    assert {path: found.get(path) for path in expected} == expected
    assert all(f"{path}/".startswith(("etc/", "usr/", "var/", "home/")) for path in added)
    assert ("etc/fstab" in added) == (name == "private")
    assert any("work" in path for path in added) == (name == "private")  # the other's host bundle


def decrypted(bench: SeatBench, disk: Path, name: str, scratch: Path) -> Path:
    """The filesystem in the clear, for programs of its own."""
    environment = bench.plan().volume(name).environment
    assert environment is not None
    path = scratch / f"{name}.ext4"
    with Disk(disk) as opened:
        (found,) = (v for v in inspect_disk(opened, bench.tools).volumes if v.name == name)
        header = scratch / "header"
        header.write_bytes(opened.read(found.offset, HEADER_SIZE))
        key = unlock(bench.tools, header, bytearray(SECRETS[name]))
        sectors = Sectors(key)
        with path.open("wb") as out:
            for at in range(0, environment.payload_size, MIB):
                data = bytearray(opened.read(environment.payload + at, MIB))
                if not any(data):
                    continue
                holes = [n for n in range(0, len(data), SECTOR) if not any(data[n : n + SECTOR])]
                sectors.decrypt(data, len(data), at)
                for n in holes:  # never written
                    data[n : n + SECTOR] = bytes(SECTOR)
                os.pwrite(out.fileno(), data, at)
            out.truncate(environment.payload_size)
        wipe(key)
    return path


def test_two_disks_of_one_seat_differ_in_their_keys_alone(
    seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    other = tmp_path / "other.img"
    seat_bench.write(other)
    plan = seat_bench.plan()
    with written.path.open("rb") as a, other.open("rb") as b:
        outside = plan.volume("work").offset
        assert a.read(outside) == b.read(outside)
        first = plan.volume("work").environment
        assert first is not None
        (here, there) = (os.pread(f.fileno(), MIB, first.payload) for f in (a, b))
    assert here != there
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    clear = [
        decrypted(seat_bench, path, "work", tmp_path / n) for n, path in (("a", written.path), ("b", other))
    ]
    assert clear[0].read_bytes() == clear[1].read_bytes()


def test_ciphertext_is_what_cryptsetup_makes_of_the_same_under_the_same_key(
    seat_bench: SeatBench, tmp_path: Path
) -> None:
    clear = os.urandom(3 * MIB) + bytes(MIB) + os.urandom(4 * MIB)
    data, header = tmp_path / "data", tmp_path / "header"
    data.write_bytes(clear)
    secret = bytearray(b"correct horse")
    with as_fd(secret) as fd:
        argv: list[str | Path] = ["cryptsetup", "reencrypt", "-q", "--encrypt", "--type", "luks2"]
        argv += ["--cipher", luks.CIPHER, "--key-size", "512", "--sector-size", "4096", "--header", header]
        argv += ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", f"/dev/fd/{fd}"]
        seat_bench.tools.run([*argv, data], pass_fds=(fd,))
    key = unlock(seat_bench.tools, header, secret)
    ours = bytearray(clear)
    Sectors(key).encrypt(ours, len(ours), 0)
    assert data.read_bytes() == bytes(ours)


@pytest.mark.parametrize("name", ["work", "private"])
def test_a_written_volume_is_byte_for_byte_what_cryptsetup_makes_of_it_under_its_key(
    name: str, seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    """``cryptsetup reencrypt`` encrypts the volume's filesystem anew, under the key that is on the disk."""
    data, header = decrypted(seat_bench, written.path, name, tmp_path), tmp_path / "header"
    environment = seat_bench.plan().volume(name).environment
    assert environment is not None
    with as_fd(unlock(seat_bench.tools, header, bytearray(SECRETS[name]))) as key, as_fd(b"secret") as fd:
        argv: list[str | Path] = ["cryptsetup", "reencrypt", "-q", "--encrypt", "--type", "luks2"]
        argv += ["--cipher", luks.CIPHER, "--key-size", "512", "--sector-size", "4096"]
        argv += ["--header", tmp_path / "new", "--volume-key-file", f"/dev/fd/{key}"]
        argv += ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", f"/dev/fd/{fd}"]
        seat_bench.tools.run([*argv, data], pass_fds=(fd, key))
    compared = 0
    with data.open("rb") as theirs, Disk(written.path) as disk:
        for at in range(0, environment.payload_size, SECTOR):
            if any(sector := disk.read(environment.payload + at, SECTOR)):  # else never written
                assert sector == os.pread(theirs.fileno(), SECTOR, at), f"byte {at} of the payload"
                compared += SECTOR
    assert compared > 16 * MIB


def test_inspect_says_that_it_is_what_was_planned(seat_bench: SeatBench, written: WrittenDisk) -> None:
    with Disk(written.path) as disk:
        found = inspect_disk(disk, seat_bench.tools)
    assert found.seat == "tiny"
    compare(found, seat_bench.plan())
    assert found.problems == []


def with_slots(volume: VolumeFound, *slots: luks.Keyslot) -> VolumeFound:
    assert volume.header is not None
    return replace(volume, header=replace(volume.header, keyslots=slots))


def test_inspect_names_what_lvm2_or_cryptsetup_made_otherwise_than_planned(
    seat_bench: SeatBench, written: WrittenDisk
) -> None:
    """On a seat for persons, where the one that was written is for tests."""
    plan = replace(seat_bench.plan(), pbkdf=luks.Pbkdf.BENCHMARK)
    with Disk(written.path) as disk:
        found = inspect_disk(disk, seat_bench.tools)
    good = luks.Keyslot(0, "argon2id", 4, 1 << 20, None)
    random = luks.Keyslot(5, "pbkdf2", 1000, 0, "systemd-tpm2")
    assert found.group is not None
    found.group = replace(found.group, pv_id="x" * 38)
    by_name = {v.name: v for v in found.volumes}
    (cheap, recovery, keyfile) = by_name["work"].header.keyslots  # type: ignore[union-attr]
    by_name["work"] = replace(by_name["work"], contiguous=False)
    by_name["private"] = with_slots(by_name["private"], good, recovery, random, keyfile)
    found.volumes = list(by_name.values())
    compare(found, plan)
    assert found.problems == [
        f"physical volume's id: {'x' * 38}, planned: {plan.group.pv_id}",
        "volume work: in several pieces, planned: in one",
        "volume work, keyslot 0: a passphrase that is cheap to guess (argon2id, 4 rounds, 64 MiB), "
        "planned: argon2id at measured cost",
    ]
    assert cheap.weak


DAMAGE = {
    "a partition table": (512 + 60, "primary partition table's header is damaged"),
    "LVM metadata": (73 * MIB + 4096 + 600, "LVM metadata is damaged"),
    "a LUKS header": (90 * MIB + 0x1100, "first LUKS2 header is damaged"),
    "its copy": (90 * MIB + 0x4000 + 0x1100, "second LUKS2 header is damaged"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_inspect_names_damage(
    what: str, seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    at, message = DAMAGE[what]
    copy = tmp_path / "copy"
    copy_sparse(written.path, copy)
    with copy.open("r+b") as f:
        (was,) = os.pread(f.fileno(), 1, at)
        os.pwrite(f.fileno(), bytes([was ^ 1]), at)
    with Disk(copy) as disk:
        found = inspect_disk(disk, seat_bench.tools)
        compare(found, seat_bench.plan())
    assert any(message in problem for problem in found.problems), found.problems


MENU = {
    "a command line": (b"single root=/dev/mapper/root init=/bin/sh\n", "loader/entries/seat-private.conf"),
    "another default": (b"default evil.conf\n", "loader/loader.conf"),
    "an entry more": (b"title evil\n", "loader/entries/evil.conf"),
}


@pytest.mark.parametrize("what", MENU)
def test_inspect_names_a_boot_menu_that_is_not_as_planned(
    what: str, seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    text, name = MENU[what]
    copy, start = tmp_path / "copy", seat_bench.plan().esp.start
    copy_sparse(written.path, copy)
    seat_bench.tools.run(["mcopy", "-o", "-i", f"{copy}@@{start}", "-", f"::/{name}"], stdin=text)
    with Disk(copy) as disk:
        found = inspect_disk(disk, seat_bench.tools)
        compare(found, seat_bench.plan())
    assert [problem for problem in found.problems if name in problem] == found.problems != []


def test_a_wrong_passphrase_opens_nothing(
    seat_bench: SeatBench, written: WrittenDisk, tmp_path: Path
) -> None:
    with Disk(written.path) as disk:
        volume = next(v for v in inspect_disk(disk, seat_bench.tools).volumes if v.name == "work")
        with pytest.raises(TrustError, match="no keyslot opens with this passphrase"):
            open_volume(disk, volume, bytearray(b"wrong horse"), seat_bench.tools, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_takes_as_much_room_as_was_written(written: WrittenDisk) -> None:
    allocated = written.path.stat().st_blocks * 512
    assert written.report.written <= allocated + MIB
    assert allocated < 200 * MIB < written.path.stat().st_size
    said = subprocess.run(["du", "-k", written.path], capture_output=True, check=True).stdout
    assert int(said.split()[0]) * 1024 == allocated
