"""Is a binhost's index read exactly, and is a gpkg under another's name refused?"""

import io
import tarfile
import tempfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.distro.gentoo.index import check_inner_name, parse_index, split_cpv
from builder.distro.gentoo.releases import signed_digest
from builder.distro.gentoo.resolve import Plan, chosen
from builder.errors import InputError, SeatsmithError, TrustError

HEAD = "ARCH: amd64\nPACKAGES: 2\nTIMESTAMP: 1795305600\nVERSION: 0"
SED = {
    "BUILD_ID": "1",
    "CPV": "sys-apps/sed-4.9-r2",
    "PATH": "sys-apps/sed/sed-4.9-r2-1.gpkg.tar",
    "SHA1": "ab" * 20,
    "SIZE": "225280",
    "RDEPEND": "sys-libs/glibc",
}
GREP = SED | {"CPV": "sys-apps/grep-3.11", "PATH": "sys-apps/grep/grep-3.11-1.gpkg.tar"}


def index_text(*packages: dict[str, str], head: str = HEAD) -> bytes:
    parts = ["\n".join(f"{key}: {value}" for key, value in p.items()) for p in packages]
    return ("\n\n".join([head, *parts]) + "\n\n").encode()


def gpkg(path: Path, metadata: dict[str, str], *, member: str = "metadata.tar.zst") -> Path:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        for name, text in metadata.items():
            info = tarfile.TarInfo(f"metadata/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    data = zstandard.compress(inner.getvalue()) if member.endswith(".zst") else inner.getvalue()
    with tarfile.open(path, "w") as tar:
        for name, content in (("x-1/gpkg-1", b""), (f"x-1/{member}", data)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_every_package_is_found_by_its_version_and_build() -> None:
    index = parse_index(index_text(SED, GREP), "Packages")
    assert index.timestamp == 1795305600
    found = index.find("sys-apps/sed-4.9-r2", "1")
    assert found is not None
    assert (found.cp, found.version, found.size) == ("sys-apps/sed", "4.9-r2", 225280)
    assert index.find("sys-apps/sed-4.9-r2", "2") is None


def test_an_index_of_some_packages_reads_back_as_just_those() -> None:
    index = parse_index(index_text(SED, GREP), "Packages")
    part = parse_index(index.only({GREP["PATH"]}).encode(), "part")
    assert [p.cpv for p in part.packages] == ["sys-apps/grep-3.11"]
    assert part.timestamp == index.timestamp


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "not an index"),
        (index_text(SED, head="ARCH: amd64"), "TIMESTAMP"),
        (index_text(SED | {"PATH": "../../etc/passwd"}), "not a plain relative path"),
        (index_text(SED | {"PATH": "/etc/passwd"}), "not a plain relative path"),
        (index_text(SED | {"SIZE": "-1"}), "no SIZE"),
        (index_text(SED | {"SHA1": "ab"}), "no SHA1"),
        (index_text(SED | {"CPV": "sed"}), "not a package"),
        (index_text(SED | {"BUILD_ID": "1; rm"}), "no BUILD_ID"),
        (index_text(SED, SED), "a path twice"),
        (index_text(SED) + b"no colon here\n", "not a line of an index"),
    ],
)
def test_a_misleading_index_is_refused_with_one_line(data: bytes, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_index(data, "Packages")
    assert said in caught.value.message
    assert "\n" not in caught.value.message


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_an_index_or_are_refused(data: bytes) -> None:
    for text in (data, HEAD.encode() + b"\n\n" + data):
        try:
            parse_index(text, "Packages")
        except SeatsmithError as e:
            assert e.message


@pytest.mark.parametrize(
    ("cpv", "cp", "version"),
    [
        ("x11-libs/gtk+-3.24.49", "x11-libs/gtk+", "3.24.49"),
        ("sys-libs/ncurses-6.5_p20250216-r2", "sys-libs/ncurses", "6.5_p20250216-r2"),
        ("dev-lang/python-exec-2.4.10", "dev-lang/python-exec", "2.4.10"),
        ("app-crypt/tpm2-tss-4.1.3", "app-crypt/tpm2-tss", "4.1.3"),
        ("media-libs/libpng-1.6.48_rc1", "media-libs/libpng", "1.6.48_rc1"),
    ],
)
def test_name_and_version_are_parted_where_portage_parts_them(cpv: str, cp: str, version: str) -> None:
    assert split_cpv(cpv) == (cp, version)


def test_a_package_under_another_name_is_refused(tmp_path: Path) -> None:
    path = gpkg(tmp_path / "sed.gpkg.tar", {"CATEGORY": "sys-apps\n", "PF": "sed-4.9-r2\n"})
    check_inner_name(path, "sys-apps/sed-4.9-r2")
    with pytest.raises(TrustError, match=r"said to be app-admin/sudo-1.9 and is sys-apps/sed-4.9-r2"):
        check_inner_name(path, "app-admin/sudo-1.9")


def test_a_package_that_names_itself_twice_is_refused(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        for name in ("sed-4.9", "sudo-1.9"):
            info = tarfile.TarInfo("metadata/PF")
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    path = tmp_path / "twice.gpkg.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("x-1/metadata.tar")
        info.size = len(inner.getvalue())
        tar.addfile(info, io.BytesIO(inner.getvalue()))
    with pytest.raises(TrustError, match="twice"):
        check_inner_name(path, "sys-apps/sed-4.9")


@given(st.binary(max_size=2000))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_refused_as_a_package(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "fuzz.gpkg.tar"
        path.write_bytes(data)
        with pytest.raises(TrustError):
            check_inner_name(path, "sys-apps/sed-4.9")


def test_only_one_digest_of_the_right_kind_and_file_counts() -> None:
    good, other = "ab" * 64, "cd" * 64
    text = (
        f"# BLAKE2B HASH\n{other}  stage3.tar.xz\n"
        f"# SHA512 HASH\n{good}  stage3.tar.xz\n{other}  stage3.tar.xz.CONTENTS.gz\n"
    )
    assert signed_digest(text, "stage3.tar.xz") == good
    with pytest.raises(TrustError, match="2 SHA512"):
        signed_digest(f"{text}{other}  stage3.tar.xz\n", "stage3.tar.xz")
    with pytest.raises(TrustError, match="0 SHA512"):
        signed_digest(text, "stage4.tar.xz")


def test_what_emerge_chose_must_be_in_the_index() -> None:
    index = parse_index(index_text(SED, GREP), "Packages")
    sed, grep = ("sys-apps/sed-4.9-r2", "1"), ("sys-apps/grep-3.11", "1")
    plans = [Plan(frozenset({sed})), Plan(frozenset({sed, grep}))]
    assert [b.cp for b in chosen(index, plans)] == ["sys-apps/grep", "sys-apps/sed"]
    with pytest.raises(TrustError, match="does not have"):
        chosen(index, [Plan(frozenset({("sys-apps/sed-5.0", "1")}))])
