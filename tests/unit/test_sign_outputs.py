"""Do manifest, SBOM, provenance and checksums say what is there, in the same bytes for the same image?"""

import hashlib
import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InputError, TrustError
from builder.outputs.checksums import parse_checksums, published_names, write_checksums
from builder.outputs.provenance import GitState, git_state
from builder.outputs.record import Input, Package, package_url, role_of
from builder.outputs.sbom import write_sbom, write_spdx
from builder.outputs.verify import verify_directory
from tests.support.results import package, record, write_result


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_the_same_image_is_described_by_the_same_bytes(tmp_path: Path) -> None:
    packages = [package(name) for name in ("zsh", "bash", "i3-wm")]
    write_result(tmp_path / "a", record(packages=packages))
    write_result(tmp_path / "b", record(packages=packages[::-1]))
    names = published_names(tmp_path / "a")
    assert len(names) == 7
    for name in [*names, "SHA256SUMS"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_manifest_names_every_file_and_package_with_its_digest(tmp_path: Path) -> None:
    write_result(tmp_path, image=b"xyz")
    manifest = read(tmp_path / "manifest.json")
    files = {f["role"]: f for f in manifest["files"]}
    assert files["image"] == {
        "name": "work_2026.11.01_x86-64.tar.zst",
        "role": "image",
        "size": 3,
        "sha256": hashlib.sha256(b"xyz").hexdigest(),
    }
    assert set(files) == {"image", "host-bundle"}
    assert [p["name"] for p in manifest["packages"]] == ["bash", "i3-wm"]
    assert manifest["created"] == "2026-11-01T00:00:00+00:00"
    assert manifest["tools"]["mkosi"] == "25.3-1"


def test_checksums_are_what_sha256sum_accepts(tmp_path: Path) -> None:
    write_result(tmp_path)
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path, capture_output=True
    )
    assert checked.returncode == 0, checked.stderr
    # systemd looks for exactly "DIGEST *NAME\n" first (pull-common.c, verify_one)
    for line in (tmp_path / "SHA256SUMS").read_text().splitlines(keepends=True):
        assert re.fullmatch(r"[0-9a-f]{64} \*[A-Za-z0-9._-]+\n", line)


def test_new_checksums_remove_a_signature_that_cannot_fit(tmp_path: Path) -> None:
    write_result(tmp_path)
    (tmp_path / "SHA256SUMS.gpg").write_bytes(b"old")
    write_checksums(tmp_path)
    assert not (tmp_path / "SHA256SUMS.gpg").exists()


@pytest.mark.parametrize("name", ["a b", "-rf", ".hidden", "a\nb", "ü"])
def test_a_file_whose_name_cannot_be_listed_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match="cannot be listed"):
        write_checksums(tmp_path)


