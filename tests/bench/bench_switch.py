"""How long does a switch between two desktops take, with a strict container and with one of shared devices?

From Ctrl+Alt+Fn, on a keyboard of uinput(4) that the host has beside its own, until the graphics card shows
another framebuffer, by the host's clock: what a person waits for before there is anything new to see. One
image on two seats, one after the other.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from builder.isolation.pack import PLACE, unpack_command
from builder.machine.ready import bring_up, ready_machine
from builder.machine.seatdisk import written_seat
from builder.project import Project, cache_home
from builder.tools import ensure_tools
from tests.support.bootedseat import make_seat_of_image

ROUNDS = 15
SCRIPT = """\
import fcntl, json, os, sys, time
sys.path.insert(0, {place!r})
from probe import drm
from probe.keyboard import EV_KEY, EV_SYN, EVENT, SETUP
from probe.keyboard import UI_DEV_CREATE, UI_DEV_SETUP, UI_SET_EVBIT, UI_SET_KEYBIT
CTRL, ALT, F1 = 29, 56, 59  # linux/input-event-codes.h
card, keys = drm.card(), os.open("/dev/uinput", os.O_WRONLY)
fcntl.ioctl(keys, UI_SET_EVBIT, EV_KEY)
for code in range(1, 128):
    fcntl.ioctl(keys, UI_SET_KEYBIT, code)
fcntl.ioctl(keys, UI_DEV_SETUP, SETUP.pack(3, 1, 1, 1, b"bench keyboard", 0))
fcntl.ioctl(keys, UI_DEV_CREATE)
time.sleep(20)  # until whoever listens has opened it

def press(terminal, value):
    for code in (CTRL, ALT, F1 + terminal - 1):
        os.write(keys, EVENT.pack(0, 0, EV_KEY, code, value) + EVENT.pack(0, 0, EV_SYN, 0, 0))

took = []  # of which the first round does not count: one of the two is on screen already
for terminal in {terminals} * ({rounds} + 1):
    before, began = drm.shown(card), time.monotonic()
    press(terminal, 1)
    while drm.shown(card) in (before, []) and time.monotonic() < began + 30:
        time.sleep(0.001)
    took.append(time.monotonic() - began)
    press(terminal, 0)
    time.sleep(2)
print(json.dumps(took[{count}:]))
"""
MODES = ("shared", "strict")


def bench() -> list[tuple[str, str]]:
    tools, rows, medians = ensure_tools(), [], {}
    for mode in MODES:
        with tempfile.TemporaryDirectory(prefix="seatsmith-bench-") as folder:
            place = Path(folder)
            project = Project(place / "project", cache_home(), place / "dist")
            make_seat_of_image(project, isolation=mode)
            (place / "kernel").mkdir()
            subject = written_seat(project, "twins", tools, place / "kernel", full=False)
            print(f"booting a seat with a container of {mode} devices …", file=sys.stderr, flush=True)
            with ready_machine(tools, subject) as machine:
                bring_up(machine, subject)
                terminals = [subject.containers[0].vt, subject.host.vt]
                machine.host.succeed(f"{unpack_command()} && modprobe uinput", timeout=120)
                script = SCRIPT.format(place=PLACE, terminals=terminals, rounds=ROUNDS, count=len(terminals))
                said = machine.host.succeed(f"python3 - <<'END'\n{script}END", timeout=900)
        took = json.loads(said)
        medians[mode] = statistics.median(took)
        for number, where in enumerate(("container", "host")):
            each = took[number::2]
            figures = f"{statistics.median(each) * 1000:.0f} ms, at most {max(each) * 1000:.0f} ms"
            rows.append((f"{mode}: a switch to the {where}, median of {len(each)}", figures))
    return [*rows, ("all switches, strict / shared", f"{medians['strict'] / medians['shared']:.2f}×")]


if __name__ == "__main__":
    for row in bench():
        print(*row, sep="\t", file=sys.stdout)
