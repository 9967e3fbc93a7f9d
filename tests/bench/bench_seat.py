"""How long does an image take into an encrypted volume, beside the plain tools? ``work``, as in ``demo``."""

import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from builder.errors import InputError, ToolError
from builder.files import remove_tree
from builder.project import cache_home, find_project
from builder.seat.images import find_image
from builder.seat.tree import write_tree
from builder.tools import Tools, build_tree, ensure_tools
from builder.ui import NoMeter
from builder.volume import ext4, luks, xts
from builder.volume.cipher import Sectors
from builder.volume.keys import as_fd, volume_key
from builder.volume.luks import HEADER_SIZE, Pbkdf

PROFILE = "work"
SIZE = 5 << 30
LARGE = 230 << 30  # of a disk of 500 GB
OFFSET = 1 << 30  # where the volume lies on the disk
SECRET = b"correct horse battery"
IN_MEMORY = 512 << 20
CHUNK = 1 << 20
FISH_PACKAGES = ["guestfish", "linux-image-amd64", "mkosi", "zstd"]  # mkosi has the sandbox it runs in
EMULATED = "force_tcg"  # guestfs(3), LIBGUESTFS_BACKEND_SETTINGS
UUID = "0c5c0f5e-6f5b-4e2c-9c1f-2a3a8b1d7e11"


def bench() -> list[tuple[str, str]]:
    tools = ensure_tools()
    image = find_image(find_project(Path(__file__)), PROFILE)
    if image is None:
        raise InputError(f"there is no image of {PROFILE}", hint=f"make image PROFILE={PROFILE}")
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(dir=cache_home(), prefix="bench.") as folder:
        place = Path(folder)
        with ProcessPoolExecutor(1, context) as one:
            for _ in range(2):  # as the others do, it finds the image and memory ready the second time
                task = one.submit(write_volume, image.tar, place, image.epoch)
                ours, encrypted, took, _ = task.result()
            large, _, _, memory = one.submit(write_volume, image.tar, place, image.epoch, LARGE).result()
        with ProcessPoolExecutor(2, context) as two:
            list(two.map(encrypt_in_memory, [CHUNK] * 2))  # started, and everything loaded
            bare = 2 * IN_MEMORY / best(lambda: list(two.map(encrypt_in_memory, [IN_MEMORY] * 2)))
        reencrypted = timed(lambda: reencrypt(tools, image.tar, place))
        tree = place / "tree"
        tree.mkdir()
        tools.run(["tar", "--zstd", "-xpf", image.tar, "-C", tree, "--exclude=./dev/*"])
        reparted = timed(lambda: repart(tools, tree, place))
        remove_tree(tree)
        fish = fish_tools()
        settings = fish_settings(fish)
        fished = timed(lambda: fish_volume(fish, settings, image.tar, place))
    return [
        ("image → encrypted volume, written and flushed", f"{ours:.1f} s"),
        (f"the same into {LARGE >> 30} GiB", f"{large / ours:.2f} × as long"),
        ("the same by mkfs.ext4 + cryptsetup reencrypt + copy", f"{reencrypted / ours:.1f} × as long"),
        ("the same by systemd-repart --offline=yes, from a tree", f"{reparted / ours:.1f} × as long"),
        ("the same by guestfish", f"{fished / ours:.0f} × as long"),
        ("encryption onto the disk ÷ two processes in memory", f"{encrypted / took / bare:.0%}"),
        ("largest process, with either size", f"{memory >> 20} MiB"),
    ]


def best(what: Callable[[], object]) -> float:
    """The shortest of three: a guest's first touch of memory also measures how its host finds some."""
    return min(timed(what) for _ in range(3))


def timed(what: Callable[[], object]) -> float:
    began = time.monotonic()
    what()
    return time.monotonic() - began


def write_volume(image: Path, place: Path, epoch: int, size: int = SIZE) -> tuple[float, int, float, int]:
    """Seatsmith's way: seconds, bytes encrypted, seconds of that, peak memory. In a process of its own."""
    tools = ensure_tools()
    disk, clear = place / "disk", place / "clear"
    with disk.open("wb") as f:
        f.truncate(OFFSET + size)
    began = time.monotonic()
    payload = size - HEADER_SIZE
    pool = xts.Pool(disk, workers=2)
    pool.start()
    ranges = make_filesystem(tools, image, clear, payload, epoch)
    with pool, volume_key() as key:
        header = make_header(tools, place / "header", key)
        base, meter = OFFSET + HEADER_SIZE, NoMeter()
        xts.encrypt(pool, clear, base, ranges, key, meter=meter)
        with disk.open("r+b") as f:
            os.pwrite(f.fileno(), header, OFFSET)
            os.fsync(f.fileno())
        seconds = time.monotonic() - began
        jobs = [xts.Job(piece) for piece in xts.split(ranges)]
        took = best(lambda: pool.map(jobs, meter, source=clear, base=base, key=key))
    clear.unlink()
    disk.unlink()
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    memory = max(resource.getrusage(w).ru_maxrss for w in who) << 10
    return seconds, sum(end - start for start, end in ranges), took, memory


def make_filesystem(tools: Tools, image: Path, clear: Path, size: int, epoch: int) -> list[xts.Range]:
    """Make the filesystem of an image in a new file; what of it has to be written."""
    overlay = clear.with_name("overlay")
    overlay.mkdir(exist_ok=True)
    ext4.make(
        tools,
        clear,
        size,
        lambda pipe: write_tree(image, overlay, pipe, epoch=epoch),
        uuid=UUID,
        hash_seed=UUID,
        label=PROFILE,
        epoch=epoch,
    )
    return ext4.used_ranges(tools, clear)


