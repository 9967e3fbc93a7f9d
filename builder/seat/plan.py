"""What will lie where on a seat's disk? Every byte offset and id follows from the seat file."""

import hashlib
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import NAMESPACE_URL, UUID, uuid5

from builder.errors import InputError
from builder.profile import Profile, load_profile
from builder.profile.positions import FileError
from builder.project import Project
from builder.seat.load import SeatFile, load_seat_file
from builder.seat.model import Seat
from builder.ui import size_text
from builder.volume import gpt, lvm
from builder.volume.luks import HEADER_SIZE, Pbkdf

NAMESPACE = uuid5(NAMESPACE_URL, "https://seatsmith.invalid/seat")
ID_LETTERS = string.digits + string.ascii_lowercase + string.ascii_uppercase
ID_GROUPS = (6, 4, 4, 4, 4, 4, 6)  # how lvm2 writes the 32 characters of an id
SMALLEST_ESP = 64 << 20  # FAT32 needs 65525 clusters, and one UKI takes 50 MiB
SMALLEST_VOLUME = 128 << 20  # header 16 MiB, ext4's own tables, and something to keep

Path = tuple[str | int, ...]


class Kind(StrEnum):
    SWAP = "swap"
    LUKS = "luks"


@dataclass(frozen=True)
class Environment:
    """What an environment's volume is made of. The ext4 filesystem fills the payload."""

    name: str
    profile: str
    vt: int
    keyfile: bool
    luks_id: str
    filesystem_id: str
    hash_seed: str
    payload: int
    """Byte offset of the payload on the disk."""
    payload_size: int


@dataclass(frozen=True)
class Volume:
    """A logical volume; ``offset`` and ``size`` in bytes, on the disk."""

    name: str
    kind: Kind
    id: str
    first_extent: int
    extents: int
    offset: int
    size: int
    swap_id: str | None = None
    environment: Environment | None = None


@dataclass(frozen=True)
class BootEntry:
    """One line of the boot menu: which environment is the host, and which run beside it."""

    id: str
    title: str
    host: str
    beside: tuple[str, ...]
    options: str
    """The kernel command line."""


@dataclass(frozen=True)
class Plan:
    """The whole disk of a seat."""

    seat: str
    disk_size: int
    disk_id: str
    serial: str | None
    esp: gpt.Partition
    esp_serial: int
    """Volume id of the FAT filesystem."""
    pv: gpt.Partition
    group: lvm.VolumeGroup
    volumes: tuple[Volume, ...]
    entries: tuple[BootEntry, ...]
    host: str
    swap_encrypted: bool
    pbkdf: Pbkdf
    test_passphrase: bool

    @property
    def table(self) -> gpt.Table:
        return gpt.Table(UUID(self.disk_id), self.disk_size, (self.esp, self.pv))

    @property
    def environments(self) -> list[Environment]:
        return [v.environment for v in self.volumes if v.environment]

    @property
    def free_extents(self) -> int:
        return self.group.extents - sum(v.extents for v in self.volumes)

    def volume(self, name: str) -> Volume:
        return next(v for v in self.volumes if v.name == name)


def load_plan(project: Project, name: str) -> tuple[Plan, SeatFile, dict[str, Profile]]:
    """The plan of a seat file, the file, and the profiles of its environments.

    Raises FileError with all that is wrong, each with its line and column, and the numbers where sizes are.
    """
    file = load_seat_file(project, name)
    profiles, problems = {}, []
    for environment in file.seat.environments:
        try:
            profiles[environment] = load_profile(project, file.seat.profile_of(environment))
        except FileError:
            raise
        except InputError as e:
            problems.append(file.problem(("environments", environment), e.message))
    problems += [file.problem(path, message) for path, message in find_problems(file.seat, profiles)]
    if problems:
        raise FileError(problems)
    return make_plan(file.seat, profiles), file, profiles


