"""Which settings does a seat file have, and what is accepted for each?"""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from builder.profile.checks import ProfileName
from builder.profile.model import Bool, Section, Vt
from builder.profile.rule import Rule, shown, steps_problem
from builder.sizes import ACCEPTED, Size, parse_size
from builder.volume.luks import Pbkdf
from builder.volume.lvm import name_problem

NAMES_IN_DEV = frozenset(  # of directories and nodes that Linux and udev make
    (
        *("block", "bsg", "bus", "char", "console", "control", "core", "cpu", "disk", "dma_heap", "dri"),
        *("fd", "full", "fuse", "hugepages", "hwrng", "initctl", "input", "kmsg", "kvm", "log", "mapper"),
        *("mem", "mqueue", "net", "null", "nvram", "port", "ptmx", "pts", "random", "shm", "snd", "stderr"),
        *("stdin", "stdout", "tty", "urandom", "usb", "vfio", "zero"),
    )
)
IN_DEV = "lvm2 makes the directory /dev/NAME, and Linux has that name there"


def vg_why(text: str) -> str | None:
    wrong = name_problem(text) or (IN_DEV if text in NAMES_IN_DEV else None)
    return f"{text!r} cannot be a volume group: {wrong}" if wrong else None


SEAT_NAME = Rule(
    what="seat name",
    accepted="lower-case letters and digits with single '-' between, beginning with a letter, at most 32",
    pattern=r"[a-z][a-z0-9]*(-[a-z0-9]+)*",
    example="demo",
    longest=32,
)
VG_NAME = Rule(
    what="volume group name",
    accepted="letters, digits and + _ . -, not beginning with a hyphen, at most 60 (lvm(8), VALID NAMES)",
    pattern=r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]*",
    example="vgdemo",
    longest=60,
    why=vg_why,
)
SERIAL = Rule(
    what="disk serial number",
    accepted="the serial number as `lsblk -o SERIAL` shows it",
    pattern=r"[A-Za-z0-9_.:+-]+",
    example="S3Z9NB0K123456",
    longest=64,
)


def keep_why(text: str) -> str | None:
    if not text.startswith("/"):
        return f"{shown(text)} is not an absolute path"
    if wrong := steps_problem(text):
        return wrong
    top = text.split("/")[1]
    if top in OF_THE_IMAGE:
        return f"{shown(text)} belongs to the image, which brings its own"
    return None


OF_THE_IMAGE = ("usr", "bin", "sbin", "lib", "lib64", "boot", "efi", "dev", "proc", "sys", "run", "tmp")
KEEP_PATH = Rule(
    what="path to keep",
    accepted="an absolute path of a file or directory, not below /usr, /boot, /efi, /run or the like",
    pattern=r"/[^/]+(/[^/]+)*",
    example="/home",
    why=keep_why,
    ascii_only=False,
)


def size_or_rest(value: object) -> int | None:
    """Bytes, or None for the word ``rest``."""
    if value is None or value == "rest":
        return None
    if not isinstance(value, str | int):
        raise ValueError(f"neither a size nor the word 'rest'; accepted: {ACCEPTED}, or rest")
    try:
        return parse_size(value)
    except ValueError as e:
        raise ValueError(f"{e}; or the word 'rest'") from None


SizeOrRest = Annotated[
    int | None,
    BeforeValidator(size_or_rest),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["230GiB", "rest"]}),
]


def swap_from_size(value: object) -> object:
    return {"size": value} if isinstance(value, str | int) else value


class Disk(Section):
    """The disk that the seat takes whole."""

    size: Size
    """How large the disk is at least; what lies beyond stays free. The image file has this size."""
    serial: Annotated[str, SERIAL] | None = None
    """Serial number of the one disk that may be written."""


class Swap(Section):
    """The swap volume; also accepted as a plain size."""

    size: Size
    """Rounded up to whole extents of 4 MiB."""
    encrypted: Bool = True
    """Under a new random key at every boot. Without it, memory reaches the disk in the clear."""


class Environment(Section):
    """One environment: an encrypted volume with the image of a profile."""

    profile: ProfileName | None = None
    """The profile whose image it gets; by default the one of the environment's name."""
    size: SizeOrRest = None
    """Size of the volume, rounded up to whole extents of 4 MiB; `rest` is what the others leave."""
    vt: Vt | None = None
    """Virtual terminal; by default, and unless it is the same, the profile's."""
    keyfile: Bool = False
    """Keep a key for this volume on the encrypted root of each environment that can be its host."""
    keep: list[Annotated[str, KEEP_PATH]] = Field(default_factory=list, max_length=100)
    """Paths that are carried over when `provision env` replaces the environment: /home, files of /etc."""


class Keys(Section):
    """How the volumes are locked."""

    pbkdf: Pbkdf = Pbkdf.BENCHMARK
    """`benchmark`: argon2id at the cost that cryptsetup measures; `fast-test`: cheap, for tests alone."""
    test_passphrase: Bool = False
    """With `fast-test`: make a passphrase up when none is given, show it, and leave it beside the image."""

    @model_validator(mode="after")
    def tests_only(self) -> "Keys":
        if self.test_passphrase and self.pbkdf is not Pbkdf.FAST_TEST:
            raise PydanticCustomError("rule", "`test_passphrase` needs `pbkdf: fast-test`")
        return self


class Seat(Section):
    """One PC: a disk with an ESP and one LVM volume group, in it swap and a volume for each environment."""

    name: Annotated[str, SEAT_NAME]
    seed: str = Field(default="", max_length=100)
    """What the ids on the disk derive from, beside the seat's name; change it to tell two such PCs apart."""
    disk: Disk
    esp: Size = 1 << 30
    """Size of the EFI system partition."""
    vg: Annotated[str, VG_NAME] = ""
    """Name of the volume group; by default vgNAME of the seat."""
    swap: Annotated[Swap, BeforeValidator(swap_from_size)] | None = None
    """The swap volume; none unless given."""
    environments: dict[ProfileName, Environment] = Field(min_length=1)
    """By name, in the order of their volumes on the disk."""
    host: ProfileName
    """The environment that boots by default; the others run beside it."""
    hosts: list[ProfileName] = Field(default_factory=list)
    """All that the boot menu offers as host, the default one among them; by default `host` alone."""
    keys: Keys = Field(default_factory=Keys)

    @property
    def group(self) -> str:
        return self.vg or "vg" + re.sub(r"[^a-z0-9]", "", self.name)

    @property
    def all_hosts(self) -> list[str]:
        """The hosts of the boot menu, the default one first."""
        return list(dict.fromkeys([self.host, *self.hosts]))

    def profile_of(self, environment: str) -> str:
        return self.environments[environment].profile or environment
