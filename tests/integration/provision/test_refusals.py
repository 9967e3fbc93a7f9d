"""Is what would leave a seat that does not start, or cannot be finished, refused before anything changes?"""

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from builder.errors import InputError, TrustError
from builder.project import Project
from builder.provision import keyfiles
from builder.provision.apply import apply, refuse_content, refuse_same_group
from builder.provision.bootfiles import BootFiles, kernel_of
from builder.provision.change import Change
from builder.provision.forecast import of_apply
from builder.provision.found import Found, look
from builder.provision.identity import identify
from builder.provision.seatdisk import SeatDisk
from builder.provision.space import head_of
from builder.seat import images
from builder.seat.images import Image
from builder.seat.plan import load_plan
from builder.seat.write import Materials
from builder.volume import lvmcommit, target
from builder.volume.lvm import Segment
from tests.integration.provision.test_asked import BeforeTheEnd
from tests.integration.provision.test_replace import change
from tests.support import lvm2
from tests.support.faults import PowerCut
from tests.support.provisioned import Bench
from tests.support.tinyseat import put_image


def seat_file(bench: Bench, old: str, new: str) -> None:
    path = bench.project.seats / "tiny.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def refused(bench: Bench, words: str, act: Callable[[], object]) -> None:
    def digest() -> str:
        with bench.disk.open("rb") as f:
            return hashlib.file_digest(f, "sha256").hexdigest()

    before = digest()
    with pytest.raises(InputError, match=words):
        act()
    assert digest() == before


def on_esp(bench: Bench, act: Callable[[SeatDisk, BootFiles], str | None]) -> str | None:
    with bench.opened() as disk, bench.empty_scratch() as scratch:
        return act(disk, BootFiles(disk.medium, disk.esp, bench.tools, scratch))


def test_the_boot_menu_never_names_a_kernel_that_is_not_there(bench: Bench) -> None:
    bench.replace("private", bench.new_image("private", "2"))
    on_esp(bench, lambda disk, boot: boot.remove([kernel_of(disk, "private.previous")]))
    words = r"private\.efi is not on the EFI system partition"
    refused(bench, words, lambda: change(bench, "roll_back", "private"))
    with bench.opened() as disk:
        assert disk.journal.unfinished is None
    bench.replace("private", bench.new_image("private", "3"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("vg: vgtiny", "vg: other", "the volume group on the disk is vgtiny, and by the seat file other"),
        ("disk:", "seed: x\ndisk:", "EFI system partition has the id .* and by the seat file"),
    ],
)
def test_a_seat_file_that_names_another_disk_than_the_one_that_was_made_is_refused(
    old: str, new: str, words: str, bench: Bench
) -> None:
    image = bench.new_image("private", "2")
    seat_file(bench, old, new)
    refused(bench, words, lambda: bench.replace("private", image))


def test_a_host_that_the_boot_menu_does_not_know_is_refused(bench: Bench) -> None:
    seat_file(bench, "host: private", "host: private\nhosts: [private, work]")
    profile = bench.project.profiles / "work.yaml"
    profile.write_text(profile.read_text().replace("role: container", "role: host"))
    put_image(bench.project, "work", "2", bench.key, bootable=True)
    image = bench.image("work")
    refused(bench, "no entry for work", lambda: bench.replace("work", image))


def test_only_environments_can_be_removed_and_not_all_that_the_boot_menu_starts(bench: Bench) -> None:
    refused(bench, "swap is no environment", lambda: change(bench, "remove", "swap"))
    bench.replace("work", bench.new_image("work", "2"))
    refused(bench, "work.previous is no environ", lambda: change(bench, "remove", "work.previous"))
    profile = bench.project.profiles / "work.yaml"  # the seat file alone has another host now
    profile.write_text(profile.read_text().replace("role: container", "role: host"))
    seat_file(bench, "host: private", "host: work")
    refused(bench, "nothing else would start", lambda: change(bench, "remove", "private"))


def test_a_volume_in_many_pieces_is_given_up_like_any_other(bench: Bench) -> None:
    image = bench.new_image("work", "2")
    bench.replace("work", image)
    with bench.opened() as disk:
        group, pieces = disk.metadata.group, []
        for run in lvmcommit.free_runs(group):
            pieces += [Segment(n, 1) for n in range(run.first, run.first + run.count, 2)]
        whole = disk.volume("work.previous").segments
        # as after hundreds of changes of a host's files: its first pieces, and many of one extent each
        many = [Segment(whole[0].first, 6)] + pieces[:10] * 40
        first = replace(disk.volume("work.previous"), segments=tuple(many))
        others = tuple(first if v.name == first.name else v for v in group.volumes)
        disk.metadata.group = replace(group, volumes=others)
        heads = head_of(disk, "work.previous")
        assert heads == [Segment(whole[0].first, 4)]
        disk.journal.append("run", "env", "switching", wipe=[[s.first, s.count] for s in heads])


