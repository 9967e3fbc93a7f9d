"""builder.render.strict: what does a container with ``isolation: strict`` get, and what not?"""

import ipaddress
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.broker.environments import PLACE, load_environments
from builder.broker.nodes import NODES
from builder.profile import Profile
from builder.render import render_host_bundle
from builder.render import strict as strict_mode
from builder.render.access import Bind
from builder.render.devices import device_access
from builder.render.strict import FIRST_UID, UIDS, cable, uid_base
from tests.support.render import picture, profile, shared, without_programs

HIGHEST_OF_CONTAINERS = 1879048191  # systemd.io/UIDS-GIDS


def strict(name: str = "work", **settings: object) -> Profile:
    return profile(name, isolation="strict", **settings)


def bundle(tmp_path: Path, **settings: object) -> Path:
    render_host_bundle(strict(**settings), tmp_path, host_user="user")
    return tmp_path


@pytest.mark.parametrize("isolation", ["shared", "strict"])
def test_the_bundle_of_a_container_is_as_reviewed(
    isolation: str, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    render_host_bundle(profile(isolation=isolation), tmp_path, host_user="user")
    golden(f"render/work-{isolation}.txt", picture(without_programs(tmp_path)))


def test_a_container_is_strict_where_its_profile_says_nothing() -> None:
    assert profile().isolation == "strict"


def nspawn_lines(profile: Profile, key: str) -> list[str]:
    return [value for name, value in device_access(profile).limits.lines if name == key]


def test_capabilities_and_calls_that_no_desktop_needs_are_taken_away() -> None:
    (dropped,) = nspawn_lines(strict(), "DropCapability")
    assert {"CAP_SYS_PTRACE", "CAP_MKNOD"} < set(dropped.split())
    (calls,) = nspawn_lines(strict(), "SystemCallFilter")
    assert calls.startswith("~") and {"bpf", "perf_event_open"} < set(calls[1:].split())
    assert nspawn_lines(strict(), "Capability") == []


def test_a_profile_gets_the_privileges_that_it_asks_for() -> None:
    wanted = strict(privileges={"capabilities": ["sys_ptrace", "perfmon"], "system_calls": ["bpf", "@pkey"]})
    (dropped,) = nspawn_lines(wanted, "DropCapability")
    assert "CAP_SYS_PTRACE" not in dropped.split()
    assert nspawn_lines(wanted, "Capability") == ["CAP_PERFMON"]  # nspawn leaves sys_ptrace by itself
    allowed, refused = nspawn_lines(wanted, "SystemCallFilter")
    assert allowed == "bpf @pkey"
    assert "bpf" not in refused.split() and "perf_event_open" in refused.split()


def test_nothing_is_taken_from_a_shared_container() -> None:
    assert device_access(shared()).limits.lines == []


def test_user_ids_of_two_terminals_never_overlap() -> None:
    terminals = [vt for vt in range(2, 64) if vt != 7]
    bases = [uid_base(strict(display={"vt": vt})) for vt in terminals]
    assert all(later - earlier >= UIDS for earlier, later in itertools.pairwise(bases))
    assert bases[0] == FIRST_UID
    assert bases[-1] + UIDS - 1 <= HIGHEST_OF_CONTAINERS


def test_user_ids_follow_from_the_terminal_and_not_from_the_name() -> None:
    assert uid_base(strict("a")) == uid_base(strict("b"))


def test_the_container_lives_in_a_user_namespace_and_nothing_is_chowned(tmp_path: Path) -> None:
    text = (bundle(tmp_path) / "etc/systemd/nspawn/work.nspawn").read_text()
    assert f"PrivateUsers={uid_base(strict())}:65536\n" in text
    assert "PrivateUsersOwnership=map\n" in text


def test_capabilities_that_no_desktop_needs_are_dropped(tmp_path: Path) -> None:
    text = (bundle(tmp_path) / "etc/systemd/nspawn/work.nspawn").read_text()
    dropped = re.findall(r"^DropCapability=(.*)$", text, re.M)[0].split()
    assert {
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SYS_PTRACE",
        "CAP_SYS_TTY_CONFIG",
        "CAP_DAC_READ_SEARCH",
    } <= set(dropped)
    assert "CAP_SYS_ADMIN" not in dropped  # systemd mounts
    assert "CAP_SYS_BOOT" not in dropped  # a container that restarts would only end


def test_nothing_of_the_hosts_own_devices_is_bound() -> None:
    sources = [bind.source for bind in device_access(strict(devices={"extra": ["/dev/video0"]})).binds]
    assert "/etc/seatsmith/network/work.network" in sources
    devices = [source for source in sources if not source.startswith("/etc/seatsmith/network/")]
    assert devices
    assert all(source.startswith("/run/seatsmith/devices/work/") for source in devices)


def test_both_ends_of_the_cable_are_in_one_network_that_no_other_terminal_has(tmp_path: Path) -> None:
    tree = bundle(tmp_path)
    files = ("etc/systemd/network/50-seat-ve-work.network", "etc/seatsmith/network/work.network")
    host, container = ((tree / name).read_text() for name in files)
    ends = [re.findall(r"^Address=(.*)$", text, re.M)[0] for text in (host, container)]
    networks = {ipaddress.ip_interface(end).network for end in ends}
    assert len(set(ends)) == 2
    assert len(networks) == 1
    assert ends[0].partition("/")[0] in re.findall(r"^Gateway=(.*)$", container, re.M)
    assert "DHCP=" not in host + container
    third = cable(strict("third", display={"vt": 9}))
    assert ipaddress.ip_interface(f"{third.host}/{third.prefix}").network not in networks


def test_the_way_out_leads_to_no_other_container_and_no_address_is_forged(tmp_path: Path) -> None:
    network = (bundle(tmp_path) / "etc/systemd/network/50-seat-ve-work.network").read_text()
    section = network.partition("[RoutingPolicyRule]\n")[2].partition("\n\n")[0]
    rule = dict(line.split("=", 1) for line in section.splitlines())
    assert (rule["IncomingInterface"], rule["Type"], rule["Family"]) == ("ve-work", "prohibit", "ipv4")
    assert 0 < int(rule["Priority"]) < 32766  # between the tables local and main: ip-rule(8)
    for vt in (vt for vt in range(2, 64) if vt != 7):
        other = cable(strict("other", display={"vt": vt}))
        assert ipaddress.ip_address(other.container) in ipaddress.ip_network(rule["To"])
    assert "IPv4ReversePathFilter=strict\n" in network
    assert "IPMasquerade=ipv4\n" in network, "for IPv6 there is no such filter"


def test_the_host_asks_the_container_for_no_names_and_tells_it_nothing_of_itself(tmp_path: Path) -> None:
    network = (bundle(tmp_path) / "etc/systemd/network/50-seat-ve-work.network").read_text()
    assert {"LLMNR=no", "MulticastDNS=no", "LLDP=no", "EmitLLDP=no"} <= set(network.splitlines())


def tun_lines(tree: Path, name: str = "work") -> list[str]:
    drop_in = f"etc/systemd/system/systemd-nspawn@{name}.service.d/50-seatsmith.conf"
    return re.findall(r"^DeviceAllow=(?:|/dev/net/tun .*)$", (tree / drop_in).read_text(), re.M)


def test_it_makes_no_network_card_by_tun_unless_its_profile_has_it(tmp_path: Path) -> None:
    # nspawn has to make the node, in whose user namespace nobody can: else it binds, and chowns, the host's
    assert tun_lines(bundle(tmp_path)) == ["DeviceAllow=", "DeviceAllow=/dev/net/tun m"]
    tree = bundle(tmp_path / "asked", devices={"extra": ["/dev/net/tun"]})
    assert tun_lines(tree) == ["DeviceAllow=", "DeviceAllow=/dev/net/tun rwm"]


def test_the_host_answers_where_the_container_asks_for_names(tmp_path: Path) -> None:
    tree = bundle(tmp_path)
    asks = (tree / "etc/seatsmith/network/work.network").read_text()
    answers = (tree / "etc/systemd/resolved.conf.d/50-seatsmith-work.conf").read_text()
    server = re.findall(r"^DNS=(.*)$", asks, re.M)
    assert server
    assert server == re.findall(r"^DNSStubListenerExtra=(.*)$", answers, re.M)


def test_tty0_is_the_containers_own_terminal() -> None:
    access = device_access(strict())
    assert Bind(f"{NODES}/work/tty", "/dev/tty0") in access.binds
    assert "/dev/tty0" not in access.allow


def test_the_real_input_devices_may_not_be_opened(tmp_path: Path) -> None:
    drop_in = "etc/systemd/system/systemd-nspawn@work.service.d/50-seatsmith.conf"
    allowed = re.findall(r"^DeviceAllow=(\S*)", (bundle(tmp_path) / drop_in).read_text(), re.M)
    assert "char-input" not in allowed
    assert [node for node in allowed if "seatsmith" in node] == [
        f"/dev/seatsmith-given/work/{number}" for number in range(7)
    ]


def test_devices_that_the_profile_withholds_are_neither_bound_nor_allowed_nor_made(tmp_path: Path) -> None:
    tree = bundle(tmp_path, devices={"gpu": False, "input": False})
    access = device_access(strict(devices={"gpu": False, "input": False}))
    assert [bind.target for bind in access.binds] == [
        "/dev/tty8",
        "/dev/tty0",
        "/run/udev/data",
        "/run/systemd/network/10-host0.network",
    ]
    assert access.allow == ("/dev/tty8",)
    unit = (tree / "etc/systemd/system/seatsmith-devices@work.service.d/50-seatsmith.conf").read_text()
    assert "drm" not in unit
    assert "input" not in unit
    assert "seatsmith-broker" not in unit


def test_extra_devices_are_made_bound_and_allowed(tmp_path: Path) -> None:
    access = device_access(strict(devices={"extra": ["/dev/sub/seq"]}))
    assert Bind(f"{NODES}/work/extra/sub-seq", "/dev/sub/seq") in access.binds
    assert "/dev/sub/seq" in access.allow


def test_the_sound_servers_directory_is_its_own_read_only_and_keeps_its_owner(tmp_path: Path) -> None:
    text = (bundle(tmp_path) / "etc/systemd/nspawn/work.nspawn").read_text()
    assert "BindReadOnly=/run/seatsmith/sound/work:/run/pulse-shared:idmap\n" in text
    rules = "\n".join(path.read_text() for path in sorted((tmp_path / "etc/tmpfiles.d").iterdir()))
    assert "d /run/seatsmith/sound/work 0700 user user" in rules
    # whoever owned a directory above it could put a link to any directory of the host in its place
    for above in ("/run/seatsmith", "/run/seatsmith/sound"):
        assert re.search(rf"^d +{above} +0755 root root -$", rules, re.MULTILINE), above


@pytest.mark.parametrize("microphone", [False, True])
def test_it_may_record_only_where_the_profile_says_so(microphone: bool, tmp_path: Path) -> None:
    units = bundle(tmp_path, audio={"microphone": microphone}) / "etc/systemd/user"
    pulseaudio = (units / "seatsmith-sound-pulseaudio-work.service").read_text()
    assert "module-tunnel-sink" in pulseaudio
    assert ("module-tunnel-source" in pulseaudio) == microphone
    pipewire = (tmp_path / "etc/seatsmith/sound/work-tunnel.conf").read_text()
    assert "tunnel.mode = sink" in pipewire
    assert ("tunnel.mode = source" in pipewire) == microphone


def test_its_sound_server_starts_with_whichever_the_host_has(tmp_path: Path) -> None:
    units = bundle(tmp_path) / "etc/systemd/user"
    for server, unit in (("pulseaudio", "pulseaudio"), ("pipewire-pulse", "pipewire")):
        link = units / f"{server}.service.wants/seatsmith-sound-{unit}-work.service"
        assert link.resolve() == units / link.name
        assert "ConditionUser=user\n" in link.read_text()
        assert f"After={server}.service\n" in link.read_text()


def test_no_door_of_the_hosts_own_sound_server_is_opened_for_it(tmp_path: Path) -> None:
    bundle(tmp_path)
    assert not list((tmp_path / "etc").glob("pulse/**/*.pa"))
    assert not list((tmp_path / "etc").glob("pipewire/**/*.conf"))


def test_without_sound_it_is_given_none(tmp_path: Path) -> None:
    text = picture(without_programs(bundle(tmp_path, audio={"server": "none"})))
    assert "pulse" not in text
    assert "pipewire" not in text


def test_nspawn_makes_nothing_where_the_containers_own_links_may_lead(tmp_path: Path) -> None:
    unit = bundle(tmp_path) / "etc/systemd/system/systemd-nspawn@work.service.d/50-seatsmith.conf"
    assert re.findall(r"--link-journal=(\S+)", unit.read_text()) == ["no"]


def test_strict_containers_do_not_reach_a_shared_one_either(tmp_path: Path) -> None:
    render_host_bundle(shared(), tmp_path, host_user="user")
    network = (tmp_path / "etc/systemd/network/50-seat-ve-work.network").read_text()
    (address,) = re.findall(r"^Address=(.*)$", network, re.M)
    there = ipaddress.ip_interface(address).network
    assert there.subnet_of(ipaddress.ip_network(strict_mode.BLOCK))
    for vt in (vt for vt in range(2, 64) if vt != 7):
        assert ipaddress.ip_address(cable(strict(display={"vt": vt})).host) not in there


def test_a_container_uses_up_neither_the_hosts_memory_nor_its_journal(tmp_path: Path) -> None:
    unit = bundle(tmp_path) / "etc/systemd/system/systemd-nspawn@work.service.d/50-seatsmith.conf"
    assert {"MemoryMax=80%", "LogRateLimitBurst=1000"} <= set(unit.read_text().splitlines())


def test_the_kernel_loads_no_rare_protocol_because_a_container_asks_for_it(tmp_path: Path) -> None:
    text = (bundle(tmp_path) / "usr/lib/modprobe.d/50-seatsmith.conf").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"blacklist \w+", line) for line in lines), "install= would end modprobe as well"
    assert {"blacklist rds", "blacklist tipc", "blacklist vsock_loopback"} <= set(lines)


