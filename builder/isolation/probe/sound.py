"""What can it do to the host's sound server beyond playing? Asked by the server's own command line tools."""

import array
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from .calls import Absent, Context, Notes, Refused

RATE, SECONDS = 44100, 2
LOUD = 500  # of 32767: more than a silent card's noise
CLIENT = "seatsmith-secret-tune"
"""How the host's player calls itself to the server (runner's side: trial.py)."""


def ask(context: Context, *argv: str, seconds: float = 15, server: str = "") -> bytes:
    """Run a tool of the sound server. Raises Refused with what it says."""
    if shutil.which(argv[0]) is None:
        raise Absent(f"{argv[0]} is not installed")
    environment = {"PATH": os.environ["PATH"], "HOME": "/root", "LC_ALL": "C.UTF-8"}
    if server or not context.host:
        environment["PULSE_SERVER"] = server or context.sound
    else:
        there = pwd.getpwnam(context.sound_user)
        environment |= {"HOME": there.pw_dir, "XDG_RUNTIME_DIR": f"/run/user/{there.pw_uid}"}
        argv = ("runuser", "-u", context.sound_user, "--", *argv)
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, env=environment, stdout=pipe, stderr=pipe, start_new_session=True)
    try:
        output, error = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # runuser and what it started
        return process.communicate()[0]
    if process.returncode:
        raise Refused((error.decode(errors="replace").strip().splitlines() or ["it failed"])[-1])
    return output


def need_server(context: Context) -> None:
    """A server that does not answer keeps nobody from anything. Raises Absent then."""
    try:
        ask(context, "pactl", "info")
    except Refused as e:
        raise Absent(f"no sound server answers: {e}") from None


def sound_record(notes: Notes, context: Context) -> None:
    """Record what the host plays."""
    need_server(context)
    for source in ("@DEFAULT_MONITOR@", "@DEFAULT_SOURCE@"):
        if notes.attempt(f"record {source}", partial(recorded, context, source)):
            return


def recorded(context: Context, source: str) -> str:
    words = ("parec", "--raw", "--format=s16le", "--channels=1", f"--rate={RATE}", "-d", source)
    data = ask(context, *words, seconds=SECONDS + 4)
    samples = array.array("h", data[: len(data) - len(data) % 2])
    if not samples:
        raise Refused("no sound came")
    if max(samples) < LOUD:
        raise Refused(f"{len(samples)} samples came, all silent")
    return f"{len(samples) / RATE:.1f} s of sound, as loud as {max(samples)}"


def sound_clients(notes: Notes, context: Context) -> None:
    """List who else plays."""
    need_server(context)

    def clients() -> str:
        if CLIENT not in ask(context, "pactl", "list", "clients").decode(errors="replace"):
            raise Refused("the host's player is not in the list")
        return "the host's player is in the list"

    notes.attempt("pactl list clients", clients)


def sound_modules(notes: Notes, context: Context) -> None:
    """Load a module into the sound server, which could read and write its user's files."""
    need_server(context)
    if notes.attempt("pactl load-module", lambda: load(context)) or not context.host:
        return
    # the host's own server refuses everybody in strict mode: is it this setting?
    notes.attempt("the same at a server without that setting", lambda: load_elsewhere(context))


def load(context: Context, server: str = "") -> str:
    words = ("load-module", "module-null-sink", "sink_name=seatsmith_probe")
    number = ask(context, "pactl", *words, server=server).decode().strip()
    ask(context, "pactl", "unload-module", number, server=server)
    return f"loaded as number {number}"


def load_elsewhere(context: Context) -> str:
    if shutil.which("pulseaudio") is None:
        raise Absent("pulseaudio is not installed")
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        place = Path(folder) / "native"
        door = f"module-native-protocol-unix auth-anonymous=1 socket={place}"
        argv = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-L", door]
        argv += ["--disallow-module-loading=no"]
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "XDG_RUNTIME_DIR": folder}
        process = subprocess.Popen(argv, env=environment, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not place.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Refused("no second server came up")
                time.sleep(0.2)
            return load(context, server=f"unix:{place}")
        finally:
            process.kill()
            process.wait()
