"""Which file of the Debian root belongs to which package, and what does the package depend on?

The root is read as a tar. Every path goes to one package: by the rules of data/owners.txt, by dpkg's own
file lists, or (a link nobody owns) to the package of its target; the rest is the `filesystem` package's.
"""

import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import IO

from builder.errors import InputError
from builder.standin.names import LEFT_OUT, Name, data_text, extras, name_of, rows

FILESYSTEM = "filesystem"
MERGED = ("bin", "sbin", "lib", "lib64")  # /bin is a link to /usr/bin and so on
KEPT_XATTRS = "SCHILY.xattr.security."  # file capabilities; ACLs are made by tmpfiles.d at boot
DAY = 86400


@dataclass(frozen=True)
class Entry:
    """One file, directory or link of a package: its tar header, and where the content is."""

    info: tarfile.TarInfo
    content: bytes | None = None  # where None, `size` bytes at `offset` of the root's tar
    offset: int = 0
    hooked: bool = False  # on Arch an alpm hook makes it, so the package does not carry it

    @property
    def path(self) -> str:
        return self.info.name


@dataclass
class Slice:
    """A package before it has a format: names, version as Debian writes it, entries sorted by path."""

    name: Name
    version: str = "0"
    description: str = ""
    homepage: str = ""
    depends: set[str] = field(default_factory=set)  # Arch names
    entries: list[Entry] = field(default_factory=list)
    conffiles: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Control:
    """What dpkg's status file says about one installed package."""

    fields: dict[str, str]
    conffiles: tuple[str, ...]

    def __getitem__(self, key: str) -> str:
        return self.fields.get(key, "")


class Root:
    """The Debian root as a tar: an index of its members, and dpkg's database read out of it."""

    def __init__(self, tar: Path) -> None:
        self.tar = tar
        self.archive = tarfile.open(tar)  # noqa: SIM115 (kept open, closed by `close`)
        self.members = {canonical(m.name): m for m in self.archive}

    def close(self) -> None:
        self.archive.close()

    def read(self, path: str) -> bytes:
        member = self.members.get(path)
        stream = self.archive.extractfile(member) if member else None
        if stream is None:
            raise InputError(f"{self.tar}: no file {path} in it", hint="remove it; it is then made again")
        return stream.read()

    def text(self, path: str) -> str:
        return self.read(path).decode(errors="replace")

    @cached_property
    def controls(self) -> dict[str, Control]:
        """Installed Debian packages by name; among them the kernel, only unpacked, as `linux-image`."""
        found = dict(parse_status(self.text("var/lib/dpkg/status")))
        kernel = dict(parse_status("Status: install ok installed\n" + self.text("var/lib/dpkg/linux-image")))
        found["linux-image"] = next(iter(kernel.values()))
        return found

    @cached_property
    def lists(self) -> dict[str, str]:
        """Owner (a Debian package) of each path that dpkg knows."""
        owners: dict[str, str] = {}
        for path in sorted(self.members):
            if path.startswith("var/lib/dpkg/info/") and path.endswith(".list"):
                package = PurePosixPath(path).stem.partition(":")[0]
                for line in self.text(path).splitlines():
                    owners.setdefault(canonical(line), package)
        return owners

    @cached_property
    def timestamp(self) -> int:
        """The mirror's date: midnight (UTC) of the day when the newest of Debian's indices was signed."""
        dates = [
            parsedate_to_datetime(line[6:])
            for path in self.members
            if path.startswith("var/lib/apt/lists/") and path.endswith("Release")
            for line in self.text(path).splitlines()[:40]
            if line.startswith("Date: ")
        ]
        if not dates:
            raise InputError(f"{self.tar}: holds none of apt's indices", hint="remove it; it is made again")
        return int(max(dates).timestamp()) // DAY * DAY

    @property
    def date(self) -> str:
        return f"{datetime.fromtimestamp(self.timestamp, UTC):%Y/%m/%d}"


def canonical(path: str) -> str:
    """A path without leading slash or dot, with the merged-/usr links followed."""
    path = re.sub(r"^[./]*/", "", path).rstrip("/")
    first, slash, rest = path.partition("/")
    return f"usr/{path}" if slash and rest and first in MERGED else ("" if path == "." else path)


def parse_status(text: str) -> Iterator[tuple[str, Control]]:
    """Paragraphs of dpkg's status file, installed packages only."""
    for paragraph in text.split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in paragraph.splitlines():
            if line[:1] in (" ", "\t"):
                fields[key] = fields.get(key, "") + "\n" + line[1:]
            elif ":" in line:
                key, _, value = line.partition(":")
                fields[key] = value.strip()
        if "Package" in fields and fields.get("Status", "").endswith(" installed"):
            conffiles = tuple(
                words[0]
                for words in (line.split() for line in fields.get("Conffiles", "").splitlines())
                if len(words) == 2
            )
            yield fields["Package"], Control(fields, conffiles)


