"""Do our byte formats read back as written, notice damage, and agree with other implementations?"""

import os
import random
import struct
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.volume import ext4, ext4inode, ext4xattr, gpt, lvm, lvmtext
from builder.volume.cipher import KEY_SIZE
from builder.volume.keys import MODHEX, as_fd, recovery_key, volume_key, wipe
from builder.volume.read import Read
from tests.support.attributes import extended_attributes

MIB = 1 << 20
PV_ID = "abcdef-0123-4567-89ab-cdef-0123-456789"
VG_ID = "fedcba-3210-7654-ba98-fedc-3210-987654"


def reader(image: bytes, base: int = 0) -> Read:
    return lambda offset, length: image[base + offset : base + offset + length]


# Partition tables


def table_bytes(table: gpt.Table) -> bytearray:
    image = bytearray(table.disk_size)
    for offset, data in gpt.encode(table):
        image[offset : offset + len(data)] = data
    return image


@st.composite
def tables(draw: st.DrawFn) -> gpt.Table:
    sector = draw(st.sampled_from([512, 4096]))
    size = draw(st.integers(4, 12)) * MIB + draw(st.integers(0, 200)) * sector
    at, parts = MIB, []
    for n in range(draw(st.integers(0, 4))):
        length = draw(st.integers(1, 60)) * 4096
        if at + length > gpt.usable(size)[1]:
            break
        name = draw(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=18))
        parts.append(gpt.Partition(name, gpt.LINUX_LVM, UUID(int=n + 1), at, length))
        at += length
    return gpt.Table(draw(st.uuids(version=4)), size, tuple(parts), sector)


@settings(max_examples=60, deadline=None)
@given(tables())
def test_a_partition_table_reads_back_as_it_was_written(table: gpt.Table) -> None:
    assert gpt.decode(reader(bytes(table_bytes(table))), table.disk_size) == table


TABLE = gpt.Table(UUID(int=9), 8 * MIB, (gpt.Partition("esp", gpt.ESP, UUID(int=1), MIB, MIB),))


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (0x1FE, "protective MBR is missing"),
        (512 + 24, "primary partition table's header is damaged"),
        (1024 + 40, "primary partition table's entries are damaged"),
        (8 * MIB - 512 + 56, "backup partition table's header is damaged"),
        (8 * MIB - 33 * 512, "backup partition table's entries are damaged"),
    ],
)
def test_a_flipped_bit_in_a_partition_table_is_told_with_its_copy(at: int, message: str) -> None:
    image = table_bytes(TABLE)
    image[at] ^= 1
    with pytest.raises(InputError, match=message):
        gpt.decode(reader(bytes(image)), TABLE.disk_size)


def test_a_truncated_disk_is_told_with_both_sizes() -> None:
    image = bytes(table_bytes(TABLE))[: 5 * MIB]
    with pytest.raises(InputError, match="of a disk of 8388608 bytes; this one has 5242880"):
        gpt.decode(reader(image), 5 * MIB)


def test_copies_of_two_different_tables_are_refused() -> None:
    image, other = table_bytes(TABLE), table_bytes(replace(TABLE, disk_id=UUID(int=10)))
    image[-33 * 512 :] = other[-33 * 512 :]
    with pytest.raises(InputError, match="two copies of the partition table differ"):
        gpt.decode(reader(bytes(image)), TABLE.disk_size)


def test_no_prefix_of_the_writes_of_a_table_is_a_whole_one() -> None:
    image = bytearray(TABLE.disk_size)
    for offset, data in gpt.encode(TABLE):
        with pytest.raises(InputError):
            gpt.decode(reader(bytes(image)), TABLE.disk_size)
        image[offset : offset + len(data)] = data
    gpt.decode(reader(bytes(image)), TABLE.disk_size)


