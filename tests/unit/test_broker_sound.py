"""Does the tunnel to the host's sound server start anew when its default sink changes, and only then?"""

import os
import signal
import time
from pathlib import Path
from threading import Thread

import pytest

from builder.broker import sound

PIPEWIRE = '#!/bin/sh\necho "$@" >>{0}/started\necho $$ >{0}/plays\nexec sleep 60\n'
PACTL = """\
#!/bin/sh
case $1 in
    get-default-*) cat {0}/"$1" ;;
    subscribe) echo $$ >{0}/listens; exec tail -n +1 -f {0}/events ;;
esac
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs that stand for PipeWire's note what they are asked, and read what they answer."""
    for name, text in (("pipewire", PIPEWIRE), ("pactl", PACTL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text.format(tmp_path))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    for kind in ("sink", "source"):
        (tmp_path / f"get-default-{kind}").write_text("auto_null\n")
    (tmp_path / "events").write_text("Event 'new' on client #7\n")
    return tmp_path


def begin(host: Path) -> Thread:
    thread = Thread(target=sound.carry, args=("tunnel.conf",), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not (host / "listens").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return thread


def happens(host: Path, event: str) -> None:
    with (host / "events").open("a") as f:
        f.write(f"{event}\n")


def test_a_new_default_ends_the_tunnel_and_what_listened_for_it(host: Path) -> None:
    thread = begin(host)
    assert (host / "started").read_text() == "-c tunnel.conf\n"
    (host / "get-default-sink").write_text("alsa_output\n")
    happens(host, "Event 'change' on server #4294967295")
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert not Path("/proc", (host / "listens").read_text().strip()).exists()


def test_other_changes_leave_it_as_it_is(host: Path) -> None:
    thread = begin(host)
    happens(host, "Event 'change' on server #4294967295")
    happens(host, "Event 'change' on sink #43")
    thread.join(timeout=0.5)
    assert thread.is_alive()
    (host / "get-default-source").write_text("alsa_input\n")
    happens(host, "Event 'change' on server #4294967295")
    thread.join(timeout=20)
    assert not thread.is_alive()


def test_a_tunnel_that_ends_is_noticed_though_the_server_says_nothing(host: Path) -> None:
    thread = begin(host)
    while not (plays := host / "plays").exists() or not plays.read_text().endswith("\n"):
        time.sleep(0.02)
    os.kill(int(plays.read_text()), signal.SIGKILL)
    thread.join(timeout=20)
    assert not thread.is_alive()
