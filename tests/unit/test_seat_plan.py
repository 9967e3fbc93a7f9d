"""Is a seat laid out as its file says, the same every time, and refused with numbers where it cannot be?"""

import itertools
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InputError
from builder.project import Project
from builder.seat.load import load_seat
from builder.seat.model import Seat
from builder.seat.overlay import entry_text, loader_conf
from builder.seat.plan import Kind, Plan, extents_of, load_plan, make_plan, size_problems
from builder.seat.show import as_data, as_svg, as_text, rows
from builder.volume import gpt, lvm
from builder.volume.luks import HEADER_SIZE, Pbkdf
from tests.support.seats import BASE, changed, plan_of, put_seat, seat_problems, seat_project

CHECKOUT = Path(__file__).parents[2]
MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return seat_project(tmp_path)


def test_a_plan_has_every_offset_in_the_order_of_the_file(project: Project) -> None:
    plan = plan_of(project, BASE)
    assert (plan.esp.start, plan.esp.size) == (MIB, 128 * MIB)
    assert (plan.pv.start, plan.pv.end) == (129 * MIB, 4 * GIB - MIB)
    assert [(v.name, v.kind) for v in plan.volumes] == [
        ("swap", Kind.SWAP),
        ("work", Kind.LUKS),
        ("private", Kind.LUKS),
    ]
    assert plan.volume("swap").offset == 130 * MIB
    assert plan.volume("work").offset == 194 * MIB
    assert plan.volume("work").environment.payload == 210 * MIB  # type: ignore[union-attr]
    assert plan.free_extents == 0
    assert [e.host for e in plan.entries] == ["private"]


def test_ids_are_the_same_in_every_plan_and_other_ones_under_another_seed_or_name(project: Project) -> None:
    first, again = plan_of(project, BASE), plan_of(project, BASE)
    assert first == again
    seeded, named = plan_of(project, f"seed: '2'\n{BASE}"), plan_of(project, BASE, "other")
    ids = [ids_of(plan) for plan in (first, seeded, named)]
    assert all(len(found) == len(set(found)) == 15 for found in ids)
    assert not set(ids[0]) & set(ids[1])
    assert not set(ids[0]) & set(ids[2])


def ids_of(plan: Plan) -> list[str]:
    own = [plan.disk_id, str(plan.esp.id), str(plan.pv.id), f"{plan.esp_serial:08x}"]
    own += [plan.group.id, plan.group.pv_id]
    own += [v.id for v in plan.volumes] + [v.swap_id for v in plan.volumes if v.swap_id]
    for e in plan.environments:
        own += [e.luks_id, e.filesystem_id]
    return [*own, plan.environments[0].hash_seed]