def relations(text: str) -> list[list[str]]:
    """A dependency field as a list of alternatives, without versions and architectures."""
    clean = re.sub(r"\([^)]*\)|\[[^]]*\]|:\w+", "", text)
    return [[t.strip() for t in part.split("|") if t.strip()] for part in clean.split(",") if part.strip()]


def pattern(glob: str) -> re.Pattern[str]:
    """``*`` and ``?`` stay within a directory, ``**`` does not."""
    text = re.escape(glob.lstrip("/"))
    text = text.replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.compile(text + r"\Z", re.DOTALL)


def slice_root(root: Root) -> list[Slice]:
    """Every package of the stand-in, sorted by Arch name. The same root gives the same slices."""
    slices = describe(root)
    rules = [(pattern(glob), owner) for glob, owner in rows("owners.txt")]
    owners: dict[str, str] = {}

    def settle(path: str) -> str:
        if "/__pycache__" in path:
            return LEFT_OUT
        for rule, owner in rules:
            if rule.match(path):
                return owner
        debian = root.lists.get(path)
        return name_of(debian).arch if debian in root.controls else ""

    for path in sorted(root.members):
        owners[path] = settle(path)
    for path, owner in owners.items():
        if not owner:
            owners[path] = owner_of_target(root, path, owners) or FILESYSTEM
    for path, member in sorted(root.members.items()):
        owner = owners[path].rstrip("!")
        if (
            path
            and owner != LEFT_OUT
            and (member.isreg() or member.isdir() or member.issym() or member.islnk())
        ):
            package = slices[owner if owner in slices else FILESYSTEM]
            package.entries.append(entry(root, path, member, hooked=owners[path].endswith("!")))
    add_shared_directories(root, slices)
    for name, package in slices.items():
        add_own_files(package, name, root.timestamp)
        package.entries.sort(key=lambda e: e.path)
    add_script_dependencies(root, slices)
    return [slices[name] for name in sorted(slices) if slices[name].entries]


def describe(root: Root) -> dict[str, Slice]:
    """Packages with versions and dependencies, still without files."""
    provided = {
        virtual: package
        for package, control in sorted(root.controls.items(), reverse=True)
        for alternatives in relations(control["Provides"])
        for virtual in alternatives
    }
    slices: dict[str, Slice] = {}
    for package, control in sorted(root.controls.items()):
        name = name_of(package)
        if name.arch == LEFT_OUT:
            continue
        made = slices.setdefault(name.arch, Slice(name))
        first = next(p for p in name.debian if p in root.controls)
        if package == first:
            made.version = control["Version"]
            made.description = control["Description"].splitlines()[0] if control["Description"] else ""
            made.homepage = control["Homepage"]
        made.conffiles |= {canonical(path) for path in control.conffiles}
        for alternatives in relations(f"{control['Pre-Depends']},{control['Depends']}"):
            for wanted in alternatives:
                found = wanted if wanted in root.controls else provided.get(wanted)
                if found and name_of(found).arch != LEFT_OUT:
                    made.depends.add(name_of(found).arch)
                    break
        if name.arch != FILESYSTEM:
            made.depends.add(FILESYSTEM)
    slices[FILESYSTEM].depends.clear()
    for arch, made in slices.items():
        extra = extras().get(arch, {})
        made.depends |= set(extra.get("depends", ()))
        made.depends -= {arch, *extra.get("without", ())}
    return slices


def owner_of_target(root: Root, path: str, owners: dict[str, str]) -> str:
    """The owner of what a link nobody owns leads to, at most three links deep; none for a dangling one."""
    here = path
    for _ in range(3):
        member = root.members.get(here)
        if member is None:
            return LEFT_OUT if here != path else ""
        if not member.issym():
            return ""
        joined = PurePosixPath("/", here).parent / member.linkname
        here = canonical(resolved(joined))
        if owners.get(here):
            return owners[here]
    return ""


def resolved(path: PurePosixPath) -> str:
    """A path with its ``..`` taken away, as text."""
    parts: list[str] = []
    for part in path.parts[1:]:
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return "/" + "/".join(parts)


