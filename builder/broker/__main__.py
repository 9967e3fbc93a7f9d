"""Starts the input broker: ``python3 -m broker`` in /usr/lib/seatsmith."""

import sys

from . import sdnotify, uinput
from .clones import Clones
from .environments import load_environments
from .real import Devices, Monitor
from .reopening import Nodes
from .router import Router
from .service import Broker
from .terminal import ActiveTerminal


def main() -> int:
    environments = [e for e in load_environments() if e.input]
    names = [e.name for e in environments]
    monitor = Monitor()  # listens before we look, so that nothing comes in between
    clones = Clones(names, sdnotify.kept(), uinput.Uinput())
    router = Router({e.vt: e.name for e in environments})
    broker = Broker(clones, router, ActiveTerminal(), Devices(uinput.shape_of), Nodes(names))
    broker.look_around()
    clones.wait_for_udev()
    broker.begin(monitor)
    sdnotify.notify("READY=1")
    try:
        while True:
            broker.turn(monitor)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
