"""What comes out of virtual input devices? Runs in a guest: ``recorder LOG NAME=NODE…``."""

import os
import select
import struct
import sys
from pathlib import Path

EVENT = struct.Struct("@llHHi")


def main() -> None:
    names = {}
    poll = select.poll()
    for word in sys.argv[2:]:
        name, _, node = word.partition("=")
        fd = os.open(node, os.O_RDONLY | os.O_NONBLOCK)
        names[fd] = name
        poll.register(fd, select.POLLIN)
    with Path(sys.argv[1]).open("w", buffering=1, encoding="ascii") as log:
        log.write("begin\n")
        while True:
            for fd, _ in poll.poll():
                for seconds, micros, kind, code, value in EVENT.iter_unpack(os.read(fd, 64 * EVENT.size)):
                    log.write(f"{seconds}.{micros:06d} {names[fd]} {kind} {code} {value}\n")


if __name__ == "__main__":
    main()
