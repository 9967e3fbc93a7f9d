"""Is whatever emerge says one error, with its own words where nothing better is known?

What real emerge says is in tests/integration/test_gentoo_emerge.py; here is what is hard to provoke.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.distro.base import UnknownPackages
from builder.distro.gentoo.messages import not_installable
from builder.errors import InputError

MASKED = """\
!!! All ebuilds that could satisfy ">=dev-libs/nvidia-2:0/2" have been masked.
!!! One of the following masked packages is required to complete your request:
- dev-libs/nvidia-2.1::gentoo (masked by: NVIDIA license(s))

(dependency required by "x11-base/driver-3-r1::gentoo" [ebuild])
(dependency required by "x11-base/driver" [argument])
"""
USE_CHANGES = """\
The following USE changes are necessary to proceed:
 (see "package.use" in the portage(5) man page for more details)
# required by app-misc/a-1::gentoo
>=dev-libs/libxml2-2.13.8-r1 icu -python
# required by app-misc/b-1::gentoo
=media-libs/mesa-25.1 wayland

The following license changes are necessary to proceed:
"""


def test_a_license_to_accept_is_named_with_who_needs_it() -> None:
    error = not_installable(MASKED)
    assert ">=dev-libs/nvidia-2:0/2, which x11-base/driver-3-r1 needs, is masked" in error.message
    assert "dev-libs/nvidia-2.1: NVIDIA license(s)" in error.message
    assert "ACCEPT_LICENSE" in (error.hint or "")


def test_several_use_changes_become_one_setting() -> None:
    error = not_installable(USE_CHANGES)
    wanted = "{dev-libs/libxml2: [icu, -python], media-libs/mesa: [wayland]}"
    assert (error.hint or "").endswith(wanted)


@pytest.mark.parametrize("name", ["app-misc/nosuch", "nosuch"])
def test_names_that_were_asked_for_are_all_named(name: str) -> None:
    error = not_installable(f'emerge: there are no ebuilds to satisfy "{name}".\n' * 2)
    assert isinstance(error, UnknownPackages)
    assert list(error.answers) == [name]


def test_what_is_not_understood_is_shown_in_emerges_own_words() -> None:
    said = "Calculating dependencies... done!\n\n!!! '/x' is not a valid package atom.\n!!! See ebuild(5).\n"
    assert "'/x' is not a valid package atom" in not_installable(said).message
    assert "Segmentation fault" in not_installable("Segmentation fault\n").message


WORDS = ["!!! All ", "masked by: ", "(dependency required by ", "slot conflict:", *'!-()[]"<>=~/:* \nab1']


@given(st.lists(st.sampled_from(WORDS)).map("".join))
def test_any_words_are_one_error(text: str) -> None:
    for said in (text, MASKED + text, text + USE_CHANGES):
        assert isinstance(not_installable(said), InputError)
