"""Gentoo: a stage3, an ebuild tree and signed binary packages, installed by the stage3's own portage."""