REFUSED = {
    "two with the rest": (
        changed("size: 1GiB", "size: rest"),
        r"pc.yaml:9:11: environments.private.size: only one can have the rest, and work has it",
    ),
    "too large": (
        changed("size: 1GiB", "size: 5GiB"),
        r"pc.yaml:2:9: disk.size: 4.0 GiB is too small by 1.3 GiB: of 4294967296 bytes the ESP takes "
        r"134217728 and the tables 3145728, which leaves 991 extents of 4 MiB, and the volumes want 1296 "
        r"and private at least 32",
    ),
    "no room for the ESP": (changed("esp: 128MiB", "esp: 5GiB"), r"disk.size: .* leaves 0 extents"),
    "tiny ESP": (
        changed("esp: 128MiB", "esp: 8MiB"),
        r"pc.yaml:3:6: esp: 8.0 MiB is too small; .* 64.0 MiB",
    ),
    "tiny volume": (
        changed("size: 1GiB", "size: 20MiB"),
        r"pc.yaml:7:11: environments.work.size: 20.0 MiB is too small; .* at least 128 MiB, 16 MiB of them",
    ),
    "a volume's name of lvm2's": (
        BASE.replace("  work:\n", "  pvmove:\n    profile: work\n"),
        r"pc.yaml:6:3: environments.pvmove: 'pvmove' has a meaning of its own for volumes",
    ),
    "a second swap": (BASE.replace("  work:\n", "  swap:\n    profile: work\n"), r"pc.yaml:6:3: .*swap"),
    "a group's name with a space": (changed("esp:", "vg: 'v g'\nesp:"), r"pc.yaml:3:5: vg: .*volume group"),
    "a group called ..": (changed("esp:", "vg: ..\nesp:"), r"vg: .*neither . nor .."),
    "VT clash": (
        changed("size: 1GiB", "size: 1GiB\n    vt: 7"),
        r"pc.yaml:\d+:\d+: environments.private: private and work both want VT7",
    ),
    "VT of the boot": (changed("size: 1GiB", "size: 1GiB\n    vt: 1"), r"pc.yaml:8:9: environments.work.vt"),
    "unknown host": (
        changed("host: private", "host: nobody"),
        r"pc.yaml:10:7: host: 'nobody' is no environment of this seat; there are: work, private",
    ),
    "host without a kernel": (
        changed("host: private", "host: work"),
        r"pc.yaml:10:7: host: work cannot be the host: its profile does not say `bootable: true`",
    ),
    "second host without a kernel": (
        BASE + "hosts: [private, work]\n",
        r"pc.yaml:11:8: hosts: work cannot be the host",
    ),
    "no such profile": (
        changed("size: 1GiB", "size: 1GiB\n    profile: nowhere"),
        r"pc.yaml:7:5: environments.work: .*nowhere",
    ),
    "no environments": (
        "disk:\n  size: 4GiB\nenvironments: {}\nhost: a\n",
        r"pc.yaml:3:15: environments: says too few things; accepted: at least 1",
    ),
    "an environment twice": (BASE + "environments: {}\n", r"environments"),
    "size without a unit's sense": (changed("4GiB", "4Gibbon"), r"pc.yaml:2:9: disk.size: "),
    "negative size": (changed("size: 1GiB", "size: -1"), r"pc.yaml:7:11: environments.work.size"),
    "unknown key": (changed("esp:", "eps:"), r"pc.yaml:3:1: .*eps"),
    "made-up passphrases for a real seat": (
        BASE + "keys:\n  test_passphrase: true\n",
        r"`test_passphrase` needs `pbkdf: fast-test`",
    ),
    "a path to keep that the image owns": (
        changed("size: 1GiB", "size: 1GiB\n    keep: [/usr/local]"),
        r"pc.yaml:8:12: .*belongs to the image",
    ),
    "a key of an environment that is spelled wrong": (
        changed("size: 1GiB", "sise: 1GiB"),
        r"pc.yaml:7:5: environments.work: unknown key 'sise'; did you mean 'size'",
    ),
    "a key that an environment does not have": (
        changed("size: 1GiB", "colour: 1"),
        r"unknown key 'colour'; accepted: keep, keyfile, profile, size, vt",
    ),
    "a size that is a fraction": (
        changed("size: 1GiB", "size: 1.5"),
        r"pc.yaml:7:11: environments.work.size: .*; accepted: a number with a unit: .*, or rest",
    ),
    "a word where true or false belongs": (
        changed("swap: 64MiB", "swap: {size: 64MiB, encrypted: 'no'}"),
        r"pc.yaml:4:32: swap.encrypted: expected true or false, found text \('no'\)",
    ),
    "too many paths to keep": (
        changed("size: 1GiB", f"size: 1GiB\n    keep: [{', '.join(f'/a{i}' for i in range(101))}]"),
        r"pc.yaml:8:11: environments.work.keep: says too many things; accepted: at most 100",
    ),
    "a long seed": (
        BASE + f"seed: {'x' * 101}\n",
        r"seed: has too many characters; accepted: at most 100",
    ),
    "a group whose directory Linux has": (
        changed("esp:", "vg: mapper\nesp:"),
        r"pc.yaml:3:5: vg: 'mapper' cannot be a volume group: lvm2 makes the directory",
    ),
    "another name than the file's": (f"name: other\n{BASE}", r"pc.yaml:1:7: name: .*write 'pc'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_laid_out_is_refused_with_its_line_and_the_numbers(
    case: str, project: Project
) -> None:
    text, pattern = REFUSED[case]
    problems = "\n".join(str(p) for p in seat_problems(project, text))
    assert re.search(pattern, problems), problems


def test_all_that_is_wrong_is_told_at_once(project: Project) -> None:
    text = changed("esp: 128MiB", "esp: 8MiB").replace("host: private", "host: nobody")
    text = text.replace("size: 1GiB", "size: 1GiB\n    vt: 7")
    assert len(seat_problems(project, text)) == 3


@pytest.mark.parametrize("name", ["demo", "strthinpad"])
def test_the_seats_of_the_checkout_can_be_planned(name: str, tmp_path: Path) -> None:
    plan = load_plan(Project(CHECKOUT, tmp_path, tmp_path), name)[0]
    assert [e.title for e in plan.entries] == ["private with work beside it", "work with private beside it"]
    assert len({e.vt for e in plan.environments}) == 2
    assert all(entry.host in entry.id for entry in plan.entries)


def test_the_missions_notebook_has_its_layout(tmp_path: Path) -> None:
    plan = load_plan(Project(CHECKOUT, tmp_path, tmp_path), "strthinpad")[0]
    assert plan.disk_size == 500_000_000_000
    assert (plan.group.name, plan.esp.size) == ("vgstrthinpad", 2 * GIB)
    assert {v.name: v.size for v in plan.volumes if v.name != "private"} == {
        "swap": 16 * GIB,
        "work": 230 * GIB,
    }
    assert plan.free_extents == 0
    assert plan.pbkdf is Pbkdf.BENCHMARK


SIZES = st.integers(128 << 20, 80 << 30)


@st.composite
def seats(draw: st.DrawFn) -> Seat:
    names = draw(st.lists(st.sampled_from(["work", "private", "third", "play"]), min_size=1, unique=True))
    rest = draw(st.sampled_from([None, *names]))
    return Seat.model_validate(
        {
            "name": "pc",
            "disk": {"size": draw(st.integers(256 << 20, 300 << 30))},
            "esp": draw(st.integers(64 << 20, 4 << 30)),
            "swap": draw(st.none() | st.integers(1 << 20, 20 << 30)),
            "environments": {
                name: {"size": "rest" if name == rest else draw(SIZES), "vt": 2 + n}
                for n, name in enumerate(names)
            },
            "host": names[0],
        }
    )


@settings(max_examples=300, deadline=None)
@given(seats())
def test_parts_never_overlap_and_are_aligned_or_the_shortage_is_a_number(seat: Seat) -> None:
    problems = list(size_problems(seat))
    plan = laid_out(seat)
    assert (plan is None) == bool(problems)
    if plan is None:
        assert all(re.search(r"\d", text) for _, text in problems)
        return
    first, end = gpt.usable(seat.disk.size)
    spans = [(plan.esp.start, plan.esp.end)]
    spans += [(plan.pv.start, plan.pv.start + lvm.FIRST_EXTENT)]
    spans += [(v.offset, v.offset + v.size) for v in plan.volumes]
    assert spans == sorted(spans)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert first <= spans[0][0]
    assert spans[-1][1] <= plan.pv.end <= end <= plan.disk_size - MIB
    assert all(at % MIB == 0 for span in spans for at in span)
    for volume in plan.volumes:
        wanted = seat.swap.size if volume.environment is None else seat.environments[volume.name].size
        assert volume.offset == plan.pv.start + lvm.FIRST_EXTENT + volume.first_extent * lvm.EXTENT
        assert volume.size == volume.extents * lvm.EXTENT
        assert wanted is None or wanted <= volume.size < wanted + lvm.EXTENT
        if volume.environment:
            assert volume.environment.payload == volume.offset + HEADER_SIZE
            assert (
                volume.environment.payload + volume.environment.payload_size == volume.offset + volume.size
            )
    assert sum(n for _, n in extents_of(seat)) + plan.free_extents == plan.group.extents


def laid_out(seat: Seat) -> Plan | None:
    try:
        return make_plan(seat, {})
    except InputError:
        return None


def test_a_plan_is_shown_as_table_json_and_picture_that_agree(project: Project) -> None:
    plan = plan_of(project, BASE)
    data = json.loads(json.dumps(as_data(plan), default=str))
    assert [r["offset"] for r in data["layout"]] == [r[2] for r in rows(plan)]
    assert data["luks"]["cipher"] == "aes-xts-plain64"
    assert data["entries"][0]["options"].startswith("root=/dev/mapper/root")
    text = as_text(plan)
    picture = "".join(ElementTree.fromstring(as_svg(plan)).itertext())
    for _, which, offset, _ in rows(plan):
        assert which in text
        assert which in picture
        assert str(offset) in text
        assert f"at byte {offset}" in picture
    for volume in plan.volumes:
        assert volume.id in text


def test_a_picture_of_a_seat_stands_the_same_everywhere(project: Project) -> None:
    assert as_svg(plan_of(project, BASE)) == as_svg(plan_of(project, BASE))


def test_the_menu_offers_each_host_with_the_command_line_of_its_own_volume(tmp_path: Path) -> None:
    plan = load_plan(Project(CHECKOUT, tmp_path, tmp_path), "demo")[0]
    for entry in plan.entries:
        text = entry_text(plan, entry, f"EFI/seatsmith/{entry.host}.efi").decode()
        luks = plan.volume(entry.host).environment.luks_id  # type: ignore[union-attr]
        assert f"rd.luks.name={luks}=root" in text
        assert text.index("title    " + entry.title) == 0
        assert len(text) == 512
    assert loader_conf(plan).startswith("default seat-private.conf\ntimeout 3\neditor  no\n")


def test_an_unknown_seat_is_refused_with_those_that_exist(project: Project) -> None:
    put_seat(project, BASE)
    for name in ("nowhere", "../pc", "", "PC"):
        with pytest.raises(InputError) as caught:
            load_seat(project, name)
        assert "pc" in str(caught.value.hint)
