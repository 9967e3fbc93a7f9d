"""Is an environment lost when the power goes, or the disk fails, while a running seat replaces it?

As in test_crash.py, but recorded from outside, below the guest's kernel: all that it wrote to its disk while
`seatsmith provision env` ran, and when it flushed. What the running host itself wrote is part of it.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import pytest

from builder.project import Project
from builder.provision.space import place_for
from builder.tools import Tools, ensure_tools
from builder.volume import luks
from tests.support.diskfilter import bad_sector, recorded_disk, recording
from tests.support.faults import Log, copy_sparse, states
from tests.support.liveseat import FOLDER, SECRET, YES, LiveSeat, live_seat, running
from tests.support.powercut import (
    Recorded,
    begun,
    check,
    describe,
    disk_after,
    kept_regions,
    lost,
    number_of,
    run_again,
    sweep,
)
from tests.support.provisioned import NAMES, Bench
from tests.support.tinyseat import DISK_SIZE, PROFILE, put_image
from tests.support.writelog import log_of

pytestmark = pytest.mark.live

SIZE = 3 << 30
PER_POINT = 4
TABLE = "{:>8}{:>8}{:>8}{:>8}{:>18}{:>10}"
REPLACE = ("env", "work", "--passphrase-file", SECRET, "--for-tests", *YES)
BUSY = ("private", "swap")
SERIAL = "SEATSMITH-TEST-1"  # of the other disk
SPARE = """\
disk:
  size: 832MiB
esp: 72MiB
vg: vgspare
swap: 16MiB
environments:
  work:
    profile: small
    size: 128MiB
  private:
    profile: firm
    size: 140MiB
host: private
keys:
  pbkdf: fast-test