def make_plan(seat: Seat, profiles: Mapping[str, Profile]) -> Plan:
    """Lay the seat out. ``profiles`` are by environment.

    Raises InputError with everything that find_problems() finds.
    """
    if problems := list(find_problems(seat, profiles)):
        raise InputError("\n".join(f"{'.'.join(str(p) for p in path)}: {text}" for path, text in problems))
    ids = Ids(seat)
    first, end = gpt.usable(seat.disk.size)
    esp_size = round_up(seat.esp, gpt.ALIGNMENT)
    esp = gpt.Partition("esp", gpt.ESP, ids.uuid("esp"), first, esp_size)
    pv = gpt.Partition(f"seat-{seat.name}", gpt.LINUX_LVM, ids.uuid("pv"), esp.end, end - esp.end)
    volumes = []
    at = 0
    empty = lvm.VolumeGroup(seat.group, ids.lvm("vg"), ids.lvm("pv"), pv.size, ())
    for name, extents in extents_of(seat):
        offset = pv.start + empty.offset(at)
        volumes.append(_volume(seat, profiles, ids, name, at, extents, offset))
        at += extents
    logical = tuple(
        lvm.LogicalVolume(v.name, v.id, (lvm.Segment(v.first_extent, v.extents),)) for v in volumes
    )
    return Plan(
        seat=seat.name,
        disk_size=seat.disk.size,
        disk_id=str(ids.uuid("disk")),
        serial=seat.disk.serial,
        esp=esp,
        esp_serial=int(ids.uuid("esp filesystem").hex[:8], 16),
        pv=pv,
        group=lvm.VolumeGroup(seat.group, empty.id, empty.pv_id, pv.size, logical),
        volumes=tuple(volumes),
        entries=tuple(boot_entries(seat, volumes)),
        host=seat.host,
        swap_encrypted=seat.swap.encrypted if seat.swap else False,
        pbkdf=seat.keys.pbkdf,
        test_passphrase=seat.keys.test_passphrase,
    )


def _volume(
    seat: Seat, profiles: Mapping[str, Profile], ids: "Ids", name: str, at: int, extents: int, offset: int
) -> Volume:
    size = extents * lvm.EXTENT
    if name not in seat.environments:
        swap_id = str(ids.uuid("swap filesystem"))
        return Volume(name, Kind.SWAP, ids.lvm(f"lv {name}"), at, extents, offset, size, swap_id=swap_id)
    wanted = seat.environments[name]
    environment = Environment(
        name=name,
        profile=seat.profile_of(name),
        vt=wanted.vt or profiles[name].display.vt,
        keyfile=wanted.keyfile,
        luks_id=str(ids.uuid(f"luks {name}")),
        filesystem_id=str(ids.uuid(f"filesystem {name}")),
        hash_seed=str(ids.uuid(f"hash seed {name}")),
        payload=offset + HEADER_SIZE,
        payload_size=size - HEADER_SIZE,
    )
    return Volume(name, Kind.LUKS, ids.lvm(f"lv {name}"), at, extents, offset, size, environment=environment)


def entry_id(host: str) -> str:
    """The name of a host's entry in the boot menu."""
    return f"seat-{host}"


def boot_entries(seat: Seat, volumes: list[Volume]) -> Iterator[BootEntry]:
    for host in seat.all_hosts:
        beside = tuple(name for name in seat.environments if name != host)
        environment = next(v.environment for v in volumes if v.name == host)
        assert environment is not None
        title = f"{host} with {' and '.join(beside)} beside it" if beside else host
        options = f"root=/dev/mapper/root rw rd.luks.name={environment.luks_id}=root"
        yield BootEntry(entry_id(host), title, host, beside, options)


