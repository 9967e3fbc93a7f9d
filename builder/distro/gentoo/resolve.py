"""What would emerge install for a profile, and which files of the binhost are that?"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder import ui
from builder.chroot import as_root, inside
from builder.distro.gentoo.config import BINHOST, REPOSITORY, build_environment, hold
from builder.distro.gentoo.emerge import OPTIONS, TARGET
from builder.distro.gentoo.index import Binary, Index, check_inner_name
from builder.distro.gentoo.messages import not_installable
from builder.errors import MachineError, TrustError
from builder.files import file_digest, json_digest
from builder.lock import LockedFile
from builder.run import Result, run
from builder.store import Store
from builder.tools import Tools

if TYPE_CHECKING:
    import httpx

BINARY = re.compile(r"\[binary[^]]*\] (\S+)-(\d+)(?:::\S+)?(?: .*)?")  # cpv and build id
EBUILD = re.compile(r"\[ebuild[^]]*\] (\S+?)(?:::\S+)?(?: .*)?")  # cpv
PARALLEL = 4
ASK = Path(__file__).with_name("ask_portage.py")


@dataclass(frozen=True)
class Plan:
    """What emerge would install: CPV and build id of binary packages, and CPVs to build from source."""

    binaries: frozenset[tuple[str, str]]
    builds: tuple[str, ...] = ()


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
    own_use: bool = False
    """Whether the profile has USE flags of its own: a binary package then must have been built with them."""

    def plan(self, atoms: Sequence[str], *, empty: bool) -> Plan:
        """What emerge would install, on the stage3 or into an empty root.

        Of binary packages alone, where these do; else ebuilds fill the gaps, though never because they are
        newer. Raises UnknownPackages or InputError with what emerge says.
        """
        words = [f"--root={TARGET}", *atoms] if empty else atoms
        result = self.emerge(["--getbinpkgonly", *words])
        if result.returncode == 0:
            return planned(result)
        hold(self.portage, self.ask(["newer", f"{BINHOST}/Packages"]))
        gaps = planned(self.emerge(["--getbinpkg", *words])).builds
        # that has what building takes as well; the image is planned as it will be made: of packages alone
        packages = (self.index / "Packages").read_text()
        place = f"with-{json_digest(gaps)[:8]}"  # portage keeps an index by its URL and time
        (self.index / place).mkdir(exist_ok=True)
        (self.index / place / "Packages").write_text(f"{packages}{self.ask(['built', *gaps])}\n")
        found = planned(self.emerge(["--getbinpkgonly", *words], binhost=f"{BINHOST}/{place}")).binaries
        mine = tuple(sorted(cpv for cpv, _ in found if cpv in gaps))
        return Plan(frozenset((cpv, number) for cpv, number in found if cpv not in gaps), mine)

    def plan_builds(self, cpvs: Sequence[str]) -> Plan:
        """What emerge would install to build packages from source, on the stage3: they and their tools."""
        return planned(self.emerge(["--getbinpkg", "--oneshot", *(f"={cpv}" for cpv in cpvs)]))

    def distfiles(self, cpvs: Sequence[str]) -> dict[str, list[str]]:
        """The names of the files that each package is built from."""
        found: dict[str, list[str]] = json.loads(self.ask(["distfiles", *cpvs])) if cpvs else {}
        return found

    def ask(self, words: Sequence[str]) -> str:
        script = f"/tmp/{ASK.name}"
        return self.inside(["python3", script, *words], readable={ASK: script}).text

    def emerge(self, words: Sequence[str], *, binhost: str = BINHOST) -> Result:
        # the binhost's packages stand for ours: they will be in PKGDIR when the image is built
        options = [o for o in OPTIONS if o not in ("--usepkgonly", "--quiet")]
        options.append(f"--binpkg-respect-use={'y' if self.own_use else 'n'}")
        # in a file: the environment counts for one root only, and building for another takes tools in /
        (self.portage / "binrepos.conf").write_text(f"[binhost]\nsync-uri = file://{binhost}\n")
        return self.inside(["emerge", "--pretend", *options, *words], check=False)

    def inside(
        self,
        argv: Sequence[str],
        *,
        readable: Mapping[Path, str] | None = None,
        check: bool = True,
    ) -> Result:
        for place in (REPOSITORY, BINHOST, "/etc/portage", TARGET):
            run(as_root(["mkdir", "-p", f"{self.root}{place}"]))
        return inside(
            self.root,
            argv,
            tools=self.tools,
            binds={self.portage: "/etc/portage", self.index: BINHOST},
            readable={self.tree: REPOSITORY, **(readable or {})},
            environment=build_environment(),
            check=check,
        )


def planned(result: Result) -> Plan:
    """Read emerge's answer to ``--pretend``. Raises UnknownPackages or InputError."""
    if result.returncode != 0:
        raise not_installable(result.text + result.stderr.decode(errors="replace"))
    lines = result.text.splitlines()
    binaries = frozenset((f[1], f[2]) for line in lines if (f := BINARY.fullmatch(line)))
    return Plan(binaries, tuple(sorted({f[1] for line in lines if (f := EBUILD.fullmatch(line))})))


def unpack_stage(archive: Path, place: Path) -> None:
    place.mkdir(parents=True)
    argv = ["tar", "--extract", "--numeric-owner", "--preserve-permissions", "--exclude=./dev/*"]
    with ui.current().step("Unpacking the stage3"):
        run(as_root([*argv, f"--directory={place}", f"--file={archive}"]))


def chosen(index: Index, plans: Sequence[Plan]) -> list[Binary]:
    """The paragraphs of the index that emerge's plans name, sorted by path."""
    found: dict[str, Binary] = {}
    for cpv, build_id in {row for plan in plans for row in plan.binaries}:
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
