"""What is in a cpio archive of the kind that kernels read? Read here by other code than what wrote it."""

from dataclasses import dataclass

HEADER = 110


@dataclass(frozen=True)
class Entry:
    mode: int
    owner: int
    data: bytes


def unpack(archive: bytes) -> dict[str, Entry]:
    """Names and contents; every member's times must be the same, its inode its own."""
    found: dict[str, Entry] = {}
    at, inodes, times = 0, set(), set()
    while True:
        header = archive[at : at + HEADER]
        assert header[:6] == b"070701", f"no header at {at}"
        fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        name_at = at + HEADER
        name = archive[name_at : name_at + fields[11] - 1].decode()
        data_at = -(-(name_at + fields[11]) // 4) * 4
        data = archive[data_at : data_at + fields[6]]
        assert len(data) == fields[6], f"{name} is cut off"
        at = -(-(data_at + fields[6]) // 4) * 4
        if name == "TRAILER!!!":
            assert at == len(archive)
            assert len(inodes) == len(found)
            assert len(times) == 1
            return found
        assert name not in found, f"{name} is there twice"
        inodes.add(fields[0])
        times.add(fields[5])
        found[name] = Entry(fields[1], fields[2], data)