def extents_of(seat: Seat) -> list[tuple[str, int]]:
    """The logical volumes in their order, with their sizes in extents; negative where nothing is left."""
    volumes: list[tuple[str, int | None]] = [("swap", seat.swap.size)] if seat.swap else []
    volumes += [(name, e.size) for name, e in seat.environments.items()]
    counted = [(name, -(-size // lvm.EXTENT) if size is not None else None) for name, size in volumes]
    left = all_extents(seat) - sum(n for _, n in counted if n is not None)
    return [(name, left if n is None else n) for name, n in counted]


def all_extents(seat: Seat) -> int:
    first, end = gpt.usable(seat.disk.size)
    room = end - first - round_up(seat.esp, gpt.ALIGNMENT) - lvm.FIRST_EXTENT
    return room // lvm.EXTENT


def find_problems(seat: Seat, profiles: Mapping[str, Profile]) -> Iterator[tuple[Path, str]]:
    """Everything that keeps a seat from being laid out, with the setting that it is about."""
    yield from size_problems(seat)
    for name in seat.environments:
        if wrong := lvm.name_problem(name, group=seat.group):
            yield ("environments", name), f"{name!r} cannot be a logical volume: {wrong} (lvm(8))"
    terminals: dict[int, str] = {}
    for name, environment in seat.environments.items():
        if name not in profiles:
            continue
        vt = environment.vt or profiles[name].display.vt
        if vt in terminals:
            path: Path = ("environments", name, *(["vt"] if environment.vt else []))
            yield path, f"{name} and {terminals[vt]} both want VT{vt}"
        terminals.setdefault(vt, name)
    for n, host in enumerate(seat.all_hosts):
        path = ("host",) if n == 0 else ("hosts",)
        if host not in seat.environments:
            yield path, f"{host!r} is no environment of this seat; there are: {', '.join(seat.environments)}"
        elif host in profiles and not profiles[host].bootable:
            yield path, f"{host} cannot be the host: its profile does not say `bootable: true`"


def size_problems(seat: Seat) -> Iterator[tuple[Path, str]]:
    rest = [name for name, e in seat.environments.items() if e.size is None]
    if len(rest) > 1:
        yield ("environments", rest[1], "size"), f"only one can have the rest, and {rest[0]} has it"
        return
    if seat.esp < SMALLEST_ESP:
        yield ("esp",), f"{size_text(seat.esp)} is too small; an ESP has at least {size_text(SMALLEST_ESP)}"
    total = all_extents(seat)
    small = False
    for name, extents in extents_of(seat):
        if name in seat.environments and name not in rest and extents * lvm.EXTENT < SMALLEST_VOLUME:
            small = True
            yield (
                ("environments", name, "size"),
                f"{size_text(extents * lvm.EXTENT)} is too small; a volume has at least "
                f"{size_text(SMALLEST_VOLUME)}, 16 MiB of them for the LUKS header",
            )
    wanted = sum(n for name, n in extents_of(seat) if name not in rest)
    needed = wanted + (-(-SMALLEST_VOLUME // lvm.EXTENT) if rest else 0)
    if needed > total and not small:
        short = (needed - total) * lvm.EXTENT
        yield (
            ("disk", "size"),
            f"{size_text(seat.disk.size)} is too small by {size_text(short)}: of {seat.disk.size} bytes "
            f"the ESP takes {round_up(seat.esp, gpt.ALIGNMENT)} and the tables {3 << 20}, which leaves "
            f"{max(total, 0)} extents of 4 MiB, and the volumes want {wanted}"
            + (f" and {rest[0]} at least {needed - wanted}" if rest else ""),
        )


def round_up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


class Ids:
    """Ids that are the same in every plan of the same seat, and different for each thing in it."""

    def __init__(self, seat: Seat) -> None:
        self._base = f"{seat.name}\n{seat.seed}\n"

    def uuid(self, what: str) -> UUID:
        return uuid5(NAMESPACE, self._base + what)

    def lvm(self, what: str) -> str:
        number = int.from_bytes(hashlib.sha256(f"{self._base}lvm {what}".encode()).digest(), "big")
        letters = []
        for _ in range(sum(ID_GROUPS)):
            number, digit = divmod(number, len(ID_LETTERS))
            letters.append(ID_LETTERS[digit])
        groups, at = [], 0
        for length in ID_GROUPS:
            groups.append("".join(letters[at : at + length]))
            at += length
        return "-".join(groups)
