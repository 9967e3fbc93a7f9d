"""What would emerge install for a profile, and which files of the binhost are that?"""

import hashlib
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder import ui
from builder.chroot import as_root, inside
from builder.distro.base import UnknownPackages
from builder.distro.gentoo.config import BINHOST, REPOSITORY, build_environment
from builder.distro.gentoo.emerge import OPTIONS, TARGET
from builder.distro.gentoo.index import Binary, Index, check_inner_name
from builder.errors import InputError, MachineError, TrustError
from builder.files import file_digest
from builder.lock import LockedFile
from builder.run import run
from builder.store import Store
from builder.tools import Tools

if TYPE_CHECKING:
    import httpx

BINARY = re.compile(r"\[binary[^]]*\] (\S+)-(\d+)(?:::\S+)?(?: .*)?")  # cpv and build id
NOT_THERE = re.compile(r'no (?:binary packages|ebuilds)[^"]*to satisfy "([^"]+)"')
PARALLEL = 4


@dataclass(frozen=True)
class Bench:
    """An unpacked stage3 to ask portage in."""

    root: Path
    portage: Path
    """What is /etc/portage."""
    tree: Path
    index: Path
    """A directory with `Packages` in it, as the binhost offers it."""
    tools: Tools

    def plan(self, atoms: Sequence[str], *, empty: bool) -> list[tuple[str, str]]:
        """CPV and build id of each package that emerge would install, on the stage3 or into an empty root.

        Raises UnknownPackages or InputError with what emerge says.
        """
        # the binhost's packages stand for ours: they will be in PKGDIR when the image is built
        options = [o for o in OPTIONS if o not in ("--usepkgonly", "--quiet")]
        argv = ["emerge", "--pretend", "--getbinpkgonly", *options]
        if empty:
            argv.append(f"--root={TARGET}")
        environment = {**build_environment(), "PORTAGE_BINHOST": f"file://{BINHOST}"}
        for place in (REPOSITORY, BINHOST, "/etc/portage", TARGET):
            run(as_root(["mkdir", "-p", f"{self.root}{place}"]))
        result = inside(
            self.root,
            [*argv, *atoms],
            tools=self.tools,
            binds={self.portage: "/etc/portage", self.index: BINHOST},
            readable={self.tree: REPOSITORY},
            environment=environment,
            check=False,
        )
        said = result.text + result.stderr.decode(errors="replace")
        if result.returncode != 0:
            raise not_installable(said)
        found = [BINARY.fullmatch(line) for line in result.text.splitlines()]
        return [(f[1], f[2]) for f in found if f]


def unpack_stage(archive: Path, place: Path) -> None:
    place.mkdir(parents=True)
    argv = ["tar", "--extract", "--numeric-owner", "--preserve-permissions", "--exclude=./dev/*"]
    with ui.current().step("Unpacking the stage3"):
        run(as_root([*argv, f"--directory={place}", f"--file={archive}"]))


def not_installable(said: str) -> InputError:
    """emerge's answer to a request that it cannot fulfil: unknown names, or masks and conflicts."""
    if unknown := NOT_THERE.findall(said):
        return UnknownPackages(
            {name: f"portage: the binhost has no package {name!r}" for name in dict.fromkeys(unknown)}
        )
    lines = [
        line.strip() for line in said.splitlines() if line.strip().startswith(("!!!", "-", "(", "emerge:"))
    ]
    shown = "\n".join(f"  {line}" for line in (lines or said.strip().splitlines())[:20])
    return InputError(
        f"portage cannot install this together:\n{shown}",
        hint="see packages.add and gentoo in the profile",
    )


def chosen(index: Index, plans: Sequence[Sequence[tuple[str, str]]]) -> list[Binary]:
    """The paragraphs of the index that emerge's plans name, sorted by path."""
    found: dict[str, Binary] = {}
    for cpv, build_id in {row for plan in plans for row in plan}:
        binary = index.find(cpv, build_id)
        if binary is None:
            raise TrustError(f"emerge chose {cpv} (build {build_id}), which the index does not have")
        found[binary.path] = binary
    return [found[path] for path in sorted(found)]


def pin_binaries(
    http: "httpx.Client", base: str, wanted: Sequence[Binary], store: Store, scratch: Path
) -> list[LockedFile]:
    """Fetch each gpkg, compare it with the index and with its own name, and pin it.

    The index has no digest stronger than SHA-1, so that the lock's come from the files themselves; who made
    them is checked by portage when it installs them.
    """
    scratch.mkdir()
    with (
        ui.current().step(f"Fetching {len(wanted)} gpkgs", total=sum(b.size for b in wanted)) as meter,
        ThreadPoolExecutor(PARALLEL) as pool,
    ):

        def one(numbered: tuple[int, Binary]) -> LockedFile:
            number, binary = numbered
            file = pin_binary(http, base, binary, store, scratch / str(number))
            meter.advance(binary.size)
            return file

        return list(pool.map(one, enumerate(wanted)))


def pin_binary(http: "httpx.Client", base: str, binary: Binary, store: Store, part: Path) -> LockedFile:
    import httpx

    url = f"{base}/{binary.path}"
    sha1 = hashlib.sha1(usedforsecurity=False)
    try:
        with http.stream("GET", url) as answer, part.open("wb") as out:
            answer.raise_for_status()
            for block in answer.iter_bytes(1 << 20):
                sha1.update(block)
                out.write(block)
                if out.tell() > binary.size:
                    break
    except httpx.HTTPError as e:
        raise MachineError(f"cannot fetch {url}: {e}") from e
    if part.stat().st_size != binary.size or sha1.hexdigest() != binary.sha1:
        raise TrustError(
            f"{url} is not what the index says of {binary.cpv}", hint="the mirror is being renewed?"
        )
    renamed = part.with_name(f"{part.name}.{binary.path.rpartition('/')[2]}")
    part.rename(renamed)
    check_inner_name(renamed, binary.cpv)
    file = LockedFile(
        kind="package",
        repository="binhost",
        path=binary.path,
        size=binary.size,
        sha256=file_digest(renamed),
        sha512=file_digest(renamed, "sha512"),
        name=binary.cp,
        version=binary.version,
    )
    if store.has(file):
        renamed.unlink()
    else:
        store.adopt(renamed, file)
    return file
