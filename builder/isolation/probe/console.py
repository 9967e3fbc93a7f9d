"""Who sits at the host's text console? A process that shows a word there and writes down what it is sent."""

import os
import select
import termios
from pathlib import Path

from . import terminals
from .nodes import opened

READ = Path("/run/seatsmith-console.read")
"""While it is there, the console reads; otherwise others may."""
TYPED = Path("/run/seatsmith-console.typed")


def console(vt: int, word: str) -> int:
    """Bring the terminal to the front with a word on its first line, and stay."""
    fd = opened(f"/dev/tty{vt}", os.O_RDWR)
    before = termios.tcgetattr(fd)
    termios.tcsetattr(fd, termios.TCSANOW, [*before[:3], before[3] & ~termios.ICANON, *before[4:]])
    os.write(fd, f"\x1b[H\x1b[2J{word}\r\n".encode())
    terminals.bring(vt)
    print('"ready"', flush=True)
    with TYPED.open("wb", buffering=0) as typed:
        while True:
            if not READ.exists():
                select.select([], [], [], 0.1)
            elif select.select([fd], [], [], 0.1)[0]:
                typed.write(os.read(fd, 4096))
