"""Plays what a container plays on the host's sound server, on whichever of its sinks is the default now.

``python3 -m broker.sound FILE`` runs ``pipewire -c FILE``, which holds a tunnel, and starts it anew when the
host has another default sink or source: PipeWire's tunnel asks not to be moved (PA_STREAM_DONT_MOVE), so it
would stay with a sink that a person has left, or be silent where it started before the sound card came.
PULSE_SERVER names the host's server.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

CHANGED = b"on server"  # pactl(1), subscribe: "Event 'change' on server #0"
CHUNK = 4096
PAUSE = 0.5  # seconds, for what comes and goes together


def defaults() -> list[str]:
    """Names of the host's default sink and source; empty where there is no server."""
    words = (["pactl", f"get-default-{kind}"] for kind in ("sink", "source"))
    return [subprocess.run(argv, capture_output=True, text=True).stdout.strip() for argv in words]


def carry(file: str, asked: Callable[[], list[str]] = defaults) -> None:
    """Run one tunnel, until the defaults are others or a program ends."""
    before = asked()
    tunnel = subprocess.Popen(["pipewire", "-c", file])
    events = subprocess.Popen(
        ["pactl", "subscribe"], stdout=subprocess.PIPE, bufsize=0, env={**os.environ, "LC_ALL": "C"}
    )
    ended = os.pidfd_open(tunnel.pid)
    try:
        assert events.stdout is not None
        listening, line = events.stdout.fileno(), b""
        while ended not in select.select([listening, ended], [], [])[0]:
            if not (part := os.read(listening, CHUNK)):
                break
            *lines, line = (line + part).split(b"\n")
            if any(CHANGED in known for known in lines) and asked() != before:
                break
    finally:
        os.close(ended)
        for program in (events, tunnel):
            program.terminate()
            program.wait()


def main(argv: list[str]) -> int:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # whom PipeWire starts has SIGTERM blocked
    while True:
        carry(argv[1])
        time.sleep(PAUSE)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