def test_consent_to_lose_one_unfinished_seat_is_no_consent_to_lose_another(bench: Bench) -> None:
    def found(head: bytes) -> Found:
        with bench.disk.open("r+b") as f:
            f.truncate(0)
            f.truncate(bench.size)
            f.write(head)
        with bench.medium() as medium:
            return look(medium, bench.size, bench.tools)

    one, two, empty = found(target.mark("one")), found(target.mark("two")), found(b"")
    assert len({one.id, two.id, empty.id}) == 3
    with pytest.raises(InputError, match="is not empty:\n  seat one, not completely written") as caught:
        refuse_content(one, bench.plan(), wipe=two.id)
    assert "--read-all" not in (caught.value.hint or "")


def test_a_volume_group_of_the_same_name_on_another_disk_is_refused(bench: Bench, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(4096))
    os.truncate(empty, bench.size)
    with bench.opened() as disk:
        start, size = disk.pv.start, disk.pv.size
    with (
        lvm2.loop_device(bench.tools, bench.disk, start, size) as has_it,
        lvm2.loop_device(bench.tools, empty, 0, bench.size) as device,
    ):
        identity = identify(Path(device))
        with pytest.raises(InputError, match=rf"vgtiny is on another disk .*\({has_it}\)"):
            refuse_same_group(identity, bench.plan())
        forecast = of_apply(bench.plan(), identity, Found(identity.path, identity.size))
        assert [o for o in forecast.obstacles if "take that disk out" in o]


def with_keyfile(bench: Bench) -> None:
    """A seat that was made with `keyfile: true`."""
    seat_file(bench, "    keep: [/home, /etc/machine-id]\n", "    keyfile: true\n")
    os.truncate(bench.disk, 0)
    os.truncate(bench.disk, bench.size)
    bench.apply()


def test_a_key_file_of_another_size_is_not_written_over_what_follows_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_keyfile(bench)
    bench.replace("private", bench.new_image("private", "2"))
    image = bench.new_image("private", "3")
    monkeypatch.setattr(keyfiles, "KEYFILE_SIZE", 64)
    refused(
        bench,
        "/etc/cryptsetup-keys.d/work.key of private has another",
        lambda: bench.replace("private", image),
    )


def test_an_image_whose_manifest_changes_while_it_is_checked_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a stick may that answers otherwise when it is read again."""
    honest, said = images.find_image, iter(["another", "1"])

    def found(project: Project, profile: str) -> Image | None:
        image = honest(project, profile)
        return replace(image, version=next(said)) if image else None

    monkeypatch.setattr(images, "find_image", found)
    with pytest.raises(TrustError, match="was changed while it was checked"):
        bench.image("work")


@pytest.mark.parametrize(
    ("verb", "rest", "said"),
    [
        ("remove", (), "`provision remove work` had gone through, and cannot be undone"),
        ("drop", (), "`provision drop work` had gone through, and cannot be undone"),
        ("grow", (40,), "`provision grow work` had gone through, and cannot be undone"),
    ],
)
def test_what_had_gone_through_is_not_called_given_up(
    verb: str, rest: tuple[int, ...], said: str, bench: Bench
) -> None:
    bench.replace("work", bench.new_image("work", "2"))
    with bench.opened(BeforeTheEnd) as disk, bench.empty_scratch() as scratch, pytest.raises(PowerCut):
        made = Change(disk, bench.plan(), bench.tools, scratch, passphrases=bench.passphrases())
        getattr(made, verb)("work", *rest)
    assert change(bench, "roll_back", "work") == [f"the interrupted {said}"]


@pytest.mark.parametrize(("profile", "kernel"), [("private", True), ("private", False), ("work", False)])
def test_an_image_that_reads_otherwise_after_it_was_checked_is_not_used(
    profile: str, kernel: bool, bench: Bench
) -> None:
    old, image = bench.contents(profile), bench.new_image(profile, "2")
    file = image.uki if kernel and image.uki else image.tar
    skipped = struct.pack("<II", 0x184D2A50, 4) + b"that"  # a frame of zstd that says nothing
    data = file.read_bytes()
    file.write_bytes(data.replace(b"UKI", b"uki", 1) if kernel else data + skipped)
    with pytest.raises(TrustError, match=f"{file.name} is not what it was when it was checked"):
        bench.replace(profile, image)
    assert bench.contents(profile) == old
    os.truncate(bench.disk, 0)
    os.truncate(bench.disk, bench.size)
    plan, _, profiles = load_plan(bench.project, bench.seat)
    other = "work" if profile == "private" else "private"
    materials = Materials({other: bench.image(other), profile: image}, profiles, bench.passphrases())
    with pytest.raises(TrustError, match=f"{file.name} is not what it was when it was checked"):
        apply(plan, materials, identify(bench.disk), tools=bench.tools, scratch=bench.scratch)