def entry(root: Root, path: str, member: tarfile.TarInfo, *, hooked: bool) -> Entry:
    """A member as a package carries it: no later than the mirror's date, hard links as copies."""
    source = member
    while source.islnk():
        source = root.members[canonical(source.linkname)]
    info = tarfile.TarInfo(path)
    info.type = source.type
    info.mode, info.uid, info.gid = source.mode & 0o7777, source.uid, source.gid
    info.size, info.linkname = source.size, source.linkname
    info.mtime = min(int(source.mtime), root.timestamp)
    info.pax_headers = {k: v for k, v in source.pax_headers.items() if k.startswith(KEPT_XATTRS)}
    made = Entry(info, offset=source.offset_data, hooked=hooked)
    if path in ("etc/shadow", "etc/gshadow"):
        return with_content(made, shadow_of_day(root.read(path), root.timestamp // DAY))
    return made


def with_content(made: Entry, content: bytes) -> Entry:
    made.info.size = len(content)
    return replace(made, content=content)


def shadow_of_day(content: bytes, day: int) -> bytes:
    """shadow(5) with the day of the last change (of this machine's clock) set to the mirror's."""
    lines = []
    for line in content.decode().splitlines():
        words = line.split(":")
        if len(words) == 9 and words[2]:
            words[2] = str(day)
        lines.append(":".join(words) + "\n")
    return "".join(lines).encode()


def add_shared_directories(root: Root, slices: dict[str, Slice]) -> None:
    """Give every package the directories above its files, and empty directories to all who listed them."""
    for package in slices.values():
        have = {e.path for e in package.entries}
        needed: set[str] = set()
        for path in have:
            needed |= {p.as_posix() for p in PurePosixPath(path).parents} - {"."}
        for path in sorted(needed - have):
            if path in root.members:
                package.entries.append(entry(root, path, root.members[path], hooked=False))


def add_own_files(package: Slice, name: str, timestamp: int) -> None:
    """Add the files below data/files/NAME, which replace Debian's of the same path."""
    top = resources.files("builder.standin").joinpath("data", "files", name)
    if not top.is_dir():
        return
    own = {e.path: e for e in walk_own(top, "", timestamp)}
    have = {e.path for e in package.entries if e.info.isdir()}
    package.entries = [e for e in package.entries if e.path not in own or e.path in have]
    package.entries += [e for path, e in own.items() if path not in have]


def walk_own(top: Traversable, prefix: str, timestamp: int) -> Iterator[Entry]:
    for item in sorted(top.iterdir(), key=lambda t: t.name):
        info = tarfile.TarInfo(prefix + item.name)
        info.mtime, info.mode = timestamp, 0o755
        path = Path(str(item))
        if path.is_symlink():
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
            yield Entry(info)
        elif item.is_dir():
            info.type = tarfile.DIRTYPE
            yield Entry(info)
            yield from walk_own(item, info.name + "/", timestamp)
        else:
            content = item.read_bytes()
            info.mode = 0o755 if content.startswith(b"#!") else 0o644
            yield with_content(Entry(info), content)


SHELL = ("bash", "coreutils", "grep", "sed")
INTERPRETERS = {
    "sh": SHELL,
    "bash": SHELL,
    "dash": ("dash", *SHELL),
    "python3": ("python", *SHELL),
    "perl": ("perl", *SHELL),
}


def add_script_dependencies(root: Root, slices: dict[str, Slice]) -> None:
    """Let packages depend on their scripts' interpreters, except those that the interpreter itself needs."""
    needed = {name: closure(slices, wanted) for name, wanted in INTERPRETERS.items()}
    with root.tar.open("rb") as tar:
        for name, package in slices.items():
            found = {i for i in interpreters(package, tar) if name not in needed[i]}
            package.depends |= {d for i in found for d in INTERPRETERS[i] if d in slices} - {name}


def closure(slices: dict[str, Slice], wanted: Iterable[str]) -> set[str]:
    """The packages ``wanted`` and everything they depend on."""
    found: set[str] = set()
    todo = [name for name in wanted if name in slices]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [d for d in slices[name].depends if d in slices]
    return found


def interpreters(package: Slice, tar: IO[bytes]) -> set[str]:
    """The interpreters (of those we know) that executable files of the package name in their first line."""
    found: set[str] = set()
    for made in package.entries:
        if made.info.isreg() and made.info.mode & 0o111:
            tar.seek(made.offset)
            start = made.content[:64] if made.content is not None else tar.read(min(64, made.info.size))
            shebang = re.match(rb"#!\s*(?:/usr)?/bin/(?:env\s+)?([a-z0-9]+)", start)
            if shebang and shebang[1].decode() in INTERPRETERS:
                found.add(shebang[1].decode())
    return found


def install_script(name: str) -> str | None:
    """The install script of a package, where it has one: data/install/NAME.install."""
    script = resources.files("builder.standin").joinpath("data", "install", f"{name}.install")
    return script.read_text() if script.is_file() else None


def inventory() -> str:
    """All data that decides about slicing, as one text, for keys."""
    tops = [resources.files("builder.standin").joinpath("data", part) for part in ("files", "install")]
    found: dict[str, str] = defaultdict(str)
    for top in tops:
        for made in walk_own(top, f"{top.name}/", 0):
            found[made.path] = repr((made.info.mode, made.info.linkname, made.content))
    texts = [data_text(n) for n in ("names.txt", "owners.txt", "packages.yaml")]
    return "\n".join([*texts, *(f"{path} {what}" for path, what in sorted(found.items()))])
