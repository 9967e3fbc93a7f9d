"""Does systemd's own client take what we publish, by our signature, and nothing else?"""

import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from builder.outputs.sign import sign_checksums
from builder.publish.site import Terms, publish
from builder.run import Result
from builder.standin.server import serve
from builder.tools import Tools
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.results import record, write_result

pytestmark = pytest.mark.tools

PULL = "/usr/lib/systemd/systemd-pull"  # what systemd-importd runs for importctl
VENDOR_KEYS = "/usr/lib/systemd/import-pubring.gpg"
VERSION = "2026.11.01"
NAME = f"work_{VERSION}_x86-64.tar.gz"


@pytest.fixture
def root(tmp_path: Path, release: TestKey, tools: Tools) -> Path:
    """A published directory with the copies for importctl."""
    result = tmp_path / "dist"
    write_result(result, record(version=VERSION))
    sign_checksums(result, str(release.secret))
    terms = Terms(str(release.secret), [release.public.read_bytes()], gzip=True)
    publish(tmp_path / "www", [result], terms, tools=tools)
    return tmp_path / "www"


@pytest.fixture
def machines(tmp_path: Path, tools: Tools) -> Iterator[Path]:
    place = tmp_path / "machines"
    place.mkdir()
    yield place
    # what was fetched is marked as immutable, where file system and rights allow it
    tools.run(["chattr", "-R", "-f", "-i", place], check=False)


def pull(tools: Tools, url: str, key: TestKey, machines: Path) -> Result:
    """``importctl pull-tar --class=machine --verify=signature URL work``, with this key as the vendor's."""
    return tools.run(
        [PULL, f"--image-root={machines}", "--verify=signature", "tar", url, "work"],
        options=["--ro-bind", key.public, VENDOR_KEYS],
        check=False,
        timeout=60,
    )


def test_importctl_takes_the_published_image_by_its_signature(
    root: Path, release: TestKey, machines: Path, tools: Tools
) -> None:
    with serve(root) as url:
        done = pull(tools, f"{url}/work/importd/{VERSION}/{NAME}", release, machines)
    said = done.text + done.stderr.decode()
    assert done.returncode == 0, said
    assert "Signature verification succeeded" in said
    assert "os-release" in (machines / "work/etc/os-release").read_text()


def test_importctl_refuses_it_by_another_key(
    root: Path, make_key: KeyMaker, machines: Path, tools: Tools
) -> None:
    with serve(root) as url:
        done = pull(tools, f"{url}/work/importd/{VERSION}/{NAME}", make_key("no-vendor"), machines)
    assert done.returncode != 0
    assert "Signature verification failed" in done.stderr.decode() + done.text
    assert not (machines / "work").exists()


def test_importctl_refuses_a_changed_image(
    root: Path, release: TestKey, machines: Path, tools: Tools
) -> None:
    image = root / "work/importd" / VERSION / NAME
    image.write_bytes(gzip.compress(b"\0" * 10240))  # an empty archive
    with serve(root) as url:
        done = pull(tools, f"{url}/work/importd/{VERSION}/{NAME}", release, machines)
    assert done.returncode != 0
    assert "has been tampered with" in done.stderr.decode() + done.text
    assert not (machines / "work").exists()


def test_the_copy_holds_the_released_archive_and_follows_the_releases(
    root: Path, release: TestKey, tools: Tools, tmp_path: Path
) -> None:
    copy = root / "work/importd" / VERSION / NAME
    released = (root / "work" / VERSION / f"work_{VERSION}_x86-64.tar.zst").read_bytes()
    unpacked = zstandard.ZstdDecompressor().decompressobj().decompress(released)
    assert gzip.decompress(copy.read_bytes()) == unpacked
    before = hashlib.sha256(copy.read_bytes()).hexdigest()
    result = tmp_path / "next"
    write_result(result, record(version="2026.11.08"))
    sign_checksums(result, str(release.secret))
    terms = Terms(str(release.secret), [release.public.read_bytes()], gzip=True)
    publish(root, [result], terms, tools=tools)
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == before
    only = Terms(str(release.secret), [release.public.read_bytes()], keep=1, gzip=True)
    publish(root, [], only, tools=tools)
    assert [p.name for p in (root / "work/importd").iterdir()] == ["2026.11.08"]
