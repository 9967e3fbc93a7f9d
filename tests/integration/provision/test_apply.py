"""How does a bare disk become the seat, and what is on it when that is interrupted?"""

import hashlib

import pytest

from builder.cli.provision_show import interrupted
from builder.errors import InputError
from builder.provision.change import Change
from builder.provision.found import look
from builder.provision.journal import Run
from tests.support import lvm2
from tests.support.faults import CutAfter, Faulty, Log, PowerCut, Recorder, copy_sparse, states
from tests.support.powercut import begun, number_of
from tests.support.provisioned import NAMES, Bench
from tests.support.tinyseat import DISK_SIZE, content

LEFTOVER = b"a photograph " * 40_000


@pytest.fixture
def bare(bench: Bench) -> Bench:
    """A disk that was used for something else before."""
    with bench.disk.open("r+b") as f:
        f.truncate(0)
        f.truncate(DISK_SIZE)
        f.seek(300 << 20)
        f.write(LEFTOVER)
    return bench


@pytest.mark.parametrize("per_point", [1, pytest.param(5, marks=pytest.mark.long)])
def test_a_power_cut_while_a_seat_is_written_never_leaves_one_that_looks_whole(
    per_point: int, bare: Bench
) -> None:
    before = bare.disk.with_name("before")
    copy_sparse(bare.disk, before)
    log = Log()
    with bare.medium() as medium:
        bare.apply(Recorder(medium.fd, medium.path, log))
    tally = {"untouched": 0, "marked": 0, "whole": 0}
    with bare.medium() as final:
        for state in states(log, before, per_point=per_point, seed=2):
            found = begun(bare, log, state, final)
            tally[found] += 1
            if found == "untouched":
                assert state.read(300 << 20, len(LEFTOVER)) == LEFTOVER
    print(f"{len(log.writes)} writes, {sum(tally.values())} disks: {tally}")
    assert tally["marked"] > 100 * per_point
    assert tally["untouched"] >= 1
    assert tally["whole"] >= 1


def test_an_apply_that_lacks_only_its_last_record_is_done_and_other_commands_go_on(bare: Bench) -> None:
    before = bare.disk.with_name("before")
    copy_sparse(bare.disk, before)
    log, done = Log(), 0
    with bare.medium() as medium:
        bare.apply(Recorder(medium.fd, medium.path, log))
    last = number_of(log, "verified")
    with bare.medium() as final:
        for state in states(log, before, per_point=2, seed=4, only=lambda n: n > last):
            if begun(bare, log, state, final) != "whole":
                continue
            again = bare.on(bare.disk.with_name(f"again-{done}"))
            state.save(before, again.disk)
            with again.medium() as medium:
                assert interrupted(look(medium, again.size, again.tools)) == []
            with again.opened() as disk, again.empty_scratch() as scratch:
                unrecorded = disk.journal.runs[-1].steps[-1] == "verified"
                made = Change(disk, again.plan(), again.tools, scratch)
                with pytest.raises(InputError, match="no previous environment"):
                    made.roll_back("work")
                made.grow("work", disk.volume("work").extents + 1)
            if unrecorded and not done:
                again.replace("work", again.new_image("work", "2"))
                with again.opened() as disk, again.empty_scratch() as scratch:
                    Change(disk, again.plan(), again.tools, scratch).roll_back("work")
                done += 1
            again.disk.unlink()
    assert done


@pytest.mark.parametrize("at", [0, 2])
def test_an_apply_that_was_interrupted_early_is_begun_again_without_asking(at: int, bare: Bench) -> None:
    with bare.medium() as medium, pytest.raises(PowerCut):
        bare.apply(Faulty(medium.fd, medium.path, at=at, kind="cut", torn=1))
    if at:
        with bare.medium() as medium:
            found = look(medium, DISK_SIZE, bare.tools)
        assert found.unfinished == "tiny"
        with pytest.raises(InputError, match="not completely written"), bare.opened():
            pass
    bare.apply()
    check_seat(bare)


def check_seat(bench: Bench) -> Run:
    """Both environments are there with all files, and the journal has one run, finished."""
    for name in ("work", "private"):
        found = bench.contents(name)
        assert found["usr/bin/program"] == hashlib.sha256(content("1", "./usr/bin/program")).hexdigest()
        assert {"etc/machine-id", "usr/lib/library.so"} <= found.keys()
    with bench.opened() as disk:
        assert disk.environments == ["work", "private"]
        lvm2.logical_volumes(bench.tools, bench.disk, disk.pv.start, disk.pv.size)
        run = disk.journal.runs[-1]
    assert run.finished
    return run


@pytest.mark.long
def test_an_apply_that_was_interrupted_at_any_write_goes_on_with_what_is_left(bare: Bench) -> None:
    before = bare.disk.with_name("before")
    copy_sparse(bare.disk, before)
    log = Log()
    with bare.medium() as medium:
        bare.apply(Recorder(medium.fd, medium.path, log))
    whole = number_of(log, "written")
    chosen = {whole // 2, whole + 2, (whole + len(log.events)) // 2, number_of(log, "verified") + 2}
    work = bare.plan().volume("work")
    kept = []
    for state in states(log, before, per_point=1, seed=3, only=lambda n: n in chosen):
        again, second = bare.on(bare.disk.with_name("again")), Log()
        state.save(before, again.disk)
        with again.medium() as medium:
            again.apply(Recorder(medium.fd, medium.path, second))
        run = check_seat(again)
        kept.append(run.data.get("kept"))
        if kept[-1]:
            end = work.offset + work.size
            assert not [at for at, data in second.writes if at < end and at + len(data) > work.offset]
    assert kept == [[], ["work"], ["work"], ["private", "work"]]


def test_nothing_is_kept_of_an_interrupted_apply_of_other_images_or_passphrases(bare: Bench) -> None:
    with bare.medium() as medium, pytest.raises(PowerCut):
        bare.apply(CutAfter(medium.fd, medium.path, step="written"))
    other = bare.on(bare.disk.with_name("other"))
    copy_sparse(bare.disk, other.disk)
    other.new_image("private", "2")
    other.apply()
    with other.opened() as disk:
        assert disk.tags("private")["image"] == "2"
        assert "kept" not in disk.journal.runs[-1].data
    bare.new_image("private", "1")
    secret = {name: bytearray(b"another passphrase") for name in NAMES}
    with bare.medium() as medium:
        bare.apply(medium, passphrases=secret)
    with bare.opened() as disk:
        assert disk.journal.runs[-1].data["kept"] == []


def test_a_smaller_disk_is_refused_with_the_numbers(bare: Bench) -> None:
    with bare.disk.open("r+b") as f:
        f.truncate(DISK_SIZE - (1 << 20))
    with pytest.raises(InputError, match=r"too small: it has 871366656 bytes, the seat needs 872415232"):
        bare.apply()
