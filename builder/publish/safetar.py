"""May an archive from elsewhere be unpacked? Only if no entry can reach outside of where it is unpacked."""

from dataclasses import dataclass
from pathlib import Path

from builder.errors import TrustError
from builder.publish.tarstream import Limits, Member, members

PLAIN = ("file", "directory", "symlink", "hardlink")
BUNDLE_PLACES = ("etc", "usr")  # the only directories of a host that a bundle may bring files for


@dataclass
class Contents:
    """What a harmless archive holds."""

    files: int = 0
    bytes: int = 0


def check_archive(archive: Path, *, bundle: bool = False, limits: Limits | None = None) -> Contents:
    """Read through an archive and refuse it if anything in it is not harmless to unpack as root.

    ``bundle``: it is a host bundle, unpacked over a running system, for which stricter rules hold. Raises
    TrustError naming the first offending entry.
    """
    contents = Contents()
    seen: dict[str, str] = {}  # path → kind
    for member in members(archive, limits=limits, strict=True):
        problem = path_problem(member, seen) or kind_problem(member, seen)
        if not problem and bundle:
            problem = bundle_problem(member)
        if problem:
            raise TrustError(f"{archive.name}: {member.raw!r}: {problem}")
        seen[member.path] = member.kind
        contents.files += 1
        contents.bytes += member.size
    if not seen:
        raise TrustError(f"{archive.name}: is empty")
    return contents


def path_problem(member: Member, seen: dict[str, str]) -> str | None:
    """Absolute names, ``..``, names twice, and names below something that is not a directory."""
    if member.raw.startswith("/"):
        return "an absolute path"
    parts = member.path.split("/") if member.path else []
    if ".." in parts:
        return "a path with '..'"
    if member.kind != "directory" and (not member.path or member.raw.endswith("/")):
        return f"a {member.kind} with the name of a directory"
    if any(ord(c) < 32 for c in member.path + member.target):
        return "a control character in the name" + (" or target" if member.target else "")
    if seen.get(member.path, member.kind) != member.kind or (
        member.path in seen and member.kind != "directory"
    ):
        return "an entry that replaces an earlier one"
    for depth in range(1, len(parts)):
        kind = seen.get("/".join(parts[:depth]), "directory")
        if kind != "directory":
            return f"lies below a {kind}"
    return None


def kind_problem(member: Member, seen: dict[str, str]) -> str | None:
    """Devices and other special files, links that lead out."""
    if member.kind not in PLAIN:
        return f"a {member.kind}"
    if member.kind == "hardlink" and seen.get(link_path(member.target)) != "file":
        return f"a hard link to {member.target!r}, which is no earlier file of the archive"
    if member.kind == "symlink" and climbs_out(member.path, member.target):
        return f"a symbolic link out of the tree, to {member.target!r}"
    if member.kind == "symlink" and not member.target:
        return "a symbolic link to nothing"
    return None


def link_path(target: str) -> str:
    """Where a hard link's target is in the archive; something that is nowhere for what leads outside."""
    parts = [p for p in target.split("/") if p not in ("", ".")]
    return "\0" if target.startswith("/") or ".." in parts else "/".join(parts)


def climbs_out(path: str, target: str) -> bool:
    """Whether a relative link has more ``..`` than there are directories above it.

    An absolute target is not refused: root filesystems are full of them, and since nothing in the archive
    may lie below a symbolic link, unpacking never follows one.
    """
    if target.startswith("/"):
        return False
    depth = path.count("/")
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False


def bundle_problem(member: Member) -> str | None:
    """What a tree that is laid over a running system must not bring."""
    top = member.path.split("/")[0]
    if top and top not in BUNDLE_PLACES:
        return f"a host bundle may only bring files below {' and '.join(BUNDLE_PLACES)}"
    if member.mode & 0o6000 or member.capabilities:
        return "a file with special rights (setuid, setgid or capabilities)"
    if member.kind != "symlink" and member.mode & 0o002:
        return "a file that everybody may write"
    if (member.uid, member.gid) != (0, 0):
        return f"a file of user {member.uid} and group {member.gid}, not root"
    if member.kind == "symlink" and member.target.startswith("/") and not safe_target(member.target):
        return f"a symbolic link to {member.target!r}"
    return None


def safe_target(target: str) -> bool:
    """Whether a bundle's link may point there: units (as ``systemctl enable`` links) and masks."""
    below = target.startswith(("/usr/lib/", "/etc/")) and ".." not in target.split("/")
    return below or target == "/dev/null"
