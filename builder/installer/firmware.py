"""How does a PC come to start the disk that was made its seat? By an entry in its firmware's boot menu."""

import re
from pathlib import Path

from builder import ui
from builder.run import Arg
from builder.tools import Tools

EFI_VARIABLES = Path("/sys/firmware/efi/efivars")
LOADER = r"\EFI\systemd\systemd-bootx64.efi"
NO_ENTRY = "the firmware took no boot entry"


def start_first(disk: Path, seat: str, tools: Tools) -> None:
    """Have the firmware start the disk first. Without that, it finds the disk by itself or not."""
    if not EFI_VARIABLES.is_dir():
        return
    label = f"Seatsmith {seat}"
    for number in entries_called(label, tools.run(["efibootmgr"], check=False).text):
        tools.run(["efibootmgr", "--quiet", "--bootnum", number, "--delete-bootnum"], check=False)
    argv: list[Arg] = ["efibootmgr", "--quiet", "--create", "--disk", disk, "--part", "1"]
    argv += ["--label", label, "--loader", LOADER]
    result = tools.run(argv, check=False)
    if result.returncode != 0:
        said = (result.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        ui.current().warn(f"{NO_ENTRY} ({said}); choose the disk in its boot menu")


def entries_called(label: str, listed: str) -> list[str]:
    """Numbers of the firmware's boot entries of that label, as efibootmgr(8) lists them."""
    return [
        match[1]
        for match in re.finditer(r"^Boot([0-9A-Fa-f]{4})[* ] (.*)$", listed, re.MULTILINE)
        if match[2].split("\t")[0] == label
    ]
