"""Does the publishing job bring its directory to a host by rsync? (make test-registry)"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder.files import atomic_path
from builder.outputs.sign import sign_checksums
from builder.project import cache_home
from tests.support.gpgkeys import TestKey
from tests.support.publisher import FIRST, SECOND, Publisher
from tests.support.results import record, write_result

pytestmark = [pytest.mark.tools, pytest.mark.registry]

ROOT = Path(__file__).parents[2]
# in place of ssh: tells who signs in, and runs here what it was to run there
SSH = """\
#!/bin/sh
{ echo "$@"; ssh-add -l; } >> "$SEEN"
while [ "${1#-}" != "$1" ]; do shift 2; done
shift
exec sh -c "$*"
"""


def rsync_tree() -> Path:
    """Debian's rsync, unpacked into the cache and not installed."""
    place = cache_home() / "rsync-for-tests"
    if not place.is_dir():
        with atomic_path(place) as made:
            made.mkdir(parents=True)
            subprocess.run(["apt-get", "-q", "download", "rsync", "libpopt0"], cwd=made, check=True)
            for package in made.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", package, made], check=True)
    return place


def publish(checkout: Path, version: str, key: TestKey, env: dict[str, str]) -> None:
    """What the job does in a clean checkout."""
    for name in ("dist", "site"):
        shutil.rmtree(checkout / name, ignore_errors=True)
    write_result(checkout / "dist/work", record(version=version))
    sign_checksums(checkout / "dist/work", str(key.secret))
    done = subprocess.run(["ci/publish"], cwd=checkout, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_second_release_joins_the_first_on_the_host(tmp_path: Path, release: TestKey) -> None:
    checkout, www, tree = tmp_path / "checkout", tmp_path / "www", rsync_tree()
    (checkout / "ci/keys").mkdir(parents=True)
    (checkout / "profiles").mkdir()
    (checkout / "mkosi.conf").touch()
    shutil.copy2(ROOT / "ci/publish", checkout / "ci")
    shutil.copy(release.public, checkout / "ci/keys")
    www.mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "publisher", "-f", key], check=True)
    env = os.environ | {
        "VENV": sys.prefix,
        "PATH": f"{tmp_path / 'bin'}:{tree / 'usr/bin'}:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(tree / "usr/lib/x86_64-linux-gnu"),
        "SEEN": str(tmp_path / "seen"),
        "INDEX_KEY_FILE": str(release.secret),
        "PUBLISH_TO": f"www@host:{www}",
        "PUBLISH_SSH_KEY": key.read_text(),
    }
    publish(checkout, FIRST, release, env)
    publish(checkout, SECOND, release, env)
    publisher = Publisher(tmp_path, release)
    assert publisher.pull(str(www)).release.version == SECOND
    publisher.pull(str(www), version=FIRST, allow_older=True)
    publish(checkout, "2026.11.15", release, env | {"PUBLISH_OPTIONS": "--keep 2"})
    assert sorted(p.name for p in (www / "work").glob("2*")) == [SECOND, "2026.11.15"]
    seen = (tmp_path / "seen").read_text().splitlines()
    assert len(seen) == 3 * 4 * 2, "four times a release, with the one key of the agent"
    assert all("publisher (ED25519)" in line for line in seen[1::2])
