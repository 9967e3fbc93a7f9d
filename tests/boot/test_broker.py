"""Does the input broker, on a real kernel, tell each environment what was typed to it, and nothing else?"""

from collections.abc import Iterator

import pytest

from builder.machine.input import send
from builder.machine.machine import Machine
from builder.machine.ready import READY
from builder.machine.shell import until
from tests.support.bootedseat import BootedSeat
from tests.support.brokerguest import HOST, KEYS, SERVICE, TERMINALS, TEXT, BrokerGuest, Told

ALPHA, BETA = TERMINALS["alpha"], TERMINALS["beta"]
EV_KEY, EV_REL, EV_ABS = 1, 2, 3
WHEEL, WHEEL_HI_RES = 8, 11
SLOT, MT_X, TRACKING = 0x2F, 0x35, 0x39

LIGHTS = """
import fcntl, glob
for name in glob.glob("/sys/class/input/event*/device/name"):
    if open(name).read().strip() == "QEMU Virtio Keyboard":
        with open("/dev/input/" + name.split("/")[4], "rb") as device:  # EVIOCGLED: a bit for each
            print(fcntl.ioctl(device, 0x80084519, bytes(8))[0])
"""
CAPS_LOCK = "2"
SHINE = """
import struct
with open("/dev/seatsmith/alpha/keyboard", "wb", 0) as device:
    device.write(struct.pack("@llHHi", 0, 0, 17, 1, {value}) + struct.pack("@llHHi", 0, 0, 0, 0, 0))
"""
PRESS = """
import struct
with open("/dev/seatsmith/{environment}/keyboard", "wb", 0) as device:
    for value in (1, 0):
        device.write(struct.pack("@llHHi", 0, 0, 1, 30, value) + struct.pack("@llHHi", 0, 0, 0, 0, 0))
"""
SHAPES = """
import evdev, glob
for node in sorted(glob.glob("/dev/input/event*")):
    device = evdev.InputDevice(node)
    if "MultiTouch" in device.name:
        found = device.capabilities(absinfo=True)
        axes = {code: tuple(info)[1:] for code, info in found[3]}
        print(tuple(device.info), device.name, sorted(found[1]), axes, device.input_props())
"""
HANG = """
import fcntl, struct
with open("/dev/tty10") as terminal:  # KDSKBMODE: what a desktop sets, so that it alone sees the keys
    fcntl.ioctl(terminal, 0x4B45, {mode})
with open("/dev/tty10") as terminal:
    print(*struct.unpack("i", fcntl.ioctl(terminal, 0x4B44, bytes(4))))
"""
UNASKED = """
import fcntl, os, struct, time
with open("/dev/tty10") as terminal:
    if not os.fork():  # VT_SETMODE: the kernel asks a process that is dead whether it lets go
        fcntl.ioctl(terminal, 0x5602, struct.pack("=2b3h", 1, 0, 10, 12, 0))
        os._exit(0)
    os.wait()
    fcntl.ioctl(terminal, 0x5606, 10)  # VT_ACTIVATE
    deadline = time.monotonic() + 60
    while open("/sys/class/tty/tty0/active").read().strip() != "tty10" and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    print(*struct.unpack("i", fcntl.ioctl(terminal, 0x4B44, bytes(4))))
"""
K_XLATE, K_OFF = 1, 4


@pytest.fixture(scope="module")
def guest(booted: BootedSeat) -> Iterator[BrokerGuest]:
    assert booted.boot.outcome == "passed", booted.boot.message
    hardware = booted.subject.hardware()
    with Machine(booted.tools, hardware, name="broker", overlay=booted.overlay) as machine:
        machine.start(paused=True)
        machine.load_snapshot(READY)
        machine.wait_for_agent()
        guest = BrokerGuest(machine)
        guest.install()
        guest.go(TEXT)
        yield guest


def key(environment: str, letter: str, value: int) -> Told:
    return Told(environment, "keyboard", EV_KEY, KEYS[letter], value)


def test_every_environment_has_its_virtual_devices_and_the_host_takes_none(guest: BrokerGuest) -> None:
    log = "/var/log/Xorg.0.log"
    guest.host.succeed(f"grep -i 'virtio keyboard' {log}")
    for name in TERMINALS:
        found = guest.host.succeed(f"ls /dev/seatsmith/{name}").split()
        assert {"keyboard", "mouse", "pointer"} <= set(found)
        for node in guest.host.succeed(f"readlink -f /dev/seatsmith/{name}/*").split():
            guest.host.fail(f"grep -w {node} {log}")