def make_header(tools: Tools, place: Path, key: bytearray) -> bytes:
    passphrase = bytearray(SECRET)
    return luks.make_header(
        tools, place, uuid=UUID, label=PROFILE, key=key, passphrase=passphrase, pbkdf=Pbkdf.FAST_TEST
    )


def encrypt_in_memory(size: int) -> None:
    sectors = Sectors(os.urandom(64))
    buffer = bytearray(CHUNK)
    for at in range(0, size, CHUNK):
        sectors.encrypt(buffer, CHUNK, at)


def reencrypt(tools: Tools, image: Path, place: Path) -> None:
    """mkfs.ext4 from the tar, encrypted in place by cryptsetup, copied to where the volume lies."""
    clear, header, disk = place / "clear", place / "header", place / "disk"
    for path, size in ((clear, SIZE - HEADER_SIZE), (disk, OFFSET + SIZE)):
        with path.open("wb") as f:
            f.truncate(size)
    argv = tools.command(["mkfs.ext4", "-q", "-F", "-b", "4096", "-d", "-", clear])
    with subprocess.Popen(tools.command(["zstd", "-dcq", image]), stdout=subprocess.PIPE) as unpack:
        subprocess.run(argv, stdin=unpack.stdout, check=True)
    with as_fd(SECRET) as fd:
        words: list[str | Path] = ["cryptsetup", "reencrypt", "-q", "--encrypt", "--type", "luks2"]
        words += ["--sector-size", "4096", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
        words += ["--header", header, "--key-file", f"/dev/fd/{fd}", clear]
        tools.run(words, pass_fds=(fd,))
    tools.run(
        [
            "dd",
            f"if={clear}",
            f"of={disk}",
            "bs=1M",
            f"seek={(OFFSET + HEADER_SIZE) >> 20}",
            "conv=notrunc,fsync",
        ]
    )
    for path in (clear, header, disk):
        path.unlink()


def repart(tools: Tools, tree: Path, place: Path) -> None:
    """systemd-repart with one encrypted ext4 partition, filled from an unpacked tree."""
    definitions, disk, key = place / "repart.d", place / "disk", place / "key"
    definitions.mkdir()
    key.write_bytes(SECRET)
    (definitions / "10-root.conf").write_text(
        f"[Partition]\nType=linux-generic\nFormat=ext4\nEncrypt=key-file\nSizeMinBytes={SIZE}\n"
        f"SizeMaxBytes={SIZE}\nCopyFiles={tree}:/\n"
    )
    argv = ["systemd-repart", "--empty=create", f"--size={SIZE + (64 << 20)}", "--offline=yes"]
    argv += ["--dry-run=no", f"--definitions={definitions}", f"--key-file={key}", os.fspath(disk)]
    tools.run(argv, env={"TMPDIR": os.fspath(place)})
    disk.unlink()


def fish_tools() -> Tools:
    """Debian's guestfish with the kernel that it starts, in a tree of their own, kept in the cache."""
    place = cache_home() / "bench" / "guestfish"
    if not place.is_dir():
        build_tree(place, FISH_PACKAGES, "guestfish (Debian 13, 0.9 GB, once)")
    return Tools(place)


def guestfish(fish: Tools, words: list[str | Path], settings: str, *, stdin: bytes = b"") -> None:
    assert fish.root is not None
    options: list[str | Path] = ["--ro-bind", fish.root / "boot", "/boot"]
    options += ["--ro-bind", fish.root / "var/lib/dpkg", "/var/lib/dpkg"]  # supermin asks it for files
    appliance = fish.root.with_name("guestfish-appliance")
    appliance.mkdir(exist_ok=True)
    env = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_CACHEDIR": os.fspath(appliance)}
    env["LIBGUESTFS_BACKEND_SETTINGS"] = settings
    fish.run(["guestfish", *words], env=env, options=options, stdin=stdin)


def fish_settings(fish: Tools) -> str:
    """With which settings does its machine start here? supermin then has its appliance made, too."""
    nothing: list[str | Path] = ["--format=raw", "-a", "/dev/null", "run"]
    try:
        guestfish(fish, nothing, "")
    except ToolError:  # as where /dev/kvm opens and QEMU aborts
        guestfish(fish, nothing, EMULATED)
        return EMULATED
    return ""


def fish_volume(fish: Tools, settings: str, image: Path, place: Path) -> None:
    """The volume made and filled by the kernel of a virtual machine."""
    disk, tree = place / "disk", place / "tree.tar"
    fish.run(["zstd", "-dfq", image, "-o", tree])
    with disk.open("wb") as f:
        f.truncate(SIZE)
    steps = "run : luks-format /dev/sda 0 : luks-open /dev/sda x : mkfs ext4 /dev/mapper/x"
    steps += f" : mount /dev/mapper/x / : tar-in {tree} / : umount / : luks-close /dev/mapper/x"
    words = ["--keys-from-stdin", "--format=raw", "-a", disk, *steps.split()]
    guestfish(fish, words, settings, stdin=SECRET + b"\n" + SECRET + b"\n")


if __name__ == "__main__":
    for row in bench():
        print(*row, sep="\t", file=sys.stdout)
