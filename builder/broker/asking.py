"""Did somebody at the keyboard ask for the terminal that is shown now, or did an environment take the front?

An environment may bring its terminal to the front, and display servers do when they start. Who types just
then, a password perhaps, types on; and what the screen shows need not have changed, since the environment is
the graphics card's master now. So it is told nothing, and the terminal before comes back once its display
server has started, unless Ctrl, Alt and the function key of the new one were pressed shortly before. (At a
text console Alt and the function key, as the kernel wants it; in a desktop that is a key of programs.)
"""

import time
from collections.abc import Callable, Iterable

from .codes import ALT, CONTROL, EV_KEY, FUNCTION_KEYS, PRESSED, RELEASED, Event

HEARD = (*CONTROL, *ALT, *FUNCTION_KEYS)
LATELY = 10.0  # seconds from a function key until its terminal is shown, on a slow machine
STARTED = 1.0  # seconds from when a display server has opened its input devices until it can be left
SUSPENDED = 63  # the terminal that some machines show from suspend to wake-up (kernel/power/console.c)
LONGEST = 20.0  # seconds; a display server that has opened none by then is not going to
AGAIN = 0.5  # seconds until one that is starting is looked at again
PATIENCE = 90.0  # seconds; what is not up by then may keep its turn to start as long as it likes


class Asking:
    """What the keys asked for, and whether who is in front is told nothing."""

    def __init__(
        self, now: Callable[[], float] = time.monotonic, graphic: Callable[[], bool] = lambda: False
    ) -> None:
        self.now = now
        self.graphic = graphic
        """Whether a desktop is in front, still: after a key of a text console none is."""
        self.held: set[int] = set()
        self.vt = 0
        self.at = 0.0
        self.asleep = 0
        """The terminal that was shown when the machine was suspended."""
        self.unasked = False
        """Nobody asked for who is in front."""
        self.before = 0
        """The terminal that was shown before."""
        self.since = 0.0
        self.back: float | None = None
        """When that comes back."""

    def hear(self, events: Iterable[Event]) -> int | None:
        """Whatever real keyboards say. While the host is in front that is of the keys HEARD alone.

        Returns the terminal that Ctrl, Alt and a function key ask for, wherever the former went down.
        """
        wanted = None
        for event in events:
            if event.kind != EV_KEY or event.code not in HEARD:
                continue
            if event.code not in FUNCTION_KEYS:
                (self.held.discard if event.value == RELEASED else self.held.add)(event.code)
            elif event.value == PRESSED and self.holds(ALT) and (self.holds(CONTROL) or not self.graphic()):
                self.vt, self.at = FUNCTION_KEYS[event.code], self.now()
                wanted = self.vt if self.holds(CONTROL) else wanted
        return wanted

    def holds(self, codes: Iterable[int]) -> bool:
        return not self.held.isdisjoint(codes)

    def let_go(self) -> None:
        """A keyboard is gone, and nobody says which keys were held there."""
        self.held.clear()

    def asked_for(self, vt: int) -> bool:
        """Whether somebody asked for this terminal; it is not asked for twice by one key.

        Who was in front before one came by itself, or before suspend, has not been left by anybody: unless
        somebody asked for another one meanwhile, and it went elsewhere to come back.
        """
        back = self.vt in (0, vt) and (vt == self.asleep or (self.unasked and vt == self.before))
        if vt != self.vt or self.now() - self.at > LATELY:
            return back
        self.vt = 0
        return True

    def leave(self, shown: int, now: int) -> None:
        """Another terminal is shown now."""
        if now == SUSPENDED:
            self.asleep = 0 if self.unasked else shown
        elif shown != SUSPENDED:
            self.asleep = 0

    def hold_back(self, before: int) -> None:
        """``before`` comes back, or where nobody asked for that either the one before it."""
        self.before = self.before if self.unasked else before
        self.since = self.now()
        self.unasked, self.back = True, self.since + LONGEST

    def is_due(self, *, starting: bool) -> bool:
        """Whether the terminal before comes back now; later, while a display server is ``starting``."""
        if starting and self.now() < self.since + PATIENCE:
            self.back = self.now() + AGAIN
            return False
        self.back = None
        return True

    def admit(self) -> None:
        self.unasked, self.back = False, None

    def opened(self) -> None:
        """Who is in front has opened one of its virtual devices."""
        if self.back is not None:
            self.back = min(self.back, self.now() + STARTED)

    def timeout(self) -> float | None:
        """Seconds until the terminal before is to come back; None where it is not."""
        return None if self.back is None else max(0.0, self.back - self.now())
