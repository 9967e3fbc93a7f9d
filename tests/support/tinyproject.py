"""What is the smallest project that `seatsmith image` really builds? A copy of the checkout, a tiny mirror.

The mirror is where the stand-in would be made, so the command line itself is tested and nothing replaced.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from builder.distro.packagesets import wanted_packages
from builder.files import write_json
from builder.profile import load_profile
from builder.project import Project, cache_home
from builder.standin.keys import SigningKey, ensure_key, sign_files
from builder.standin.mirror import mirror_key
from builder.tools import Tools, tree_key
from tests.support.pacman_repo import TinyPackage

CHECKOUT = Path(__file__).parents[2]
SHARED = ("builder", "mkosi.conf", "mkosi.conf.d", "mkosi.extra", "mkosi.images", "mkosi.postoutput")
DATE = "2026-11-01"
PROFILE = """\
users:
  - name: user
audio:
  server: none
packages:
  add: [hello]
"""
FILESYSTEM = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/shadow": "root:!*:1::::::\n",
    "usr/bin/.kept": "",
    "home/user/.kept": "",
    "usr/lib/os-release": "ID=tiny\n",
}


@dataclass(frozen=True)
class Outcome:
    """What one run of the command line left."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class TinyProject:
    """A checkout at ``root`` whose cache, with the tiny stand-in, is below ``caches``."""

    root: Path
    caches: Path
    tools: Tools
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Project:
        return Project(self.root, self.caches / "seatsmith", self.root / "dist")

    @property
    def key(self) -> SigningKey:
        return ensure_key(self.project.cache / "standin/key", self.tools)

    @property
    def mirror(self) -> Path:
        return self.project.cache / "standin/mirrors" / mirror_key()

    def repository(self, name: str) -> Path:
        return self.mirror / "repos" / DATE.replace("-", "/") / name / "os/x86_64"

    def dist(self, name: str = "tiny") -> Path:
        return self.root / "dist" / name

    def write_profile(self, text: str = PROFILE, name: str = "tiny") -> None:
        (self.root / f"profiles/{name}.yaml").write_text(text)

    def argv(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-m", "builder", *(os.fspath(w) for w in words)]

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        gone = {"SIGNING_KEY", "SOURCE", "SEATSMITH_DIST", "SEATSMITH_ROOT"}
        base = {k: v for k, v in os.environ.items() if k not in gone}
        own = {"XDG_CACHE_HOME": os.fspath(self.caches), "PYTHONPATH": os.fspath(self.root)}
        return {**base, **own, "SOURCE": "standin", **self.environment, **(more or {})}

    def run(self, *words: str | Path, env: Mapping[str, str] | None = None) -> Outcome:
        """``seatsmith WORDS`` in the project."""
        result = subprocess.run(
            self.argv(*words), cwd=self.root, env=self.env(env), capture_output=True, text=True, timeout=300
        )
        return Outcome(result.returncode, result.stdout, result.stderr)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*words),
            cwd=self.root,
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def unfinished(self) -> list[str]:
        """Anything that a run should have taken away again."""
        places = [*self.root.rglob("*"), *self.project.cache.rglob("*")]
        return sorted(
            str(p)
            for p in places
            if p.name.endswith((".part", ".import")) or (p.parent.name == "work" and p.is_dir())
        )

    def publish(self, repository: str, packages: Sequence[TinyPackage], *, sign: bool = True) -> None:
        """Write packages, databases and signatures into the mirror."""
        place = self.repository(repository)
        place.mkdir(parents=True, exist_ok=True)
        paths = []
        for package in packages:
            paths.append(place / package.filename)
            paths[-1].write_bytes(package.content())
        database = place / f"{repository}.db.tar.gz"
        self.tools.run(["repo-add", "--quiet", database, *paths])
        for kind in ("db", "files"):
            (place / f"{repository}.{kind}").unlink(missing_ok=True)
            (place / f"{repository}.{kind}.tar.gz").rename(place / f"{repository}.{kind}")
            paths.append(place / f"{repository}.{kind}")
        if sign:
            for path in paths:
                path.with_name(path.name + ".sig").unlink(missing_ok=True)
            sign_files(self.key, self.tools, paths)


def make_project(root: Path, caches: Path, tools: Tools) -> TinyProject:
    """A project with one profile, ``tiny``, and a mirror that has all it asks for."""
    copy_checkout(root)
    cache = caches / "seatsmith"
    (cache / "tools").mkdir(parents=True)
    (cache / "tools" / tree_key()).symlink_to(cache_home() / "tools" / tree_key())
    tiny = TinyProject(root, caches, tools)
    tiny.write_profile()
    wanted = wanted_packages(load_profile(tiny.project, "tiny"))
    packages = [TinyPackage(name, depends=("filesystem",)) for name in wanted if name != "filesystem"]
    tiny.publish("core", [TinyPackage("filesystem", files=FILESYSTEM)])
    tiny.publish("extra", packages)
    (tiny.mirror / "standin.pgp").write_bytes(tiny.key.public.read_bytes())
    said = {
        "date": DATE.replace("-", "/"),
        "fingerprint": tiny.key.fingerprint,
        "packages": len(packages) + 1,
        "size": 0,
    }
    write_json(tiny.mirror / "mirror.json", said)
    return tiny


def copy_checkout(root: Path) -> None:
    """What an image is built from, without the profiles."""
    (root / "profiles").mkdir(parents=True)
    for name in SHARED:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, root / name)
