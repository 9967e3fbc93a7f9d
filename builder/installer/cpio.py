"""How does an image's tar become an initrd? A cpio archive ("newc": kernel, buffer-format)."""

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from builder.errors import InputError

CONSOLE = (5, 1)  # of /dev/console, which init's first words go to (kernel: devices.txt)
COPY = 1 << 20

Unwanted = Callable[[str], bool]


class Cpio:
    """Writes members one after the other; equal input gives equal output."""

    def __init__(self, out: BinaryIO, *, epoch: int) -> None:
        self.out, self.epoch, self.at, self.inode = out, epoch, 0, 0

    def add(
        self,
        name: str,
        mode: int,
        size: int = 0,
        content: BinaryIO | None = None,
        *,
        owner: tuple[int, int] = (0, 0),
        device: tuple[int, int] = (0, 0),
    ) -> None:
        self.inode += 1
        encoded = os.fsencode(name) + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = [self.inode, mode, *owner, links, self.epoch, size, 0, 0, *device, len(encoded), 0]
        self.put(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self.pad()
        left = size
        while left and content is not None:
            data = content.read(min(left, COPY))
            if not data:
                raise InputError(f"{name} ended {left} bytes early")
            self.put(data)
            left -= len(data)
        self.pad()

    def link(self, name: str, target: str) -> None:
        data = os.fsencode(target)
        self.add(name, stat.S_IFLNK | 0o777, len(data), io.BytesIO(data))

    def end(self) -> None:
        self.add("TRAILER!!!", 0)

    def put(self, data: bytes) -> None:
        self.out.write(data)
        self.at += len(data)

    def pad(self) -> None:
        self.put(bytes(-self.at % 4))


def write_cpio(image: Path, overlay: Path, out: BinaryIO, *, epoch: int, unwanted: Unwanted) -> None:
    """Write the tar ``image`` (not compressed) with everything below ``overlay`` laid over it.

    Owners and modes of the image are kept, the overlay belongs to root. Hard links become copies; what is
    neither file, directory nor link is left out.
    """
    cpio = Cpio(out, epoch=epoch)
    over = {path.relative_to(overlay).as_posix(): path for path in sorted(overlay.rglob("*"))}
    seen: set[str] = set()
    with tarfile.open(image, "r:") as tar:
        for member in tar:
            name = member.name.removeprefix("./").strip("/")
            if not name or name == "." or unwanted(name):
                continue
            if name in over and not (member.isdir() and over[name].is_dir()):
                continue
            seen.add(name)
            add_member(cpio, tar, member, name)
    for name, path in over.items():
        if name in seen:
            continue
        if path.is_symlink():
            cpio.link(name, os.fspath(path.readlink()))
        elif path.is_dir():
            cpio.add(name, stat.S_IFDIR | 0o755)
        else:
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            with path.open("rb") as f:
                cpio.add(name, stat.S_IFREG | mode, path.stat().st_size, f)
    if "dev" not in seen:
        cpio.add("dev", stat.S_IFDIR | 0o755)
    cpio.add("dev/console", stat.S_IFCHR | 0o600, device=CONSOLE)
    cpio.end()


def add_member(cpio: Cpio, tar: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
    owner = (member.uid, member.gid)
    if member.issym():
        cpio.link(name, member.linkname)
    elif member.isdir():
        cpio.add(name, stat.S_IFDIR | member.mode, owner=owner)
    elif member.isfile() or member.islnk():
        source = tar.extractfile(member)  # follows a hard link
        if source is None:
            raise InputError(f"{name}: a hard link to nothing")
        with source:
            source.seek(0, os.SEEK_END)
            size = source.tell()
            source.seek(0)
            cpio.add(name, stat.S_IFREG | member.mode, size, source, owner=owner)  # type: ignore[arg-type]
