"""Which requests does the filter of strict containers refuse, in whatever shape, and what passes?"""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from builder.broker.confine import FIEMAP, RULES, main
from builder.isolation.probe import drm

ROOT = Path(__file__).parents[2]
# As a child, since a filter stays; without new privileges, so that it needs no root (seccomp(2)).
CHILD = """
import ctypes, errno, json, os, sys
from builder.broker.confine import confine
from builder.isolation.probe import drm
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
confine(8)
said = {}
for request in map(int, sys.argv[1:]):
    for name, call in drm.DISGUISES:
        try:
            with open(os.devnull) as file:
                call(file.fileno(), request, bytearray(64))
            said[f"{request} {name}"] = "done"
        except OSError as e:
            said[f"{request} {name}"] = errno.errorcode[e.errno]
print(json.dumps(said))
"""
NOT_A_CARD = "ENOTTY"  # what /dev/null answers to what reaches it


def asked(*requests: int) -> dict[str, str]:
    words = [sys.executable, "-c", CHILD, *map(str, requests)]
    result = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout)
    return found


def test_pictures_of_others_are_refused_in_every_shape_of_the_request() -> None:
    requests = (
        drm.request(0xAD, drm.FB),  # DRM_IOCTL_MODE_GETFB
        drm.request(0xCE, drm.FB2),  # DRM_IOCTL_MODE_GETFB2
        drm.request(0x0B, drm.OPEN),  # DRM_IOCTL_GEM_OPEN
        1 << 30 | 4 << 16 | 0x64 << 8 | 0xAD,  # without an answer: handles can be guessed
    )
    said = asked(*requests)
    assert len(said) == len(requests) * len(drm.DISGUISES)
    assert set(said.values()) == {"EACCES"}


def test_what_desktops_ask_of_a_card_passes() -> None:
    requests = (
        *(drm.SET_MASTER, drm.DROP_MASTER),
        *(drm.request(0xA0, drm.RESOURCES), drm.request(0xA1, drm.CRTC), drm.request(0xB2, drm.DUMB)),
        *(drm.request(0x2D, drm.PRIME), drm.request(0x0A, drm.FLINK), drm.request(0xAE, drm.FB)),
    )
    plain = {said for name, said in asked(*requests).items() if name.endswith(" GETFB")}
    assert plain == {NOT_A_CARD}


def test_copying_programs_may_ask_for_extents_and_terminals_be_flushed() -> None:
    said = asked(FIEMAP, 0x540B, 0x5401)
    assert said[f"{FIEMAP} GETFB"] == errno.errorcode[errno.EOPNOTSUPP]  # /dev/null has no extents
    assert said[f"{FIEMAP} GETFB of another type"] == "EACCES"
    assert said[f"{0x540B} GETFB"] == said[f"{0x5401} GETFB"] == NOT_A_CARD


def test_no_terminal_tells_of_modifier_keys() -> None:
    assert asked(0x541C)[f"{0x541C} GETFB"] == "EPERM"


def test_no_terminal_changes_settings_that_all_share_and_each_may_read_them_and_change_its_own() -> None:
    shared = {
        *(0x4B47, 0x4B49, 0x4B4B, 0x4BFB),  # KDSKBENT, KDSKBSENT, KDSKBDIACR, KDSKBDIACRUC
        *(0x4B61, 0x4B6C, 0x4B72),  # PIO_FONT, PIO_FONTX, KDFONTOP
        *(0x4B41, 0x4B6A, 0x4B67, 0x4B68),  # PIO_SCRNMAP, PIO_UNISCRNMAP, PIO_UNIMAP, PIO_UNIMAPCLR
        *(0x4B71, 0x5609, 0x560A),  # PIO_CMAP, VT_RESIZE, VT_RESIZEX
    }
    own = {
        *(0x4B46, 0x4B48, 0x4B4A, 0x4BFA, 0x4B70),  # KDGKBENT, KDGKBSENT, KDGKBDIACR, KDGKBDIACRUC, GIO_CMAP
        *(0x4B3A, 0x5602, 0x5605),  # KDSETMODE, VT_SETMODE, VT_RELDISP
        *(0x5603, 0x5413, 0x5414),  # VT_GETSTATE, TIOCGWINSZ, TIOCSWINSZ
    }
    said = asked(*shared, *own)
    shapes = ("GETFB", "GETFB by a number of 64 bits", "GETFB by a 32-bit program's call")  # drm.DISGUISES
    assert {said[f"{request} {shape}"] for request in shared for shape in shapes} == {"EPERM"}
    assert {said[f"{request} {shape}"] for request in own for shape in shapes} == {NOT_A_CARD}


def test_a_terminal_shows_itself_alone_and_its_console_hears_no_keys_and_nobody_is_kept_out() -> None:
    script = """
import ctypes, fcntl, os
from builder.broker.confine import confine
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
confine(8)
file = os.open(os.devnull, os.O_RDONLY)
for request, argument in ((0x5606, 8), (0x5606, 7), (0x560F, 8), (0x4B45, 4), (0x4B45, 1), (0x4B45, 3),
    (0x540C, 0), (0x5423, 0), (0x5424, 0)):  # TIOCEXCL, TIOCSETD, TIOCGETD
    try:
        print(fcntl.ioctl(file, request, argument))
    except OSError as e:
        print(e.strerror)
"""
    words = [sys.executable, "-c", script]
    said = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout.splitlines()
    reaches, refused, obeyed = os.strerror(errno.ENOTTY), os.strerror(errno.EPERM), "0"
    assert said == [reaches, refused, refused, reaches, obeyed, obeyed, obeyed, refused, reaches]


@pytest.mark.parametrize("bit", [bit for bit in range(32) if bit != 30 and bit > 7])
def test_only_the_one_request_for_extents_is_let_through(bit: int) -> None:
    def refused(request: int) -> bool:
        return any(request & rule.mask == rule.value for rule in RULES)

    assert not refused(FIEMAP)
    assert refused(FIEMAP ^ 1 << bit)


def test_a_program_is_not_started_where_the_filter_cannot_be_laid(tmp_path: Path) -> None:
    program = """
import builder.broker.confine as c
c.LIBRARY = "nothing.so"
c.main(["", "8", ".", "touch", "ran"])
"""
    words = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": os.fspath(ROOT), "PATH": os.environ["PATH"]}
    result = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert "touch is not started, as it could not be confined: nothing.so" in result.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["run", "dev", "var"])
def test_a_container_is_not_started_where_a_link_would_lead_nspawn_out_of_its_tree(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).symlink_to("/nowhere")
    assert main(["", "8", os.fspath(tmp_path), "nspawn", "--boot"]) == 1
    assert f"nspawn is not started, as /{name} is a link in {tmp_path}: remove it" in capsys.readouterr().err
