"""How is mkosi called for a profile: which settings, which directories, which environment?"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from builder.chroot import as_root
from builder.distro import backend
from builder.errors import InputError
from builder.files import linked
from builder.lock import Lock
from builder.profile import Profile
from builder.project import Project
from builder.run import Arg
from builder.sources import Source
from builder.store import Store
from builder.tools import Tools

MEANT_OTHERWISE = frozenset(",:$'\"\\\n")  # in a path that mkosi.conf(5) is given
FINALIZE = ("builder/localegen.py", "builder/normalise.py", "builder/treecheck.py")  # as in mkosi.conf
INITRD = "initrd"  # mkosi.images/initrd
Settings = dict[str, dict[str, list[str]]]


@dataclass(frozen=True)
class Build:
    """One build's identity and places; everything it writes is below ``scratch`` and ``cache``."""

    profile: Profile
    lock: Lock
    version: str
    epoch: int
    """SOURCE_DATE_EPOCH: seconds since 1970, from the lock's snapshot."""
    scratch: Path
    cache: Path
    """mkosi's incremental cache of installed packages."""
    initrd: Path | None = None
    """A finished initrd, to be taken instead of making one."""

    @property
    def checkout(self) -> Path:
        """What mkosi is given in place of the checkout: its own files, with modes that do not differ."""
        return self.scratch / "checkout"

    @property
    def output(self) -> Path:
        return self.scratch / "out"

    @property
    def rendered(self) -> Path:
        return self.scratch / "rendered"

    @property
    def made_initrd(self) -> Path:
        """Where mkosi makes the initrd, and looks for it: mkosi.conf.d says so."""
        return self.output / INITRD


def profile_settings(build: Build, project: Project) -> Settings:
    """The settings that depend on the profile, by section of mkosi.conf(5)."""
    profile = build.profile
    trees = [build.rendered / "image"]  # after mkosi.extra, which mkosi takes by itself
    if profile.files is not None:
        trees.append(build.scratch / "files")
    variant = [f"VARIANT_ID={Source.STANDIN}"] if build.lock.source is Source.STANDIN else []
    return {
        "Config": {"Dependencies": [INITRD] if profile.bootable and not build.initrd else []},
        "Output": {
            "Output": [profile.name],
            "ImageId": [profile.name],
            "ImageVersion": [build.version],
            "OutputDirectory": [os.fspath(build.output)],
        },
        "Content": {
            "Bootable": ["yes" if profile.bootable else "no"],
            "ExtraTrees": [os.fspath(tree) for tree in trees],
            "Hostname": [profile.hostname or profile.name],
            "Timezone": [profile.timezone],
            "Locale": [profile.locale],
            "Keymap": [profile.keymap],
            "SourceDateEpoch": [str(build.epoch)],
        },
        "Build": {
            "Environment": [f"IMAGE_NAME={profile.name}", *variant],
            "WorkspaceDirectory": [os.fspath(build.scratch / "workspace")],
            "CacheDirectory": [os.fspath(build.cache)],
        },
    }


def merged(*parts: Settings) -> Settings:
    """Settings of several origins in one; of the same key, all values."""
    result: Settings = {}
    for part in parts:
        for section, keys in part.items():
            for key, values in keys.items():
                result.setdefault(section, {}).setdefault(key, []).extend(values)
    return result


def settings_text(settings: Settings) -> str:
    """Settings as mkosi.conf(5) text. Raises InputError for a value that it cannot hold."""
    lines = []
    for section, keys in settings.items():
        lines.append(f"[{section}]")
        for key, values in keys.items():
            for value in values:
                if "\n" in value or ("," in value and "/" in value):
                    raise InputError(f"{value!r} cannot be handed to mkosi")
            # '%' begins a specifier in mkosi.conf(5)
            escaped = [value.replace("%", "%%") for value in values]
            lines.append(
                f"{key}=" + (escaped[0] if len(escaped) == 1 else "".join(f"\n  {v}" for v in escaped))
            )
        lines.append("")
    return "\n".join(lines)


def prepare(build: Build, project: Project, *, store: Store, tools: Tools) -> None:
    """Lay out what mkosi reads: the locked packages, the rendered tree and the profile's settings.

    Raises InputError where a path has a character that mkosi reads as something else.
    """
    from builder.render import render_image

    for place in (build.scratch, build.cache):
        if strange := sorted(MEANT_OTHERWISE & set(os.fspath(place))):
            raise InputError(
                f"{place}: mkosi cannot work below a path with {' '.join(map(repr, strange))} in it",
                hint="set XDG_CACHE_HOME to another place",
            )
    for shared in (*project.root.glob("mkosi.*"), *(project.root / name for name in FINALIZE)):
        stage(shared, build.checkout / shared.relative_to(project.root))
    if build.profile.files is not None:
        stage(project.profiles / build.profile.files, build.scratch / "files")
    render_image(build.profile, build.rendered / "image")
    prepared = backend(build.profile.distribution).prepare(
        build.profile, build.lock, project=project, store=store, tools=tools, scratch=build.scratch
    )
    for place in (build.output, build.scratch / "workspace", build.cache):
        place.mkdir(parents=True, exist_ok=True)
    if build.initrd is not None:
        linked(build.initrd, build.made_initrd)
    settings = merged(profile_settings(build, project), prepared.settings)
    (build.scratch / "profile.conf").write_text(settings_text(settings))
    if prepared.initrd:
        more = build.checkout / "mkosi.images/initrd/mkosi.conf.d/backend.conf"
        more.write_text(settings_text(prepared.initrd))


def stage(source: Path, dest: Path) -> None:
    """Copy a file or tree of the checkout with the modes that git keeps: a clone's umask is no input."""
    if source.is_dir():
        no_bytecode = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(source, dest, symlinks=True, copy_function=copy_plain, ignore=no_bytecode)
        for directory in (dest, *(p for p in dest.rglob("*") if p.is_dir() and not p.is_symlink())):
            directory.chmod(0o755)
    else:
        dest.parent.mkdir(parents=True, exist_ok=True)
        copy_plain(os.fspath(source), os.fspath(dest))


def copy_plain(source: str, dest: str) -> None:
    shutil.copyfile(source, dest)
    executable = Path(source).stat().st_mode & 0o100
    Path(dest).chmod(0o755 if executable else 0o644)


def command(
    build: Build, project: Project, tools: Tools, words: list[Arg]
) -> tuple[list[str], dict[str, str]]:
    """Argument list and environment of mkosi for a prepared build; ``words`` end with the verb.

    It is run as root, be it of our subordinate ids: for an ordinary user mkosi gives all files to root.
    """
    argv, environment = tools.mkosi(
        ["--directory", build.checkout, "--include", build.scratch / "profile.conf", *words]
    )
    keep = {k: os.environ[k] for k in ("PATH", "HOME", "TERM", "TMPDIR") if k in os.environ}
    return as_root(argv), {"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **keep, **environment}