def test_what_is_typed_across_switches_never_comes_after_one_to_the_other_side(guest: BrokerGuest) -> None:
    guest.record()
    script = [("alpha", "abcdef"), ("beta", "ghijkl"), ("", "mnop"), ("alpha", "qrst"), ("beta", "uvwx")]
    for name, word in script:  # no waiting: letters are under way while the terminal is switched
        guest.machine.send_key(f"ctrl-alt-f{TERMINALS.get(name, TEXT)}")
        guest.machine.type_text(word)
    guest.wait_active(BETA)
    guest.machine.type_text("z")
    guest.wait_told(key("beta", "z", 0))
    turn = {letter: number for number, (_, word) in enumerate(script) for letter in word}
    for name in TERMINALS:
        heard = guest.letters(name).replace("z", "")
        assert len(set(heard)) == len(heard)
        for letter in heard:
            begun, before = turn[letter], script[turn[letter] - 1][0]
            # a terminal is active for a moment after the keys that leave it, never before those that enter
            assert script[begun][0] == name or (begun and before == name), (name, letter, heard)


def test_a_held_key_comes_up_where_it_went_down_and_nowhere_else(guest: BrokerGuest) -> None:
    guest.go(ALPHA)
    guest.record()
    guest.key("a", down=True)
    guest.wait_told(key("alpha", "a", 1))
    guest.go(BETA)
    found = guest.wait_told(key("alpha", "a", 0))
    guest.key("a", down=False)
    guest.machine.send_key("b")
    found = guest.wait_told(key("beta", "b", 0))
    assert [t for t in found if t.code == KEYS["a"]] == [key("alpha", "a", 1), key("alpha", "a", 0)]


def test_the_host_keeps_its_keys_to_itself(guest: BrokerGuest) -> None:
    guest.go(HOST)
    guest.record()
    guest.machine.send_key("shift")
    guest.go(TEXT)
    guest.machine.type_text("secret")
    assert guest.told() == []


def test_function_keys_leave_an_environment_whose_desktop_hangs(guest: BrokerGuest) -> None:
    guest.go(ALPHA)
    assert guest.python(HANG.format(mode=K_OFF)).split() == [str(K_OFF)]
    guest.go(BETA)
    guest.go(ALPHA)
    guest.python(HANG.format(mode=K_XLATE))
    guest.go(TEXT)


def test_the_console_of_who_comes_by_itself_hears_nothing_though_the_kernel_turns_it_on(
    guest: BrokerGuest,
) -> None:
    guest.go(HOST)
    guest.record()
    assert guest.python(UNASKED).split() == [str(K_OFF)]
    guest.machine.type_text("secret")
    assert guest.told() == []
    guest.go(TEXT)
    guest.go(ALPHA)
    guest.machine.send_key("a")
    guest.wait_told(key("alpha", "a", 0))  # and the keyboard is everybody's again


def test_only_in_front_can_an_environment_press_keys_of_its_own_devices(guest: BrokerGuest) -> None:
    guest.go(BETA)
    guest.record()
    guest.python(PRESS.format(environment="alpha"))
    guest.python(PRESS.format(environment="beta"))
    guest.wait_told(key("beta", "a", 0))
    assert [t for t in guest.told() if t.environment == "alpha"] == []


def test_lights_follow_the_environment_in_front(guest: BrokerGuest) -> None:
    guest.go(ALPHA)
    guest.python(SHINE.format(value=1))

    def shines(expected: str) -> None:
        until(lambda: guest.python(LIGHTS).strip() == expected, f"lights {expected}", timeout=45)

    shines(CAPS_LOCK)
    guest.go(BETA)
    shines("0")
    guest.python(SHINE.format(value=1))
    assert guest.python(LIGHTS).strip() == "0"
    guest.go(ALPHA)
    # at each switch the kernel's console puts all lights out; a desktop sets its own again
    guest.python(SHINE.format(value=0) + SHINE.format(value=1))
    shines(CAPS_LOCK)
    guest.python(SHINE.format(value=0))
    shines("0")


def test_a_keyboard_that_is_plugged_in_types_and_one_pulled_out_lets_go(guest: BrokerGuest) -> None:
    guest.go(ALPHA)
    guest.record()
    guest.plug("keyboard", "second")
    guest.key("p", down=True)
    guest.wait_told(key("alpha", "p", 1))
    guest.machine.unplug("second")
    guest.wait_told(key("alpha", "p", 0))
    guest.machine.send_key("q")
    guest.wait_told(key("alpha", "q", 0))


