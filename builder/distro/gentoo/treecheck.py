"""Is an unpacked ebuild tree what its signed Manifests say?

The top-level Manifest is clearsigned and names, by size and digests, the Manifests below, and these every
file (GLEP 74). gpgv checks the signature, gemato the rest: as a program of its own, which reads the text
that gpgv wrote out in place of the signed one.
"""

import os
import sys
from pathlib import Path

from builder import ui
from builder.distro.gentoo.releases import Trust, demand
from builder.errors import TrustError
from builder.outputs.clearsigned import read_clearsigned
from builder.run import run
from builder.tools import Tools

HINT = "the mirror or the way to it changed it: try another mirror or date"


def check_tree(tree: Path, trust: Trust, tools: Tools) -> None:
    """Check a tree that nobody else uses; its top-level Manifest loses its signature. Raises TrustError."""
    top = tree / "Manifest"
    if not top.is_file():
        raise TrustError("the ebuild tree has no Manifest", hint=HINT)
    found, text = read_clearsigned(top.read_bytes(), [trust.keys], tools=tools)
    demand(found, trust.tree, "the ebuild tree's Manifest")
    top.write_text(text)
    words = [sys.executable, "-m", "gemato", "verify", "--no-openpgp-verify", "--require-secure-hashes"]
    with ui.current().step("Checking the ebuild tree's Manifests"):
        result = run([*words, tree], env={**os.environ, "COLUMNS": "400", "NO_COLOR": "1"}, check=False)
    if result.returncode != 0:
        said = f"{result.text}\n{result.stderr.decode(errors='replace')}"
        said = said.partition("ERROR")[2] or said
        lines = "\n".join(f"  {line.strip()}" for line in said.strip().splitlines()[:8])
        raise TrustError(f"the ebuild tree is not what its signed Manifests say:\n{lines}", hint=HINT)