def test_a_shared_container_has_nothing_of_all_this(tmp_path: Path) -> None:
    render_host_bundle(shared(), tmp_path, host_user="user")
    text = picture(tmp_path)
    assert "PrivateUsers=no\n" in text
    assert "broker" not in text
    assert "seatsmith/environments" not in text


def test_the_programs_of_the_host_read_what_is_rendered_for_them(tmp_path: Path) -> None:
    tree = bundle(tmp_path, devices={"extra": ["/dev/video0"]})
    render_host_bundle(strict("third", display={"vt": 9}), tree, host_user="user")
    third, work = load_environments(tree / PLACE.relative_to("/"))
    assert (work.name, work.vt, work.uid_base) == ("work", 8, uid_base(strict()))
    assert (work.gpu, work.input, work.extra) == (True, True, ("/dev/video0",))
    assert third.uid_base - work.uid_base == UIDS


def test_the_broker_is_carried_whole_and_imports_nothing_else_of_the_builder(tmp_path: Path) -> None:
    package = bundle(tmp_path) / strict_mode.PROGRAM
    assert {p.name for p in package.iterdir()} == {p.name for p in Path("builder/broker").glob("*.py")}
    for source in package.iterdir():
        for module in re.findall(r"^\s*(?:from|import) ([\w.]+)", source.read_text(), re.M):
            top = module.partition(".")[0]
            assert not top or top == "evdev" or top in sys.stdlib_module_names, f"{source.name}: {module}"


def test_the_container_starts_after_its_devices_and_those_after_the_broker(tmp_path: Path) -> None:
    tree = bundle(tmp_path) / "etc/systemd/system"
    container = (tree / "systemd-nspawn@work.service.d/50-seatsmith.conf").read_text()
    devices = (tree / "seatsmith-devices@work.service.d/50-seatsmith.conf").read_text()
    assert "Requires=seatsmith-devices@work.service\nAfter=seatsmith-devices@work.service\n" in container
    assert "Wants=seatsmith-broker.service\nAfter=seatsmith-broker.service\n" in devices


def test_the_broker_can_be_restarted_without_the_container(tmp_path: Path) -> None:
    found = [p for p in (bundle(tmp_path) / "etc/systemd/system").rglob("*.conf")]
    assert all("Requires=seatsmith-broker" not in path.read_text() for path in found)
