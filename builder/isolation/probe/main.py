"""What is the prober asked to do: try rows, listen, race, or on the host be the victim or the console?

Each row runs in a process of its own, which is ended when it hangs; the answers are lines of JSON on stdout.
"""

import base64
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import console, kernel, keyboard, processes, screen, sound, terminals
from .calls import Absent, Context, Notes
from .listen import listen
from .victim import victim

Row = Callable[[Notes, Context], None]
LONGEST = 100.0
ROWS: dict[str, Row] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(keyboard.inject_given, keyboard.inject_made, keyboard.inject_uinput),
        *(terminals.inject_tiocsti, terminals.inject_paste, terminals.keymap, terminals.shift_keys),
        *(terminals.console_memory, terminals.console_selection, terminals.console_write),
        *(terminals.vt_lock, terminals.vt_own, terminals.vt_other, terminals.console_settings),
        *(screen.screen_getfb, screen.screen_getfb2, screen.screen_prime, screen.screen_names),
        *(screen.drm_master, screen.drm_lease, screen.framebuffer),
        *(screen.text_picture, screen.screen_behind),
        *(screen.x11_host, screen.wayland_host),
        *(sound.sound_record, sound.sound_clients, sound.sound_modules),
        *(processes.process_read, processes.process_signal, processes.process_trace),
        *(processes.shared_memory, processes.keyring, processes.abstract_sockets),
        *(kernel.disks, kernel.volumes, kernel.memory, kernel.devtmpfs),
        *(kernel.kernel_log, kernel.sysrq, kernel.core_pattern, kernel.sysctls, kernel.sysfs),
        *(kernel.debugfs, kernel.tracefs, kernel.modules, kernel.tracing, kernel.clock),
        *(kernel.udev_database, kernel.udev_message, kernel.uevent),
    )
}


def main(argv: list[str]) -> int:
    """``WHAT [BASE64(JSON)]``."""
    what, given = argv[1], json.loads(base64.b64decode(argv[2])) if len(argv) > 2 else {}
    if what == "victim":
        return victim(given["words"])
    if what == "console":
        return console.console(given["vt"], given["screen"])
    if what == "bring":
        print(terminals.bring(given["vt"]))
        return 0
    context = Context.read(given["context"])
    if what == "listen":
        say(listen(context, given["rows"]))
    elif what == "race":
        for entry in screen.race(context):
            say(entry)
    else:
        say({"confined": confinement()})
        for name in given["rows"]:
            say({"row": name, **tried(ROWS[name], context)})
    return 0


def say(value: object) -> None:
    print(json.dumps(value, default=plain), flush=True)


def plain(value: object) -> str:
    """Pictures travel as base64."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def confinement() -> dict[str, str]:
    """By which limits this process runs."""
    lines = (line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    status = {name: value.strip() for name, value in lines}
    found = {name: status.get(name, "") for name in ("CapBnd", "Seccomp", "NoNewPrivs")}
    found["uid_map"] = " ".join(Path("/proc/self/uid_map").read_text().split())
    found["cgroup"] = Path("/proc/self/cgroup").read_text().strip()
    return found


def tried(row: Row, context: Context, longest: float = LONGEST) -> dict[str, Any]:
    """Run a row in a child, which may unshare, be killed or hang."""
    began = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as stream:
            stream.write(json.dumps(answer(row, context), default=plain))
        os._exit(0)
    os.close(writing)
    data = b""
    deadline = began + longest
    while select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(reading, 1 << 16)
        if not piece:
            break
        data += piece
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(data) if data else {"tries": [], "problem": "it was killed, or hung"}
    return {**found, "seconds": round(time.monotonic() - began, 2)}


def answer(row: Row, context: Context) -> dict[str, Any]:
    notes = Notes()
    try:
        row(notes, context)
    except Absent as e:
        return {"tries": notes.tries, "absent": str(e)}
    except Exception as e:  # the runner shows it: a prober with a defect has proved nothing
        return {"tries": notes.tries, "problem": f"{type(e).__name__}: {e}"}
    return {"tries": notes.tries}


if __name__ == "__main__":
    sys.exit(main(sys.argv))
