"""What does a FAT32 filesystem hold? A reader for tests, independent of mtools."""

import struct
from collections.abc import Callable, Iterator

Read = Callable[[int, int], bytes]


class Fat32:
    """Names and contents, through the first allocation table as firmware reads it."""

    def __init__(self, read: Read) -> None:
        self._read = read
        boot = read(0, 512)
        sector, per_cluster, reserved, tables = struct.unpack_from("<HBHB", boot, 11)
        length = struct.unpack_from("<I", boot, 36)[0]
        self._root = struct.unpack_from("<I", boot, 44)[0]
        self._cluster = sector * per_cluster
        self._data = (reserved + tables * length) * sector
        self._table = read(reserved * sector, length * sector)

    def chain(self, cluster: int) -> bytes:
        runs: list[list[int]] = []
        seen = 0
        while 2 <= cluster < 0x0FFFFFF8:
            assert seen * 4 < len(self._table), "a loop in the allocation table"
            seen += 1
            if runs and runs[-1][0] + runs[-1][1] == cluster:
                runs[-1][1] += 1
            else:
                runs.append([cluster, 1])
            cluster = struct.unpack_from("<I", self._table, cluster * 4)[0] & 0x0FFFFFFF
        assert cluster >= 0x0FFFFFF8, f"a chain ends in free cluster {cluster}"
        at = ((self._data + (first - 2) * self._cluster, count * self._cluster) for first, count in runs)
        return b"".join(self._read(offset, size) for offset, size in at)

    def entries(self, directory: bytes) -> Iterator[tuple[str, int, int, bool]]:
        """Name, first cluster, size, and whether it is a directory."""
        long = ""
        for at in range(0, len(directory), 32):
            raw = directory[at : at + 32]
            if raw[0] == 0:
                return
            if raw[0] == 0xE5:
                long = ""
            elif raw[11] == 0x0F:
                long = (raw[1:11] + raw[14:26] + raw[28:32]).decode("utf-16-le") + long
            elif not raw[11] & 0x08:
                stem, end = raw[:8].decode().rstrip(), raw[8:11].decode().rstrip()
                flags = raw[12]
                stem = stem.lower() if flags & 0x08 else stem
                end = end.lower() if flags & 0x10 else end
                name = long.split("\0")[0] or (f"{stem}.{end}" if end else stem)
                first = struct.unpack_from("<H", raw, 20)[0] << 16 | struct.unpack_from("<H", raw, 26)[0]
                long = ""
                if name not in (".", ".."):
                    yield name, first, struct.unpack_from("<I", raw, 28)[0], bool(raw[11] & 0x10)
            else:
                long = ""

    def folder(self, path: str) -> bytes:
        """A directory's entries as they lie there. Raises KeyError where there is none of the name."""
        directory = self.chain(self._root)
        for step in filter(None, path.split("/")):
            inner = {name.lower(): first for name, first, _, below in self.entries(directory) if below}
            directory = self.chain(inner[step.lower()])
        return directory

    def names(self, folder: str) -> list[str]:
        """The files of a folder."""
        return [name for name, _, _, below in self.entries(self.folder(folder)) if not below]

    def check(self, folder: str) -> None:
        """Assert that every file of a folder has all of its clusters."""
        for name, first, size, _ in self.entries(self.folder(folder)):
            assert not size or len(self.chain(first)) >= size, f"{name} is shorter than its entry says"

    def file(self, path: str) -> bytes:
        """A file's content. Raises KeyError where there is none of the name."""
        folder, _, last = path.rpartition("/")
        entries = self.entries(self.folder(folder))
        files = {name.lower(): (first, size) for name, first, size, below in entries if not below}
        first, size = files[last.lower()]
        data = self.chain(first)[:size] if first else b""
        assert len(data) == size, f"{path} is shorter than its entry says"
        return data
