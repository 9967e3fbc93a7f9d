"""What does a profile with a pacman repository of its own look like? One that a key of the test signs."""

from pathlib import Path

from tests.support.gpgkeys import KeyMaker, TestKey
from tests.support.pacman_repo import TinyPackage, write_repository
from tests.support.tinyproject import PROFILE, TinyProject


class Repositories:
    """Repositories ``own`` beside the stand-in, each with a profile that names it, on a loopback server."""

    def __init__(self, tiny: TinyProject, make_key: KeyMaker, place: Path, url: str) -> None:
        self.tiny, self.make_key, self.place, self.url = tiny, make_key, place, url

    def add(
        self,
        name: str,
        package: TinyPackage,
        key: TestKey,
        *,
        signed: bool = True,
        public: bytes | None = None,
        fingerprint: str | None = None,
        siglevel: str = "Required",
    ) -> Path:
        """A profile ``name`` that asks for ``package`` from a repository signed by ``key``."""
        home = self.make_key.ring.home
        where = write_repository(
            self.tiny.tools, self.place / name, "own", [package], home=home, signed=False
        )
        if signed:
            for path in list(where.iterdir()):
                self.make_key.gpg(["--local-user", key.fingerprint, "--detach-sign", str(path)])
        profiles = self.tiny.root / "profiles"
        (profiles / f"{name}.gpg").write_bytes(public or key.public.read_bytes())
        text = PROFILE.replace("[hello]", f"[{package.name}]") + (
            "repositories:\n"
            "  - name: own\n"
            f"    url: {self.url}/{name}/$repo/os/$arch\n"
            f"    key: {name}.gpg\n"
            f"    fingerprint: {fingerprint or key.fingerprint}\n"
            f"    siglevel: {siglevel}\n"
        )
        self.tiny.write_profile(text, name)
        return where
