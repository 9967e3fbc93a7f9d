"""Does a slim Gentoo image hold what was asked for, and of the stage3 that made it nothing else?"""

import pytest

from tests.support.gentooimage import GentooImage, make_gentoo_image

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> GentooImage:
    return make_gentoo_image(
        tmp_path_factory.mktemp("slim"), "gentoo-slim", add={"app-arch/cpio"}, slim=True
    )


def test_a_slim_image_has_what_was_asked_for_and_what_the_profile_says(made: GentooImage) -> None:
    for path in ("usr/bin/cpio", "etc/systemd/network/50-seat-host0.network"):
        assert path in made.members
    assert {f.name for f in made.lock.packages()} >= {"app-arch/cpio", "sys-libs/glibc"}


def test_a_slim_image_has_nothing_of_the_stage(made: GentooImage) -> None:
    vdb = "var/db/pkg/"
    contents = [p for p in made.members if p.startswith(vdb) and p.endswith("/CONTENTS")]
    installed = {p.removeprefix(vdb).removesuffix("/CONTENTS") for p in contents}
    assert installed == {f"{f.name}-{f.version}" for f in made.lock.packages()}
    for path in ("usr/bin/bash", "usr/bin/emerge", "usr/bin/rsync", "usr/lib/portage"):
        assert path not in made.members