@settings(max_examples=200, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_damage_of_a_partition_table_never_gets_past_as_another_error(chance: random.Random) -> None:
    image = table_bytes(TABLE)
    for _ in range(chance.randint(1, 30)):
        image[chance.choice((chance.randrange(34 * 512), -1 - chance.randrange(33 * 512)))] = (
            chance.randrange(256)
        )
    try:
        found = gpt.decode(reader(bytes(image)), TABLE.disk_size)
    except InputError:
        return
    assert found == TABLE  # the damage was outside of what the checksums cover, or wrote what was there


# LVM2

NAMES = st.from_regex(r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]{0,20}", fullmatch=True).filter(
    lambda name: lvm.name_problem(name, group="vg") is None
)


@st.composite
def groups(draw: st.DrawFn) -> lvm.VolumeGroup:
    volumes, at = [], 0
    for n, name in enumerate(draw(st.lists(NAMES, max_size=6, unique=True))):
        segments = []
        for _ in range(draw(st.integers(1, 3))):
            at += draw(st.integers(0, 5))
            count = draw(st.integers(1, 50_000))
            segments.append(lvm.Segment(at, count))
            at += count
        tags = tuple(
            draw(st.lists(st.from_regex(r"[a-z0-9=.]{1,12}", fullmatch=True), max_size=2, unique=True))
        )
        volumes.append(lvm.LogicalVolume(name, VG_ID[:-1] + str(n), tuple(segments), tags))
    size = lvm.FIRST_EXTENT + (at + draw(st.integers(1, 100))) * lvm.EXTENT
    return lvm.VolumeGroup(
        draw(NAMES), VG_ID, PV_ID, size, tuple(volumes), created=1700000000, seqno=draw(st.integers(1, 999))
    )


def pv_bytes(group: lvm.VolumeGroup) -> bytearray:
    image = bytearray(lvm.FIRST_EXTENT)
    label = lvm.encode_label(group)
    image[lvm.LABEL_AT : lvm.LABEL_AT + len(label)] = label
    image[lvm.AREA_AT :] = lvm.encode_metadata(group)
    return image


@settings(max_examples=100, deadline=None)
@given(groups())
def test_a_volume_group_reads_back_as_it_was_written(group: lvm.VolumeGroup) -> None:
    assert lvm.decode(reader(bytes(pv_bytes(group)))) == group


GROUP = lvm.VolumeGroup(
    "vg", VG_ID, PV_ID, 1 << 30, (lvm.LogicalVolume("a", VG_ID[:-1] + "x", (lvm.Segment(0, 5),)),)
)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (lvm.LABEL_AT, "not an LVM2 physical volume"),
        (lvm.LABEL_AT + 40, "label is damaged"),
        (lvm.AREA_AT + 30, "metadata area's header is damaged"),
        (lvm.AREA_AT + 512 + 20, "metadata is damaged"),
    ],
)
def test_a_flipped_bit_in_a_physical_volume_is_told(at: int, message: str) -> None:
    image = pv_bytes(GROUP)
    image[at] ^= 1
    with pytest.raises(InputError, match=message):
        lvm.decode(reader(bytes(image)))


PLAIN = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
VALUES = st.recursive(
    st.integers(-(10**9), 10**12) | PLAIN, lambda inner: st.lists(inner, max_size=4), max_leaves=8
)
KEYS = st.from_regex(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,12}", fullmatch=True)
SECTIONS = st.dictionaries(KEYS, VALUES, max_size=4)
DOCUMENTS = st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES | SECTIONS, max_size=4), max_size=4)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS)
def test_lvm_text_reads_back_as_it_was_written(document: dict[str, object]) -> None:
    assert lvmtext.parse(lvmtext.dump(document)) == document


@settings(max_examples=300, deadline=None)
@given(st.text('ab={}[],"\\ \n\t1.-#', max_size=40))
def test_no_text_makes_the_parser_fail_otherwise_than_by_saying_so(text: str) -> None:
    try:
        lvmtext.parse(text)
    except InputError as e:
        assert e.message.startswith("LVM metadata")


@pytest.mark.parametrize(
    "name", ["", "-a", ".", "..", "a b", "a/b", "snapshot1", "pvmove0", "x_tdata", "ä", "y" * 128]
)
def test_a_name_that_lvm2_refuses_is_refused(name: str) -> None:
    assert lvm.name_problem(name, group="vg")


