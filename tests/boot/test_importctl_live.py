"""Does a running host's importctl take what we publish: by D-Bus, systemd-importd, HTTP and our signature?

tests/integration/test_importctl.py runs what importd starts, in the tools tree; this is the whole way.
"""

import base64
import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from builder.machine.machine import Machine
from builder.machine.shell import until
from builder.outputs.gpg import temporary_keyring
from builder.outputs.sign import sign_checksums
from builder.project import Project, cache_home
from builder.publish.site import Terms, publish
from builder.standin.server import serve
from builder.tools import ensure_tools
from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.plainhost import plain_host
from tests.support.smallcontainer import put_small_container

pytestmark = pytest.mark.live

VERSION = "7-standin"
LONG = 300.0  # seconds that a busy machine may need for what takes ten
TRUSTED = "/etc/systemd/import-pubring.gpg"
ONLINE = "ip -4 -o addr show | grep ' 10[.]0[.]2[.]'"


@dataclass
class Puller:
    """A host with a network card that leads to a web server with what was published."""

    machine: Machine
    root: Path
    key: TestKey
    stranger: TestKey
    url: str

    @property
    def image(self) -> Path:
        return next((self.root / "small/importd" / VERSION).glob("*.tar.gz"))

    def trust(self, key: TestKey) -> None:
        text = base64.b64encode(key.public.read_bytes()).decode()
        self.machine.host.succeed(f"echo {text} | base64 -d >{TRUSTED}", timeout=LONG)

    def command(self, name: str) -> str:
        url = f"{self.url}/{self.image.relative_to(self.root)}"
        return f"importctl pull-tar --class=machine --verify=signature {url} {name} 2>&1"

    def refused(self, name: str) -> str:
        """What importctl says of a pull that fails and leaves nothing."""
        said = self.machine.host.fail(self.command(name), timeout=LONG)
        self.machine.host.succeed(f"test ! -e /var/lib/machines/{name}", timeout=LONG)
        return said


@pytest.fixture(scope="module")
def puller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Puller]:
    tools, place = ensure_tools(), tmp_path_factory.mktemp("published")
    project, root = Project(place / "project", cache_home(), place / "project/dist"), place / "www"
    put_small_container(project, "small", VERSION.removesuffix("-standin"), tools)
    with temporary_keyring(tools) as ring:
        make = KeyMaker(ring, place)
        key, stranger = make("release"), make("stranger")
    sign_checksums(project.dist / "small", str(key.secret))
    terms = Terms(str(key.secret), [key.public.read_bytes()], allow_standin=True, gzip=True)
    publish(root, [project.dist / "small"], terms, tools=tools)
    with plain_host(place, tools) as machine, serve(root) as url:
        until(lambda: machine.host.run(ONLINE).status == 0, "the network card has an address", timeout=LONG)
        # QEMU's own network: 10.0.2.2 is this machine's loopback
        yield Puller(machine, root, key, stranger, f"http://10.0.2.2:{urlsplit(url).port}")


def test_importctl_refuses_an_image_by_another_key(puller: Puller) -> None:
    puller.trust(puller.stranger)
    assert "Signature verification failed" in puller.refused("strange")


def test_importctl_takes_the_published_image_by_its_signature_and_it_starts(puller: Puller) -> None:
    puller.trust(puller.key)
    host = puller.machine.host
    said = host.succeed(puller.command("pulled"), timeout=LONG)
    assert "Signature verification succeeded" in said
    assert "VERSION_ID=7" in host.succeed("cat /var/lib/machines/pulled/usr/lib/os-release")
    host.succeed("systemctl is-active systemd-importd.service")
    assert "pulled" in host.succeed("machinectl list-images --no-legend")
    started = "systemd-nspawn -q --register=no --pipe -M pulled /bin/busybox echo it runs"
    assert "it runs" in host.succeed(started, timeout=LONG)
    host.succeed("machinectl remove pulled")


def test_importctl_refuses_a_changed_image(puller: Puller) -> None:
    puller.trust(puller.key)
    puller.image.write_bytes(gzip.compress(b"\0" * 10240))  # an empty archive
    assert "tampered with" in puller.refused("changed")
