"""Do lvm2 and we agree on where volumes lie in any layout, and is a real seat's key stretched in earnest?"""

import os
import random
from pathlib import Path

import pytest

from builder.errors import InputError
from builder.seat.model import Seat
from builder.seat.plan import Plan, make_plan
from builder.tools import Tools
from builder.volume import luks, lvm
from builder.volume.keys import volume_key
from builder.volume.luks import Pbkdf
from tests.support import lvm2

MIB, GIB = 1 << 20, 1 << 30
NAMES = ("work", "private", "third", "play")


def some_seat(chance: random.Random) -> Plan:
    """A layout that fits, of one to four environments on 1 GiB to 2 TB."""
    while True:
        names = chance.sample(NAMES, chance.randint(1, len(NAMES)))
        disk = int(GIB * 2 ** chance.uniform(0, 11))
        rest = chance.choice([None, *names])
        sizes = {n: "rest" if n == rest else chance.randint(128 * MIB, disk // len(names)) for n in names}
        seat = {
            "name": "pc",
            "disk": {"size": disk},
            "esp": chance.randint(64 * MIB, 2 * GIB),
            "swap": chance.choice([None, chance.randint(1, disk // 4)]),
            "environments": {n: {"size": sizes[n], "vt": 2 + i} for i, n in enumerate(names)},
            "host": names[0],
        }
        try:
            return make_plan(Seat.model_validate(seat), {})
        except InputError:
            continue  # more than there is room for


@pytest.mark.parametrize("seed", range(6))
def test_lvm2_finds_every_volume_of_a_random_layout_where_the_plan_has_it(
    seed: int, tools: Tools, tmp_path: Path
) -> None:
    plan, disk = some_seat(random.Random(seed)), tmp_path / "disk"
    with disk.open("wb") as f:
        f.truncate(plan.disk_size)
        os.pwrite(f.fileno(), lvm.encode_metadata(plan.group), plan.pv.start + lvm.AREA_AT)
        os.pwrite(f.fileno(), lvm.encode_label(plan.group), plan.pv.start + lvm.LABEL_AT)
    found = lvm2.logical_volumes(tools, disk, plan.pv.start, plan.pv.size)
    assert set(found) == {v.name for v in plan.volumes}
    for volume in plan.volumes:
        first, last = (int(n) for n in found[volume.name]["seg_pe_ranges"].rpartition(":")[2].split("-"))
        # pe_start is 1 MiB, as lvm2 itself reports it of a written seat (test_contents)
        assert volume.offset == plan.pv.start + MIB + first * 4 * MIB
        assert volume.size == (last + 1 - first) * 4 * MIB
    assert int(next(iter(found.values()))["vg_free_count"]) == plan.free_extents


def test_a_real_seats_passphrase_costs_what_cryptsetup_measures(tools: Tools, tmp_path: Path) -> None:
    def slot(pbkdf: Pbkdf) -> luks.Keyslot:
        with volume_key() as key:
            how = {"uuid": "0c5c0f5e-6f5b-4e2c-9c1f-2a3a8b1d7e11", "label": "luks-work"}
            secret = bytearray(b"correct horse")
            data = luks.make_header(
                tools, tmp_path / "header", key=key, passphrase=secret, pbkdf=pbkdf, **how
            )
        return luks.read_header(lambda offset, length: data[offset : offset + length]).keyslots[0]

    real, cheap = slot(Pbkdf.BENCHMARK), slot(Pbkdf.FAST_TEST)
    assert (real.pbkdf, real.weak) == ("argon2id", False)
    assert real.memory * real.cost > cheap.memory * cheap.cost
    assert cheap.weak
