"""Does each source get the packages that it has?"""

from pathlib import Path

from builder.distro.arch import Arch
from builder.distro.packagesets import wanted_packages
from builder.profile import Profile
from builder.project import Project
from builder.sources import Source

HARDWARE = {"amd-ucode", "intel-ucode", "linux-firmware"}


def profile(*, bootable: bool, remove: list[str] | None = None) -> Profile:
    said = {
        "name": "x",
        "distribution": "arch",
        "bootable": bootable,
        "users": [{"name": "user"}],
        "packages": {"remove": remove or []},
    }
    return Profile.model_validate(said)


def test_a_bootable_environment_of_upstream_has_firmware_and_microcode() -> None:
    assert set(wanted_packages(profile(bootable=True), Source.UPSTREAM)) >= HARDWARE


def test_the_stand_in_is_not_asked_for_what_it_does_not_have() -> None:
    assert not HARDWARE & set(wanted_packages(profile(bootable=True), Source.STANDIN))


def test_a_container_needs_no_firmware() -> None:
    assert not HARDWARE & set(wanted_packages(profile(bootable=False), Source.UPSTREAM))


def test_a_profile_can_do_without_firmware_and_its_lock_is_then_another(tmp_path: Path) -> None:
    project = Project(tmp_path, tmp_path, tmp_path)
    with_all, without = profile(bootable=True), profile(bootable=True, remove=["linux-firmware"])
    assert "linux-firmware" not in wanted_packages(without, Source.UPSTREAM)
    for source, differs in ((Source.UPSTREAM, True), (Source.STANDIN, False)):
        requests = [Arch().request(p, project, source) for p in (with_all, without)]
        assert (requests[0] != requests[1]) is differs, source