def test_a_wheel_turns_by_its_fine_steps_too(guest: BrokerGuest) -> None:
    guest.go(ALPHA)
    guest.record()
    guest.plug("usb-mouse", "mouse")
    for down in (True, False):
        send(guest.machine.monitor, ("btn", {"down": down, "button": "wheel-up"}))
    send(guest.machine.monitor, ("rel", {"axis": "x", "value": 7}))
    found = guest.wait_told(
        Told("alpha", "mouse", EV_REL, WHEEL, 1),
        Told("alpha", "mouse", EV_REL, WHEEL_HI_RES, 120),
        Told("alpha", "mouse", EV_REL, 0, 7),
    )
    assert {t.environment for t in found} == {"alpha"}
    guest.machine.unplug("mouse")


def test_a_touch_screen_is_cloned_as_it_is_and_fingers_are_lifted_at_a_switch(guest: BrokerGuest) -> None:
    guest.plug("multitouch", "touchscreen")
    shapes = guest.python(SHAPES).splitlines()
    assert len(shapes) > len(TERMINALS), "the real one, and one for each environment"
    assert len(set(shapes)) == 1, "the same axes, buttons, properties, identity and name"
    guest.go(ALPHA)
    guest.record()

    def finger(kind: str, slot: int, ident: int, **data: object) -> tuple[str, dict[str, object]]:
        return "mtt", {"type": kind, "slot": slot, "tracking-id": ident, "axis": "x", "value": 0, **data}

    monitor = guest.machine.monitor
    for slot in (0, 1):
        send(monitor, finger("begin", slot, slot + 5), finger("data", slot, slot + 5, value=1000 + slot))

    def contacts(count: int) -> list[tuple[str, bool]]:
        def seen() -> list[Told]:
            return [t for t in guest.told() if t.code == TRACKING]

        until(lambda: len(seen()) >= count, f"{count} contacts begin or end", timeout=45)
        return [(t.environment, t.value >= 0) for t in seen()]

    assert contacts(2) == [("alpha", True)] * 2
    guest.go(BETA)
    assert contacts(4)[2:] == [("alpha", False)] * 2
    send(monitor, finger("data", 1, 6, value=2000))
    for slot in (0, 1):
        send(monitor, finger("end", slot, -1))
    guest.machine.send_key("x")
    found = guest.wait_told(key("beta", "x", 0))
    assert [t for t in found if t.environment == "beta" and t.kind == EV_ABS] == []
    guest.machine.unplug("touchscreen")


def test_readers_keep_their_devices_when_the_broker_is_restarted_or_killed(guest: BrokerGuest) -> None:
    guest.go(ALPHA)
    guest.record()
    before = guest.host.succeed("ls -l /dev/seatsmith/*")
    guest.host.succeed(f"systemctl restart {SERVICE}")
    guest.machine.send_key("r")
    guest.wait_told(key("alpha", "r", 0))
    guest.key("k", down=True)
    guest.wait_told(key("alpha", "k", 1))
    guest.host.succeed(f"systemctl kill -s KILL {SERVICE}")
    guest.wait_told(key("alpha", "k", 0))
    guest.host.wait_until_succeeds(f"systemctl is-active {SERVICE}", timeout=30)
    guest.key("k", down=False)
    guest.machine.send_key("s")
    guest.wait_told(key("alpha", "s", 0))
    assert guest.host.succeed("ls -l /dev/seatsmith/*") == before


def test_an_environments_nodes_are_its_own_devices_and_open_to_its_own_users(guest: BrokerGuest) -> None:
    place = "/run/seatsmith/devices"
    guest.host.succeed("mkdir -p /var/lib/machines/alpha")
    mount = f"mount -t tmpfs -o nosuid,noexec,mode=0755 devices {place}"
    guest.host.succeed(f"mkdir -p {place} && (mountpoint -q {place} || {mount})")
    guest.host.succeed("PYTHONPATH=/usr/lib/seatsmith python3 -B -P -m broker.nodes alpha")
    found = guest.host.succeed(f"cd {place}/alpha && stat -c '%n %u %g %a %t:%T' tty input/*").splitlines()
    assert found[0] == f"tty 524288 524293 620 4:{ALPHA:x}"
    wanted = guest.host.succeed("for n in /dev/seatsmith/alpha/*; do basename $(readlink $n); done").split()
    assert {line.split()[0] for line in found[1:]} == {f"input/{name}" for name in wanted}
    guest.go(ALPHA)
    as_root_inside = "setpriv --reuid 524288 --regid 524288 --clear-groups"
    (node, *_) = wanted
    guest.host.succeed(f"{as_root_inside} dd if={place}/alpha/input/{node} of=/dev/null count=0")
    guest.host.fail(f"{as_root_inside} dd if=/dev/input/{node} of=/dev/null count=0")
    guest.host.succeed(f"grep -rh ID_INPUT_KEYBOARD=1 {place}/alpha/udev")
    guest.host.fail(f"grep -r ID_SEAT {place}/alpha/udev")
