"""Which virtual device gets an event of a real one, if any does? Nothing here touches a device.

Events go to the environment whose terminal is active, in whole frames. What an environment was told is
pressed or touched is remembered, and taken back when its terminal is left or the real device goes away.
"""

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .codes import (
    ABS_MT_SLOT,
    ABS_MT_TRACKING_ID,
    EV_ABS,
    EV_KEY,
    EV_LED,
    EV_REL,
    EV_SYN,
    EVENT,
    FINE,
    FINE_WHEELS,
    FIRST_MT,
    HOST_KEYS,
    LAST_MT,
    LEDS,
    PRESSED,
    RELEASED,
    REPORT,
    SYN_DROPPED,
    SYN_REPORT,
    TRANSLATED,
    Event,
)
from .shapes import TOP, Routes

LONGEST_FRAME = 1024  # events; a device that never ends its frame must not fill the memory
MOST_MOVEMENTS = 64


class Delivery(NamedTuple):
    """Events for one virtual device of one environment."""

    environment: str
    clone: str
    events: tuple[Event, ...]


@dataclass
class Source:
    """A real device while it is read."""

    routes: Routes
    frame: list[Event] = field(default_factory=list)
    dropping: bool = False
    slot: int = 0
    told_slot: int | None = None
    contacts: set[int] = field(default_factory=set)
    movements: dict[tuple[int, ...], bool] = field(default_factory=dict)
    """Kinds and codes of whole reads, and whether they are nothing but movements."""