"""
HOST_PROFILE = PROFILE.format(name="firm", vt=7, role="role: host")
OWN = f"""\
head -c 300000 /dev/urandom >{FOLDER}/home/kept && chown 1000:70000 {FOLDER}/home/kept
mkdir -p {FOLDER}/etc/ssh && head -c 400 /dev/urandom >{FOLDER}/etc/ssh/ssh_host_ed25519_key
"""


@dataclass
class Cut:
    """A running seat, a replacement on it that was recorded, and what the container kept."""

    live: LiveSeat
    recorded: Recorded
    kept: str
    spare: Bench
    """Another disk, which was made a seat of its own on the running one."""
    applied: Log


@pytest.fixture(scope="module")
def tools() -> Tools:
    return ensure_tools()


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, tools: Tools) -> Iterator[Cut]:
    with recorded_on_a_running_seat(tmp_path_factory.mktemp("cut"), tools) as found:
        yield found


@contextmanager
def recorded_on_a_running_seat(place: Path, tools: Tools) -> Iterator[Cut]:
    """What this is about, recorded; the running seat is paused then."""
    before, log, after = place / "before", place / "log", place / "after"
    with live_seat(place / "live", tools, veth="true", prepare=add_spare) as live:
        live.machine.host.succeed(OWN)
        kept = live.kept()
        live.stop()
        live.machine.host.wait_until_succeeds("test ! -e /dev/mapper/work")  # its own last writes are done
        with recording(live.machine, before=before, log=log, after=after):
            done = live.provision(*REPLACE)
        assert (done["image"], done["resumed"], done["hosts"]) == ("2-standin", None, [])
        secret = (live.subject.passphrase or "").encode()
        bench = Bench(live.project, None, tools, after, place / "images", "live", SIZE, secret)
        spare = replace(bench, disk=place / "spare", seat="spare", size=DISK_SIZE)
        applied = apply_spare(live, spare, place / "spare.log")
        live.machine.pause()
        yield Cut(live, describe(bench, "work", log_of(log), before, busy=BUSY), kept, spare, applied)


def add_spare(project: Project) -> None:
    """The seat ``spare``: the same container, and a host of a few files."""
    put_image(project, "firm", "1", None, source="standin", bootable=True)
    (project.profiles / "firm.yaml").write_text(HOST_PROFILE)
    (project.seats / "spare.yaml").write_text(SPARE)


def apply_spare(live: LiveSeat, spare: Bench, log: Path) -> Log:
    """Have the running seat make an empty disk the seat ``spare``."""
    with spare.disk.open("wb") as f:
        f.truncate(spare.size)
    with recorded_disk(live.machine, SERIAL, spare.disk, log) as disk:
        words = ("--disk", disk, "--yes", "--expect-serial", SERIAL, "--read-all")
        live.provision("apply", "spare", "--passphrase-file", SECRET, "--for-tests", *words)
        live.machine.host.succeed("vgchange --activate n vgspare || true; sync")
    return log_of(log)


def test_the_log_is_all_that_was_written(cut: Cut) -> None:
    recorded = cut.recorded
    replayed = recorded.before.with_name("replayed")
    copy_sparse(recorded.before, replayed)
    with replayed.open("r+b") as f:
        for offset, data in recorded.log.writes:
            f.seek(offset)
            f.write(data)
    recorded.bench.tools.run(["cmp", replayed, recorded.bench.disk])
    replayed.unlink()


def test_nothing_but_the_new_volume_is_written_into(cut: Cut) -> None:
    assert cut.recorded.written == [cut.recorded.new_id]


def test_after_a_power_cut_at_any_point_the_old_or_the_new_environment_is_whole_and_a_second_run_finishes(
    cut: Cut,
) -> None:
    recorded = cut.recorded
    old = kept_regions(recorded)
    new = recorded.written_to(recorded.new_id, len(recorded.log.events))
    found, gone = [], 0
    switch = number_of(recorded.log, "switching")

    def late(number: int) -> bool:
        return number >= switch

    with recorded.bench.on(recorded.before).medium() as was, recorded.bench.medium() as final:
        for state in chain(sweep(recorded, per_point=PER_POINT), sweep(recorded, per_point=60, only=late)):
            found.append(check(recorded, state, final))
            gone += lost(state, was, old) if found[-1] == "old" else lost(state, final, new)
    chosen = points_to_go_on_from(recorded.log)
    resumed = [
        run_again(recorded, disk_after(recorded, state))
        for state in sweep(recorded, per_point=3, only=lambda n: n in chosen)
    ]
    points = len(recorded.log.events) + 1
    counts = (points, len(found), found.count("old"), found.count("new"), gone, len(resumed))
    print(TABLE.format("points", "disks", "old", "new", "kept bytes lost", "resumed"))
    print(TABLE.format(*counts))
    assert gone == 0
    assert points >= 100
    assert (found[0], found[-1]) == ("old", "new")
    assert {None, "verified", "switched"} <= set(resumed)


def points_to_go_on_from(log: Log) -> set[int]:
    """One at each step of the journal, and some more that are spread over the run."""
    steps = {number_of(log, step) + 1 for step in ("begin", "allocated", "verified", "switching")}
    end = number_of(log, "done")
    return steps | {end} | set(random.Random(1).sample(range(end), 3))


@pytest.mark.parametrize(("step", "version"), [("verified", "1"), ("done", "2")])
def test_the_seat_boots_after_a_power_cut_and_the_same_command_finishes(
    step: str, version: str, cut: Cut, tools: Tools
) -> None:
    number = number_of(cut.recorded.log, step)
    for state in sweep(cut.recorded, per_point=3, only=lambda n: n == number):
        disk = disk_after(cut.recorded, state).disk  # the last one holds any part of what was not flushed
    subject = cut.live.subject.model_copy(update={"disk": disk})
    with running(tools, cut.live.project, subject, cut.live.kit.disk) as seat:
        assert (seat.version(), seat.kept()) == (version, cut.kept)
        seat.stop()
        assert seat.provision(*REPLACE)["image"] == "2-standin"
        seat.start()
        assert (seat.version(), seat.kept()) == ("2", cut.kept)
        seat.machine.host.succeed("vgck vglive")


def test_a_disk_that_fails_in_between_ends_it_with_one_message_and_the_old_environment_starts(
    cut: Cut,
) -> None:
    live, bench = cut.live, cut.recorded.bench
    with bench.opened() as disk:
        place, _ = place_for(disk, "work", disk.volume("work").extents)
        start = disk.pv.start + disk.metadata.group.offset(place.first) + luks.HEADER_SIZE
    live.machine.resume()
    with bad_sector(live.machine, start // 512):
        said = live.refused(*REPLACE)
    errors = [line for line in said.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "Input/output error" in errors[0]
    live.start()
    assert (live.version(), live.kept()) == ("2", cut.kept)
    live.stop()
    assert live.provision(*REPLACE)["image"] == "2-standin"
    live.start()
    assert (live.version(), live.kept()) == ("2", cut.kept)
    live.machine.host.succeed("vgck vglive")


def test_a_power_cut_while_a_disk_is_made_a_seat_never_leaves_one_that_looks_whole(cut: Cut) -> None:
    spare, log = cut.spare, cut.applied
    durable, again = spare.disk.with_name("spare.durable"), spare.on(spare.disk.with_name("spare.again"))
    wanted = {name: names_in(spare, name) for name in NAMES}
    chosen = {number_of(log, step) + 1 for step in ("begin", "written", "environments", "verified", "done")}
    tally, finished = Counter[str](), 0
    with durable.open("wb") as f:
        f.truncate(spare.size)
    with spare.medium() as final:
        for state in states(log, durable, per_point=PER_POINT, seed=2):
            tally[begun(spare, log, state, final)] += 1
            if state.number in chosen:
                chosen.remove(state.number)
                state.save(durable, again.disk)
                again.apply()
                assert {name: names_in(again, name) for name in NAMES} == wanted
                finished += 1
    print(
        f"apply: {len(log.events) + 1} points, {sum(tally.values())} disks: {dict(tally)}; "
        f"{finished} finished"
    )
    assert tally["marked"] > 100
    assert tally["untouched"] and tally["whole"]


def names_in(bench: Bench, name: str) -> set[str]:
    return set(bench.contents(name))
