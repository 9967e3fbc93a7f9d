"""What stands in for Gentoo's mirrors: a stage3, an ebuild tree and a signed binhost of the same slices."""

from pathlib import Path


def make_gpkgs_script() -> Path:
    """The program that runs inside the workshop."""
    return Path(__file__).with_name("make_gpkgs.py")