class Router:
    """``terminals`` names the environment of each VT; all others are the host's, to whom nothing is sent."""

    def __init__(self, terminals: Mapping[int, str]) -> None:
        self.terminals = dict(terminals)
        self.active: str | None = None
        self.sources: dict[str, Source] = {}
        self.held: dict[tuple[str, int], set[str]] = {}
        """Virtual device and key, and the real devices that hold it: of the active environment."""
        self.leds: dict[str, dict[int, int]] = {}

    def switch(self, vt: int) -> list[Delivery]:
        """Another terminal is active. What the left environment was told is pressed is taken back.

        Real devices have to be opened anew after this: what they had to say before is nobody's.
        """
        left = [d for name in list(self.sources) for d in self.remove(name)]
        self.active = self.terminals.get(vt)
        self.held.clear()
        return left

    def add(self, name: str, routes: Routes) -> None:
        """A real device is read from now on."""
        self.sources[name] = Source(routes, slot=routes.slot)

    def remove(self, name: str) -> list[Delivery]:
        """A real device is not read any more."""
        source = self.sources.pop(name, None)
        return self.let_go(name, source) if source else []

    def read(self, name: str, events: list[Event]) -> list[Delivery]:
        """What follows from events of a real device, which were read while the terminal was active."""
        source = self.sources.get(name)
        if source is None or self.active is None:
            return []
        out: list[Delivery] = []
        for event in events:
            if event.kind == EV_SYN and event.code == SYN_REPORT:
                if not source.dropping:
                    out += self.finish(name, source)
                source.frame, source.dropping = [], False
            elif (event.kind == EV_SYN and event.code == SYN_DROPPED) or len(source.frame) >= LONGEST_FRAME:
                # events were lost, releases perhaps among them
                out += self.let_go(name, source)
                source.frame, source.dropping = [], True
            elif not source.dropping:
                source.frame.append(event)
        return out

    def as_it_is(self, name: str, data: bytes) -> tuple[str, str] | None:
        """Environment and virtual device that may take these bytes as they are: mice report their movements
        a thousand times a second, and there is nothing to decide about them."""
        source = self.sources.get(name)
        if source is None or self.active is None or source.frame or source.dropping:
            return None
        if source.routes.relative is None:
            return None
        found = kinds_and_codes(len(data)).unpack(data)
        moves = source.movements.get(found)
        if moves is None:
            moves = is_movement(found, source.routes)
            if len(source.movements) < MOST_MOVEMENTS:
                source.movements[found] = moves
        return (self.active, source.routes.relative) if moves else None

    def led(self, environment: str, event: Event) -> bool:
        """An environment sets a light; whether it shines now, or only when its terminal is active again."""
        if event.kind != EV_LED or event.code not in LEDS:
            return False
        self.leds.setdefault(environment, {})[event.code] = 1 if event.value else 0
        return environment == self.active

    def lights(self) -> dict[int, int]:
        """Which lights shine now: as the active environment set them, and none that only another has set."""
        return {code: self.leds.get(self.active or "", {}).get(code, 0) for code in LEDS}

    # --- frames

    def finish(self, name: str, source: Source) -> list[Delivery]:
        """A whole frame, sorted by the virtual devices that it goes to."""
        frames: dict[str, list[Event]] = {}
        for event in source.frame:
            clone = source.routes.of(event)
            if clone is None:
                continue
            frames.setdefault(clone, []).extend(self.translated(name, source, clone, event))
        return [self.frame(clone, events) for clone, events in frames.items() if events]

    def frame(self, clone: str, events: list[Event]) -> Delivery:
        assert self.active is not None
        return Delivery(self.active, clone, (*events, REPORT))

    def translated(self, name: str, source: Source, clone: str, event: Event) -> list[Event]:
        if event.kind == EV_KEY:
            return self.key(name, clone, event)
        if event.kind == EV_ABS and FIRST_MT <= event.code <= LAST_MT:
            return touched(source, event)
        if event.kind == EV_ABS and event.code in source.routes.scales:
            low, high = source.routes.scales[event.code]
            value = (min(max(event.value, low), high) - low) * TOP // max(1, high - low)
            return [Event(EV_ABS, event.code, value)]
        if event.kind == EV_REL and event.code in source.routes.coarse:
            return [event, Event(EV_REL, FINE_WHEELS[event.code], event.value * FINE)]
        return [event]

    def key(self, name: str, clone: str, event: Event) -> list[Event]:
        """Keys go down with the first device that presses them, and up with the last that lets go.

        Repeats are left to the reader; a key that went down elsewhere does not come up here.
        """
        code = TRANSLATED.get(event.code, event.code)
        if event.code in HOST_KEYS or event.value not in (PRESSED, RELEASED):
            return []
        holders = self.held.setdefault((clone, code), set())
        before = bool(holders)
        (holders.add if event.value == PRESSED else holders.discard)(name)
        if not holders:
            del self.held[clone, code]
        return [Event(EV_KEY, code, event.value)] if before != bool(holders) else []

    def let_go(self, name: str, source: Source) -> list[Delivery]:
        """Take back what this device pressed and touched."""
        frames: dict[str, list[Event]] = {}
        if source.contacts and source.routes.absolute:
            ended = frames.setdefault(source.routes.absolute, [])
            for slot in sorted(source.contacts):
                ended += [Event(EV_ABS, ABS_MT_SLOT, slot), Event(EV_ABS, ABS_MT_TRACKING_ID, -1)]
            source.contacts.clear()
            source.told_slot = None
        for clone, code in sorted(key for key, holders in self.held.items() if name in holders):
            events = self.key(name, clone, Event(EV_KEY, code, RELEASED))
            frames.setdefault(clone, []).extend(events)
        return [self.frame(clone, events) for clone, events in frames.items() if events and self.active]


@functools.cache
def kinds_and_codes(size: int) -> struct.Struct:
    return struct.Struct("@" + "16xHH4x" * (size // EVENT.size))


def is_movement(found: tuple[int, ...], routes: Routes) -> bool:
    """Whether kinds and codes are whole frames of relative axes, none of which has to be translated."""
    pairs = list(zip(found[::2], found[1::2], strict=True))
    return pairs[-1:] == [(EV_SYN, SYN_REPORT)] and all(
        (kind == EV_REL and code not in routes.coarse) or (kind, code) == (EV_SYN, SYN_REPORT)
        for kind, code in pairs
    )


def touched(source: Source, event: Event) -> list[Event]:
    """Multi-touch (protocol B): only contacts that began here, each said to be of its slot."""
    if event.code == ABS_MT_SLOT:
        source.slot = event.value
        return []
    out = []
    if event.code == ABS_MT_TRACKING_ID:
        begun = source.slot in source.contacts
        if event.value < 0 and not begun:
            return []
        (source.contacts.discard if event.value < 0 else source.contacts.add)(source.slot)
    elif source.slot not in source.contacts:
        return []
    if source.told_slot != source.slot:
        out.append(Event(EV_ABS, ABS_MT_SLOT, source.slot))
        source.told_slot = source.slot
    return [*out, event]