def test_hyphens_are_doubled_in_mapper_names_and_count_for_their_length() -> None:
    assert lvm.mapper_name("v-g", "a-b") == "v--g-a--b"
    assert lvm.name_problem("-".join("a" * 62), group="vg")


# Keys


def test_a_volume_key_is_random_and_zeroed_afterwards() -> None:
    with volume_key() as key, volume_key() as other:
        assert len(key) == KEY_SIZE
        assert key != other
    assert key == bytearray(KEY_SIZE)


def test_a_secret_is_handed_on_by_an_anonymous_file_that_ends() -> None:
    secret = bytearray(b"correct horse")
    with as_fd(secret) as fd:
        assert "memfd:secret" in str(Path(f"/proc/self/fd/{fd}").readlink())
        assert os.read(fd, 100) == b"correct horse"
        assert not os.get_inheritable(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    wipe(secret)
    assert not any(secret)


def test_a_recovery_key_has_256_bits_in_letters_of_every_keyboard() -> None:
    key, other = recovery_key().decode(), recovery_key().decode()
    groups = key.split("-")
    assert [len(g) for g in groups] == [8] * 8
    assert set("".join(groups)) <= set(MODHEX)
    assert key != other


# ext4

DUMP = """\
Block count:              2000
Inodes per group:         64
Inode size:               256

Group 0: (Blocks 0-999) csum 0x1 [ITABLE_ZEROED]
  Primary superblock at 0, Group descriptors at 1-1
  Inode table at 10-13 (+10)
  800 free blocks, 30 free inodes, 2 directories, 16 unused inodes
  Free blocks: 200-998, 999
  Free inodes: 35-64
Group 1: (Blocks 1000-1999) csum 0x2 [INODE_UNINIT]
  Inode table at 14-17 (bg #0 + 14)
  1000 free blocks, 64 free inodes, 0 directories, 64 unused inodes
  Free blocks: 1000-1999
  Free inodes: 65-128
"""


def test_used_ranges_leave_out_free_blocks_and_unused_inode_tables() -> None:
    assert list(ext4.parse_used(DUMP)) == [(0, 13 * 4096), (18 * 4096, 200 * 4096)]


@pytest.mark.parametrize(
    ("size", "mib"), [(256 * MIB, 16), (5 << 30, 64), (60 << 30, 128), (230 << 30, 256)]
)
def test_the_journal_grows_with_the_filesystem_up_to_256_mib(size: int, mib: int) -> None:
    assert ext4.journal_size(size) == mib


def test_an_inode_tells_its_attributes_its_time_and_its_device_number() -> None:
    raw = bytearray(256)
    raw[0x10:0x14] = struct.pack("<i", -1)  # with a bit of the extra field: after 2038
    raw[0x88:0x8C] = struct.pack("<I", 7 << 2 | 1)
    raw[0x28:0x30] = struct.pack("<II", 0, 259 << 8 | 5)
    raw[0x80:0x82] = struct.pack("<H", 32)
    acl = struct.pack("<IHHHHI", 1, 0x01, 7, 0x02, 6, 1000)  # user::rwx, user:1000:rw-
    entries = struct.pack("<IBBHIII4s", 0xEA020000, 4, 1, 64, 0, 3, 0, b"note")
    entries += struct.pack("<BBHIII", 0, 2, 68, 0, len(acl), 0)
    raw[160 : 160 + len(entries)] = entries
    raw[164 + 64 : 164 + 64 + 3] = b"yes"
    raw[164 + 68 : 164 + 68 + len(acl)] = acl
    assert ext4inode.modified(bytes(raw)) == ((1 << 32) - 1, 7)
    assert ext4inode.device_number(bytes(raw)) == (259, 5)
    assert ext4xattr.attribute_block(bytes(raw)) == 0
    found = extended_attributes(bytes(raw), lambda number: b"")
    assert found == {
        "user.note": b"yes",
        "system.posix_acl_access": struct.pack("<IHHIHHI", 2, 0x01, 7, 0xFFFFFFFF, 0x02, 6, 1000),
    }
    with pytest.raises(InputError, match="'note' is stored in a way that is not read here"):
        list(ext4xattr.parse(entries[4:], 0))
