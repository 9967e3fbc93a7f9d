"""What differs between two images? What a reviewer of an update asks: packages, rights, units, files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder.errors import InputError
from builder.outputs.record import image_files, role_of
from builder.outputs.verify import read_json
from builder.outputs.write import MANIFEST
from builder.publish.tarstream import Member, members

UNIT = re.compile(
    r"(?:usr/lib|etc)/systemd/(?:system|user)/"
    r"[^/]+\.(?:service|socket|timer|mount|automount|path|target|slice|swap|device)(?:\.d/[^/]+\.conf)?"
)
ENABLED = re.compile(r"etc/systemd/(?:system|user)/([^/]+)\.(?:wants|requires)/([^/]+)")
MASK = "/dev/null"
SPECIAL_BITS = 0o6000


@dataclass(frozen=True)
class Change:
    """One thing that differs. ``old`` or ``new`` is empty where it was added or removed."""

    name: str
    old: str = ""
    new: str = ""

    @property
    def kind(self) -> str:
        return "added" if not self.old else "removed" if not self.new else "changed"


@dataclass
class ImageDiff:
    """The difference, by the questions that a reviewer asks."""

    old: str
    new: str
    old_size: int = 0
    """Bytes of all files, unpacked."""
    new_size: int = 0
    packages: list[Change] = field(default_factory=list)
    files: list[Change] = field(default_factory=list)
    """Added, removed, and changed in content, kind or link target; sizes in bytes."""
    rights: list[Change] = field(default_factory=list)
    """Mode or owner of files that both have."""
    special: list[Change] = field(default_factory=list)
    """Files with setuid, setgid or capabilities that came, went or changed."""
    units: list[Change] = field(default_factory=list)
    enabled: list[Change] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.packages or self.files or self.rights or self.special)


def diff_images(old: Path, new: Path) -> ImageDiff:
    """Compare two result directories (or two bare image archives, then without packages)."""
    old_image, old_packages = open_side(old)
    new_image, new_packages = open_side(new)
    before = {m.path: m for m in members(old_image, digests=True, strict=old.is_dir())}
    after = {m.path: m for m in members(new_image, digests=True, strict=new.is_dir())}
    return compare(
        before,
        after,
        old_packages,
        new_packages,
        names=(old_image.name, new_image.name),
    )


def open_side(place: Path) -> tuple[Path, dict[str, str]]:
    """The image archive of one side, and its packages' versions by name."""
    if place.is_file():
        return place, {}
    images = [p for p in image_files(place) if role_of(p.name) == "image"] if place.is_dir() else []
    if not images:
        raise InputError(
            f"there is no image {'in ' if place.is_dir() else ''}{place}",
            hint="name a result directory, such as dist/work, or an archive PROFILE_VERSION_x86-64.tar.zst",
        )
    manifest = read_json(place / MANIFEST) if (place / MANIFEST).exists() else {"packages": []}
    packages = {str(p["name"]): str(p["version"]) for p in manifest["packages"]}
    return images[0], packages


def compare(
    before: Mapping[str, Member],
    after: Mapping[str, Member],
    old_packages: Mapping[str, str],
    new_packages: Mapping[str, str],
    *,
    names: tuple[str, str],
) -> ImageDiff:
    diff = ImageDiff(*names)
    diff.old_size = sum(m.size for m in before.values())
    diff.new_size = sum(m.size for m in after.values())
    diff.packages = changes(old_packages, new_packages)
    diff.files = changes(
        {path: content_text(m) for path, m in before.items()},
        {path: content_text(m) for path, m in after.items()},
    )
    both = before.keys() & after.keys()
    diff.rights = changes(
        {path: rights_text(before[path]) for path in both},
        {path: rights_text(after[path]) for path in both},
    )
    diff.special = changes(special_files(before), special_files(after))
    diff.units = [c for c in diff.files if UNIT.fullmatch(c.name)]
    diff.enabled = changes(enabled_units(before), enabled_units(after))
    return diff


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    return [
        Change(name, old.get(name, ""), new.get(name, ""))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def content_text(member: Member) -> str:
    """What a file is, in words that are equal exactly if the content is."""
    match member.kind:
        case "file":
            return f"{member.size} bytes, sha256 {member.digest[:16]}"
        case "symlink":
            return f"-> {member.target}"
        case "hardlink":
            return f"= {member.target}"
        case _:
            return member.kind


def rights_text(member: Member) -> str:
    if member.kind == "symlink":  # a link's own mode means nothing
        return f"{member.uid}:{member.gid}"
    return f"{member.mode:04o} {member.uid}:{member.gid}"


def special_files(tree: Mapping[str, Member]) -> dict[str, str]:
    """Files that run with more rights than their caller's."""
    found = {}
    for path, m in tree.items():
        setid = m.kind == "file" and m.mode & SPECIAL_BITS
        if setid or m.capabilities:
            found[path] = rights_text(m) + (" with capabilities" if m.capabilities else "")
    return found


def enabled_units(tree: Mapping[str, Member]) -> dict[str, str]:
    """Units that are started or masked, by ``etc/systemd``'s links."""
    found = {}
    for path, m in tree.items():
        if match := ENABLED.fullmatch(path):
            found[match[2]] = f"by {match[1]}"
        elif m.kind == "symlink" and m.target == MASK and path.startswith("etc/systemd/"):
            found[path.rpartition("/")[2]] = "masked"
    return found