@pytest.mark.parametrize("bad", ["directory", "link"])
def test_what_is_no_plain_file_cannot_be_vouched_for(tmp_path: Path, bad: str) -> None:
    place = tmp_path / "thing"
    place.mkdir() if bad == "directory" else place.symlink_to("/etc/passwd")
    with pytest.raises(TrustError, match="not a plain file"):
        write_checksums(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "0" * 64 + " *../../etc/passwd\n",
        "0" * 64 + " */etc/passwd\n",
        "0" * 63 + " *a\n",
        "0" * 64 + " *a\n" + "1" * 64 + " *a\n",
        "\\" + "0" * 64 + " *a\n",
        "hello\n",
        "0" * 64 + " *ü\n",
    ],
)
def test_checksums_with_anything_unusual_are_refused(text: str) -> None:
    with pytest.raises(TrustError):
        parse_checksums(text.encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    try:
        found = parse_checksums(data)
    except TrustError:
        return
    assert all("/" not in name and len(digest) == 64 for name, digest in found.items())


def test_cyclonedx_is_valid_by_its_own_strict_validator(tmp_path: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    image = tmp_path / "image"
    image.write_bytes(b"image")
    path = write_sbom(tmp_path / "sbom.cdx.json", record(), image)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None
    bom = read(path)
    assert [c["purl"] for c in bom["components"]] == [
        "pkg:alpm/arch/bash@1:5.2-1?arch=x86_64",
        "pkg:alpm/arch/i3-wm@4.24-1?arch=x86_64",
    ]
    assert bom["metadata"]["timestamp"] == "2026-11-01T00:00:00+00:00"
    image.write_bytes(b"other")
    assert read(write_sbom(path, record(), image))["serialNumber"] != bom["serialNumber"]


@pytest.mark.parametrize("distribution", ["arch", "gentoo"])
def test_spdx_is_valid_by_the_spdx_projects_validator(tmp_path: Path, distribution: str) -> None:
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    image = tmp_path / "work.tar.zst"
    image.write_bytes(b"image")
    packages = [Package("x11-wm/i3", "4.24", 10, "ab" * 64, "gentoo")] if distribution == "gentoo" else None
    what = record(distribution=distribution, packages=packages)
    path = write_spdx(tmp_path / "sbom.spdx.json", what, image)
    document = parse_file(str(path))
    assert [m.validation_message for m in validate_full_spdx_document(document)] == []
    assert len(document.packages) == 1 + len(what.packages)


def test_packages_of_the_standin_are_not_called_archs() -> None:
    assert package_url(record(), package("bash", "5-1")) == "pkg:alpm/arch/bash@5-1?arch=x86_64"
    standin = package_url(record(source="standin"), package("bash", "5-1"))
    assert standin == "pkg:alpm/standin-arch/bash@5-1?arch=x86_64"
    gentoo = package_url(record(distribution="gentoo"), package("x11-wm/i3", "4.24"))
    assert gentoo == "pkg:generic/gentoo/x11-wm/i3@4.24"


def test_provenance_names_every_input_by_digest(tmp_path: Path) -> None:
    write_result(tmp_path)
    statement = read(tmp_path / "provenance.json")
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert {s["name"] for s in statement["subject"]} == {
        "work_2026.11.01_x86-64.tar.zst",
        "work_2026.11.01_x86-64.host.tar.zst",
    }
    definition = statement["predicate"]["buildDefinition"]
    inputs = {d["name"]: d for d in definition["resolvedDependencies"]}
    assert inputs["seatsmith"]["digest"] == {"gitCommit": "0123456789abcdef0123456789abcdef01234567"}
    lock = hashlib.sha256((tmp_path / "work.lock").read_bytes()).hexdigest()
    assert inputs["lock"]["digest"] == {"sha256": lock}
    assert inputs["i3-wm"]["digest"] == {"sha256": package("i3-wm", "4.24-1").digest}
    assert definition["externalParameters"]["source"] == "upstream"


def test_provenance_names_what_a_lock_has_beside_packages(tmp_path: Path) -> None:
    stage = Input("stage3.tar.xz", "stage", "5" * 64)
    write_result(tmp_path, replace(record(), inputs=[stage]))
    statement = read(tmp_path / "provenance.json")
    named = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert {
        "name": stage.name,
        "digest": {"sha256": stage.sha256},
        "annotations": {"kind": "stage"},
    } in named
    assert verify_directory(tmp_path, keys=[], require_signature=False).problems == []


def test_a_checkout_with_changes_is_dirty_and_no_checkout_is_too(tmp_path: Path) -> None:
    def git(*argv: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, "-C", str(tmp_path), *argv], check=True, capture_output=True)

    assert git_state(tmp_path) == GitState(None, True)
    git("init", "-q")
    (tmp_path / "a").write_text("a")
    git("add", "a")
    git("commit", "-qm", "first")
    clean = git_state(tmp_path)
    assert not clean.dirty and re.fullmatch("[0-9a-f]{40}", clean.commit or "")
    (tmp_path / "new").write_text("b")
    assert git_state(tmp_path) == GitState(clean.commit, True)


@pytest.mark.parametrize(
    ("document", "path", "value", "complaint"),
    [
        ("manifest.json", ["schema"], "other/9", "unknown schema 'other/9'"),
        ("manifest.json", ["version"], "2020.01.01", "manifest.json says work 2020.01.01"),
        ("manifest.json", ["source"], "standin", "provenance.json says source 'upstream'"),
        ("manifest.json", ["files"], [], "does not describe the files here"),
        ("manifest.json", ["packages"], [], "name different packages"),
        ("provenance.json", ["subject"], [], "is about other files"),
        ("provenance.json", ["predicateType"], "x", "not an in-toto statement"),
        ("provenance.json", ["predicate"], None, "lacks something"),
    ],
)
def test_documents_that_disagree_are_refused(
    tmp_path: Path, document: str, path: list[str], value: object, complaint: str
) -> None:
    write_result(tmp_path)
    data = read(tmp_path / document)
    data[path[0]] = value
    (tmp_path / document).write_text(json.dumps(data))
    write_checksums(tmp_path)
    report = verify_directory(tmp_path, keys=[], require_signature=False)
    assert any(complaint in p for p in report.problems), report.problems


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100000])
def test_a_document_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    write_result(tmp_path)
    (tmp_path / "manifest.json").write_text(text)
    write_checksums(tmp_path)
    report = verify_directory(tmp_path, keys=[], require_signature=False)
    assert re.search("manifest.json is not (JSON|a JSON object)", report.problems[0])


def test_roles_follow_from_names() -> None:
    assert role_of("work_1_x86-64.tar.zst") == "image"
    assert role_of("work_1_x86-64.host.tar.zst") == "host-bundle"
    assert role_of("work_1_x86-64.efi") == "uki"
    assert role_of("manifest.json") is None
