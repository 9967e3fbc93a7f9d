"""Is a container given its own devices, network and volume, and nothing else?"""

import pytest

from builder.machine.bench import SeatInTest
from builder.machine.errors import Unmet
from builder.machine.evidence import Evidence

pytestmark = pytest.mark.needs("container")
PORT = 47110
SERVE = (
    "setsid -f timeout 60 /usr/bin/python3 -c 'import socket; "
    's=socket.create_server(("{address}",{port})); c=s.accept()[0]; c.sendall(b"hello\\n")\' >/dev/null 2>&1'
)
# Asks the DNS server at the other end of the cable for the host's own name, and prints how many answers came
# (RFC 1035, 4.1: one question of class IN for an address).
ASK_FOR_NAME = (
    "/usr/bin/python3 -c 'import socket; s=socket.socket(type=socket.SOCK_DGRAM); s.settimeout(10); "
    'name=b"{name}"; head=bytes([0,1,1,0,0,1,0,0,0,0,0,0,len(name)]); '
    's.sendto(head+name+bytes([0,0,1,0,1]), ("{server}",53)); '
    "print(s.recv(512)[7])'"
)
EVENT_NODES = "ls -d /dev/input/event*"
TRY_PROBES = (  # prints those that open, and then all
    "for n in probe-*; do if ( exec 9<$n ) 2>/dev/null; then echo $n; fi; done; echo tried probe-*"
)


@pytest.mark.check("A container can read the host's device database and not change it")
@pytest.mark.defect("guest", "cp -a /run/udev/data /run/db && mount --bind /run/db /run/udev/data")
def test_device_database(seat: SeatInTest) -> None:
    inside = seat.guest_shell
    names = inside.run_confined("ls /run/udev/data").output.split()
    assert any(name.startswith("c13:") for name in names), (
        "no input device is in the container's /run/udev/data"
    )
    answer = inside.run_confined("touch /run/udev/data/probe")
    assert answer.status != 0, "a container could write into the host's device database"


@pytest.mark.check("A container cannot open a device that it was not given")
@pytest.mark.defect(
    "host", "systemctl set-property --runtime systemd-nspawn@{guest}.service 'DeviceAllow=block-virtblk rw'"
)
def test_foreign_devices(seat: SeatInTest, evidence: Evidence) -> None:
    host, inside = seat.host.shell, seat.guest_shell
    event = inside.run_confined(f"{EVENT_NODES} | head -n1").output.strip()
    own = {"tty": f"/dev/tty{seat.guest.vt}", "input": event, "graphics": "/dev/dri/card0"}
    for what, path in own.items():
        assert inside.run_confined(f"exec 9<>{path}").status == 0, f"its own {what}, {path}, does not open"
    # The nodes are made by the host on the container's disk, where its own root could not make them.
    root = f"/var/lib/machines/{seat.guest.name}/root"
    nodes = foreign_nodes(seat)
    host.succeed(
        " && ".join(f"mknod {root}/probe-{n} {node[1]} {node[2]} {node[3]}" for n, node in enumerate(nodes))
    )
    answer = inside.run_confined(f"cd /root && {TRY_PROBES}")
    host.succeed(f"rm {root}/probe-*")
    *found, tried = answer.output.splitlines()
    assert len(tried.split()) == 1 + len(nodes), f"not every device was tried: {answer.output}"
    opened = [nodes[int(name.removeprefix("probe-"))][0] for name in found]
    evidence.note(f"{len(nodes)} devices tried: {' '.join(node[0] for node in nodes)}")
    if opened:
        raise Unmet(f"the container could open {', '.join(opened)}")


def foreign_nodes(seat: SeatInTest) -> list[tuple[str, str, int, int]]:
    """Path, type, major and minor number of devices that are none of the container's business.

    A strict container has input devices of its own, and the real ones are among the others.
    """
    terminals = [f"/dev/tty{n}" for n in (1, *(d.vt for d in seat.desktops if d is not seat.guest))]
    events = set(seat.host.shell.succeed(EVENT_NODES).split())
    events -= set(seat.guest.shell.succeed(EVENT_NODES).split())
    others = ["/dev/mem", "/dev/vcsa1", "/dev/uinput", "/dev/fb0", "/dev/snd/controlC0", *sorted(events)]
    listed = " ".join([*terminals, *others])
    text = seat.host.shell.run(f"stat -c '%n|%F|%Hr|%Lr' {listed} /dev/vd* /dev/dm-* 2>/dev/null").output
    rows = [line.split("|") for line in text.splitlines()]
    return [(path, "b" if "block" in kind else "c", int(a), int(b)) for path, kind, a, b in rows]


@pytest.mark.check("A container may not make device nodes")
@pytest.mark.defect(
    "host",
    "systemctl set-property --runtime systemd-nspawn@{guest}.service 'DeviceAllow=block-virtblk rwm'",
    unless="strict",  # in a user namespace nothing allows it
)
def test_no_new_devices(seat: SeatInTest) -> None:
    text = seat.host.shell.succeed("stat -c '%Hr %Lr' /dev/vda")
    answer = seat.guest_shell.run_confined(f"mknod /root/probe b {text.strip()}")
    assert answer.status != 0, "the container's root could make a node of the seat's disk"


@pytest.mark.check("A container has a network of its own and reaches the host by it")
@pytest.mark.needs("network")
@pytest.mark.defect("host", "ip link set ve-{guest} down")
def test_network(seat: SeatInTest, evidence: Evidence) -> None:
    host, guest = seat.host.shell, seat.guest.shell
    guest.wait_until_succeeds("networkctl status host0 | grep -q 'State: routable (configured)'", timeout=30)
    cards = guest.succeed("ls /sys/class/net").split()
    assert sorted(cards) == ["host0", "lo"], f"the container sees the network cards {cards}"
    gateway = guest.succeed("ip -4 route show default dev host0").split()[2]
    host.succeed(SERVE.format(port=PORT, address=gateway))
    read = f"exec 9<>/dev/tcp/{gateway}/{PORT} && read -t 10 -r line <&9 && echo $line"
    said = guest.wait_until_succeeds(read, timeout=30)
    assert said.strip() == "hello"
    evidence.note(f"the container reached the host at {gateway}")


@pytest.mark.check("The host answers a strict container that asks for names")
@pytest.mark.needs("network", "strict")
@pytest.mark.defect("host", "systemctl stop systemd-resolved.service")
def test_names(seat: SeatInTest) -> None:
    guest = seat.guest.shell
    server = guest.succeed("ip -4 route show default dev host0").split()[2]
    assert server in guest.succeed("resolvectl dns host0"), "the container does not ask the host"
    name = seat.host.shell.succeed("cat /proc/sys/kernel/hostname").strip()
    said = guest.wait_until_succeeds(ASK_FOR_NAME.format(name=name, server=server), timeout=30)
    assert int(said) > 0, f"the host did not find its own name {name}"
