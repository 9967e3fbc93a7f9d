"""Is every archive refused that could reach outside of where it is unpacked, or fill the machine?"""

import io
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import TrustError
from builder.publish.safetar import check_archive
from builder.publish.tarstream import Limits
from tests.support.results import bomb, entry, pack, tree

LINK, HARD, CHAR, BLOCK, FIFO = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
)
DIRECTORY = tarfile.DIRTYPE


def archive(place: Path, data: bytes) -> Path:
    path = place / "image.tar.zst"
    path.write_bytes(data)
    return path


def test_a_plain_root_filesystem_is_harmless(tmp_path: Path) -> None:
    data = pack(
        entry("./usr", DIRECTORY, mode=0o755),
        entry("./usr/bin", DIRECTORY, mode=0o755),
        entry("./usr/bin/su", mode=0o4755),
        entry("./usr/bin/login", HARD, target="./usr/bin/su"),
        entry("./bin", LINK, target="usr/bin"),
        entry("./etc/localtime", LINK, target="../usr/share/zoneinfo/UTC"),
        entry("./etc/resolv.conf", LINK, target="/run/systemd/resolve/stub-resolv.conf"),
    )
    assert check_archive(archive(tmp_path, data)).files == 7


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([entry("/etc/passwd")], "an absolute path"),
        ([entry("../etc/passwd")], "a path with '..'"),
        ([entry("./usr/../../etc/passwd")], "a path with '..'"),
        ([entry("./a\nb")], "a control character"),
        ([entry("./etc", LINK, target="/etc"), entry("./etc/passwd")], "lies below a symlink"),
        ([entry("./a", LINK, target="../../etc")], "a symbolic link out of the tree"),
        ([entry("./a/b", LINK, target="../../etc")], "a symbolic link out of the tree"),
        ([entry("./a", LINK, target="b/../../c")], "a symbolic link out of the tree"),
        ([entry("./", LINK, target="etc")], "with the name of a directory"),
        ([entry("./a", HARD, target="/etc/shadow")], "which is no earlier file"),
        ([entry("./a", HARD, target="../etc/shadow")], "which is no earlier file"),
        ([entry("./l", LINK, target="/etc/shadow"), entry("./a", HARD, target="./l")], "no earlier file"),
        ([entry("./f"), entry("./f", LINK, target="/etc/passwd")], "replaces an earlier one"),
        ([entry("./f"), entry("./f")], "replaces an earlier one"),
        ([entry("./d", DIRECTORY), entry("./d", LINK, target="/etc")], "replaces an earlier one"),
        ([entry("./d", LINK, target="/etc"), entry("./d", DIRECTORY)], "replaces an earlier one"),
        ([entry("./f"), entry("./f/x")], "lies below a file"),
        ([entry("./mem", CHAR)], "a character device"),
        ([entry("./sda", BLOCK)], "a block device"),
        ([entry("./pipe", FIFO)], "a fifo"),
        ([entry("./odd", b"Z")], "a header of type b'Z'"),
    ],
)
def test_an_entry_that_reaches_outside_is_refused(
    tmp_path: Path, members: list[tarfile.TarInfo], said: str
) -> None:
    with pytest.raises(TrustError, match=said.replace("(", r"\(")):
        check_archive(archive(tmp_path, pack(*members)))


def owned(name: str, uid: int) -> tarfile.TarInfo:
    made = entry(name)
    made.uid = uid
    return made


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (entry("./root/.ssh/authorized_keys"), "only bring files below etc and usr"),
        (entry("./usr/bin/x", mode=0o4755), "special rights"),
        (entry("./etc/x", mode=0o666), "everybody may write"),
        (owned("./etc/x", 1000), "of user 1000"),
        (entry("./etc/x", LINK, target="/home/user/x"), "a symbolic link to '/home/user/x'"),
    ],
)
def test_a_host_bundle_may_do_less(tmp_path: Path, member: tarfile.TarInfo, said: str) -> None:
    path = archive(tmp_path, pack(member))
    with pytest.raises(TrustError, match=said):
        check_archive(path, bundle=True)


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused_early(tmp_path: Path) -> None:
    """No more than the limit of 64 MiB and a little is unpacked."""
    data = bomb()
    assert len(data) < 100_000
    with pytest.raises(TrustError, match="no plausible image"):
        check_archive(archive(tmp_path, data))


def test_an_archive_of_more_than_its_limit_is_refused_by_its_headers(tmp_path: Path) -> None:
    member = entry("./sparse")
    member.size = 1 << 40
    data = zstandard.compress(member.tobuf(tarfile.PAX_FORMAT))
    with pytest.raises(TrustError, match="more than the limit"):
        check_archive(archive(tmp_path, data))


def test_an_archive_of_too_many_entries_is_refused(tmp_path: Path) -> None:
    data = tree(*(f"./{n}" for n in range(20)))
    with pytest.raises(TrustError, match="more than the limit"):
        check_archive(archive(tmp_path, data), limits=Limits(members=10))


def test_a_second_frame_cannot_hide_entries_from_the_check(tmp_path: Path) -> None:
    """zstd(1) unpacks all frames, one after the other; so must the check."""
    plain = zstandard.decompress(tree("./etc/os-release"), max_output_size=1 << 20)
    evil = zstandard.decompress(tree("../evil"), max_output_size=1 << 20)
    cut = 1024  # the first entry
    data = zstandard.compress(plain[:cut]) + zstandard.compress(evil)
    with pytest.raises(TrustError, match=r"\.\./evil"):
        check_archive(archive(tmp_path, data))
    data = zstandard.compress(plain) + zstandard.compress(evil)
    with pytest.raises(TrustError, match="follows the end"):
        check_archive(archive(tmp_path, data))


def test_a_frame_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    settings = zstandard.ZstdCompressionParameters(window_log=30, compression_level=1)
    packer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    with pytest.raises(TrustError, match="not a whole archive"):
        check_archive(archive(tmp_path, packer.compress(bytes(1 << 20)) + packer.flush()))


@pytest.mark.parametrize("data", [b"", b"hello", zstandard.compress(b""), zstandard.compress(b"x" * 600)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(TrustError):
        check_archive(archive(tmp_path, data))


def test_an_archive_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = tree("./a", "./b", "./c")
    for length in range(0, len(whole) - 1, 7):
        with pytest.raises(TrustError):
            check_archive(archive(tmp_path, whole[:length]))


NAMES = st.lists(st.sampled_from(["a", "b", "..", ".", "", "etc"]), min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, LINK, HARD, DIRECTORY, CHAR, FIFO])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAMES, KINDS, NAMES), min_size=1, max_size=5))
def test_what_passes_stays_inside_when_it_is_unpacked(
    tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    """Checked against tarfile's own filter, which is another's opinion of what leads outside."""
    data = pack(*(entry(name, kind, target=target) for name, kind, target in members))
    try:
        check_archive(archive(tmp_path, data))
    except TrustError:
        return
    with tarfile.open(fileobj=io.BytesIO(zstandard.decompress(data, max_output_size=1 << 20))) as tar:
        for member in tar:
            if not (member.issym() and member.linkname.startswith("/")):
                tarfile.data_filter(member, "/somewhere")
