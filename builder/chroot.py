"""How does a program run with a tree of files as its whole root, be we root or not?"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.files import remove_tree
from builder.run import Arg, Result, run
from builder.tools import Tools

# newuidmap(1) maps the caller's subordinate ids, so that a tree may have files of many owners
AS_OUR_OWN_ROOT = ("unshare", "--user", "--map-root-user", "--map-auto", "--")
CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def as_root(argv: Sequence[Arg]) -> list[str]:
    """``argv`` as root, or as the root of a user namespace with our subordinate ids where we are not."""
    words = [os.fspath(a) for a in argv]
    return words if os.geteuid() == 0 else [*AS_OUR_OWN_ROOT, *words]


def remove_foreign_tree(path: Path) -> None:
    """Remove a tree in which a build that was cut off may have left files of our subordinate ids."""
    try:
        remove_tree(path)
    except PermissionError:
        if os.geteuid() == 0:
            raise
        run(as_root(["rm", "--recursive", "--force", "--", path]))


def inside(
    root: Path,
    argv: Sequence[Arg],
    *,
    tools: Tools,
    binds: Mapping[Path, str] | None = None,
    readable: Mapping[Path, str] | None = None,
    network: bool = False,
    environment: Mapping[str, str] | None = None,
    **how: Any,
) -> Result:
    """Run ``argv`` with ``root`` as / and an empty /tmp; ``how`` and the errors are builder.run.run's.

    ``binds`` and ``readable`` map paths of the host to paths inside, to write or only to read. The
    environment is made anew: CLEAN and ``environment``.
    """
    sandbox: list[Arg] = [sys.executable, "-SI", tools.python_path / "mkosi/sandbox.py"]
    sandbox += ["--bind", root, "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
    for option, places in (("--bind", binds), ("--ro-bind", readable)):
        for source, target in (places or {}).items():
            sandbox += [option, source, target]
    if not network:
        sandbox += ["--unshare-net"]
    sandbox += ["--chdir", "/", "--", *argv]
    return run(as_root(sandbox), env={**CLEAN, **(environment or {})}, **how)
