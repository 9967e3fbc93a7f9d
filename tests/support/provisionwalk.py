"""How does a seat fare under a long series of changes, some interrupted, some refused? A walk and its model.

The model knows which version of its image each environment has, now and before, and who it is (machine-id).
After each change the disk is compared with the model, and with itself: what the boot menu names, what hosts
have for their containers, the keys that open them, lvm2's and fsck's view.
"""

import hashlib
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from builder.errors import SeatsmithError
from builder.provision.bootfiles import entry_of_host, kernel_of
from builder.provision.change import Change
from builder.provision.replace import replace_environment
from builder.provision.seatdisk import PREVIOUS, SeatDisk, opened
from builder.seat.hostfiles import decode, digest_of, record_of
from builder.seat.overlay import UKIS, keyfile_of
from builder.seat.plan import load_plan
from builder.tools import Tools
from builder.volume.ext4edit import read_file
from builder.volume.ext4read import Filesystem
from builder.volume.medium import Medium
from tests.support import lvm2
from tests.support.fat import Fat32
from tests.support.faults import Faulty, PowerCut
from tests.support.gpgkeys import TestKey
from tests.support.provisioned import Bench
from tests.support.tinyseat import PASSPHRASE, PROFILE, content, put_image, tiny_project

SIZE = 928 << 20
SEAT = """\
disk:
  size: 928MiB
esp: 72MiB
vg: vgtiny
swap: 16MiB
environments:
  work:
    size: 128MiB
    keep: [/home]
  third:
    vt: 9
    size: 128MiB
    keyfile: true
  private:
    size: 132MiB
host: private
hosts: [private, work]
keys:
  pbkdf: fast-test
"""
HOSTS = ("private", "work")
NAMES = ("private", "work", "third")
VERSIONS = ("1", "2", "3")
PROGRAM = "usr/bin/program"
EVENTS = 60  # writes or flushes after which a run may be cut off
VERBS = {"replace": 6, "rollback": 4, "drop": 2, "remove": 2, "add": 5, "grow": 1}

Act = Callable[[SeatDisk, Path], None]


@dataclass(frozen=True)
class State:
    """One environment: the version of its image, and its machine-id."""

    version: str
    machine: str


@dataclass(frozen=True)
class Pair:
    """What an environment is now and was before."""

    now: State
    before: State | None = None


def make_bench(root: Path, key: TestKey, tools: Tools) -> Bench:
    """The seat on a new disk, and three versions of each image in the cache."""
    project = tiny_project(root / "project", key, seat=SEAT)
    profiles = {"work": (8, "bootable: true"), "third": (9, "role: container"), "private": (7, "role: host")}
    for name, (vt, role) in profiles.items():
        (project.profiles / f"{name}.yaml").write_text(PROFILE.format(name=name, vt=vt, role=role))
        for version in VERSIONS[::-1]:
            made = put_image(project, name, version, key, bootable=name in HOSTS)
            shutil.copytree(made, root / "images" / f"{name}-{version}")
    passphrases = {name: bytearray(PASSPHRASE) for name in NAMES}
    bench = Bench(project, key, tools, root / "disk", root / "images", size=SIZE)
    bench.apply(passphrases=passphrases)
    return bench


@dataclass
class Walk:
    """A seat, what is expected of it, and what happened."""

    bench: Bench
    seed: int
    model: dict[str, Pair] = field(default_factory=dict)
    tally: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)
    keyless: set[str] = field(default_factory=set)
    """Hosts that were taken back, or got their keys from such: an older root has the keys of then."""
    rekeyed: bool = False
    """Whether the two volumes of the container may have different keys, since hosts lacked the first."""
    foreign: bool = False
    """Whether its present volume is the one of these that hosts have no key for: a passphrase opens it."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.model = {name: self.read(name) for name in NAMES}

    def step(self) -> None:
        verb, name = self.choose()
        version = self.chance.choice(VERSIONS)
        if verb == "replace":
            path = self.bench.project.profiles / f"{name}.yaml"
            lines = [line for line in path.read_text().splitlines() if not line.startswith("isolation:")]
            lines += [f"isolation: {self.chance.choice(['strict', 'shared'])}", ""]
            path.write_text("\n".join(lines))
        act = self.act(verb, name, version)
        self.story.append(f"{verb} {name} {version}")
        digest = self.digest()
        cut = self.chance.random() < 0.5
        try:
            self.perform(act, cut=self.chance.randrange(EVENTS) if cut else None)
        except PowerCut:
            self.tally["cut"] += 1
            self.story[-1] += " (cut)"
            self.after_cut(verb, name, version, act)
        except SeatsmithError as e:
            self.tally["refused"] += 1
            self.story[-1] += f" (refused: {e})"
            assert self.digest() == digest, f"refused, and yet something was written: {e}"
        else:
            self.tally[verb] += 1
            self.settle(verb, name, [self.expected(verb, name, version)])
        self.check()

    def choose(self) -> tuple[str, str]:
        """A change of an environment; one that must be refused less often than chance would have it."""
        while True:
            verb = self.chance.choices(list(VERBS), list(VERBS.values()))[0]
            name = self.chance.choice(NAMES)
            there = self.model.get(name)
            match verb:
                case "add":
                    fits = there is None
                case "rollback" | "drop":
                    fits = there is not None and there.before is not None
                case _:
                    fits = there is not None
            if fits or self.chance.random() < 0.05:
                return verb, name

    def after_cut(self, verb: str, name: str, version: str, act: Act) -> None:
        """Give it again, perhaps more than once, or undo it."""
        while True:
            again = self.chance.random() < 0.6
            cut = self.chance.randrange(EVENTS) if self.chance.random() < 0.3 else None
            self.story.append("  again" if again else "  undone")
            with self.bench.opened() as disk:
                begun = disk.journal.unfinished is not None
                found = name in disk.names
            try:
                through = not begun and (self.read(name) if found else None) != self.model.get(name)
                if again and not through and (begun or verb != "grow"):  # only a grown volume shows nothing
                    self.perform(act, cut=cut)
                    self.tally["given again"] += 1
                    self.settle(verb, name, [self.expected(verb, name, version)])
                    return
                if begun:
                    self.perform(lambda disk, scratch: self.change(disk, scratch).roll_back(name), cut=cut)
                self.tally["undone"] += 1
                self.settle(verb, name, self.outcomes(verb, name, version))
                return
            except PowerCut:
                self.story[-1] += " (cut)"

    def outcomes(self, verb: str, name: str, version: str) -> list[Pair | None]:
        """What may be there after an interrupted change: it did not happen, or it did."""
        old = self.model.get(name)
        untouched = [old] if old is None or verb != "replace" else [old, Pair(old.now)]
        return [*untouched, self.expected(verb, name, version)]

    def expected(self, verb: str, name: str, version: str) -> Pair | None:
        old = self.model.get(name)
        match verb:
            case "remove":
                return None
            case "add":
                return Pair(State(version, ""))
        assert old, f"{verb} of what is not there"
        match verb:
            case "replace":
                return Pair(State(version, old.now.machine), old.now)
            case "rollback":
                assert old.before
                return Pair(old.before, old.now)
            case "drop":
                return Pair(old.now)
            case _:
                return old

    def settle(self, verb: str, name: str, expected: Sequence[Pair | None]) -> None:
        """Compare one environment with what it may be, and note what it is."""
        with self.bench.opened() as disk:
            found = self.read(name) if name in disk.names else None
            assert disk.journal.unfinished is None
        if found and verb == "add":
            expected = [e and Pair(replace(e.now, machine=found.now.machine)) for e in expected]
        assert found in expected, f"{name} is {found}, expected: {expected}"
        changed = found != self.model.get(name)
        if found is None:
            self.model.pop(name, None)
        else:
            self.model[name] = found
        if name in HOSTS and changed:
            self.note_keys(verb, name)
        elif verb in ("add", "replace") and changed:
            self.rekeyed = bool(self.keyless) or self.foreign
            self.foreign = False
            self.keyless.clear()
        elif verb == "rollback" and changed:
            self.foreign ^= self.rekeyed

    def note_keys(self, verb: str, host: str) -> None:
        others = {h for h in HOSTS if h in self.model and h != host}
        if verb == "rollback" or (verb == "add" and others <= self.keyless):
            self.keyless.add(host)
        elif verb in ("add", "remove"):
            self.keyless.discard(host)

    def act(self, verb: str, name: str, version: str) -> Act:
        match verb:
            case "replace" | "add":
                return lambda disk, scratch: self.put(disk, scratch, name, version, new=verb == "add")
            case "grow":
                with self.bench.opened() as disk:
                    size = disk.volume(name).extents + 1 if name in disk.names else 50
                return lambda disk, scratch: self.change(disk, scratch).grow(name, size)
            case "rollback":
                return lambda disk, scratch: self.change(disk, scratch).roll_back(name)
            case "drop":
                return lambda disk, scratch: self.change(disk, scratch).drop(name)
            case _:
                return lambda disk, scratch: self.change(disk, scratch).remove(name)

    def put(self, disk: SeatDisk, scratch: Path, name: str, version: str, *, new: bool) -> None:
        if not new:
            disk.volume(name)
        job = replace(self.bench.job(name, self.bench.new_image(name, version)), old=not new)
        job = replace(job, passphrases={n: bytearray(PASSPHRASE) for n in NAMES})
        replace_environment(disk, job, tools=self.bench.tools, scratch=scratch)

    def change(self, disk: SeatDisk, scratch: Path) -> Change:
        plan, _, profiles = load_plan(self.bench.project, self.bench.seat)
        secrets = {n: bytearray(PASSPHRASE) for n in NAMES}
        return Change(disk, plan, self.bench.tools, scratch, profiles=profiles, passphrases=secrets)

    def perform(self, act: Act, *, cut: int | None) -> None:
        def make(fd: int, path: Path) -> Medium:
            return Medium(fd, path) if cut is None else Faulty(fd, path, at=cut, kind="cut", torn=cut % 3)

        with self.bench.opened(make) as disk, self.bench.empty_scratch() as scratch:
            act(disk, scratch)

    def read(self, name: str) -> Pair:
        """What an environment is by its files."""
        with self.bench.opened() as disk:
            there = [n for n in (name, name + PREVIOUS) if n in disk.names]
        return Pair(*(self.state(n) for n in there))

    def state(self, volume: str) -> State:
        name = volume.removesuffix(PREVIOUS)
        found = self.bench.contents(volume)
        digests = {hashlib.sha256(content(v, f"./{PROGRAM}")).hexdigest(): v for v in VERSIONS}
        machine = next(digest for path, digest in found.items() if path == "etc/machine-id")
        return State(digests[next(d for path, d in found.items() if path == PROGRAM)], f"{name} {machine}")

    def digest(self) -> str:
        found = hashlib.sha256()
        with self.bench.disk.open("rb") as f:
            end, at = os.fstat(f.fileno()).st_size, 0
            while at < end:
                try:
                    at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                except OSError:
                    break
                hole = os.lseek(f.fileno(), at, os.SEEK_HOLE)
                while at < hole:
                    data = os.pread(f.fileno(), min(1 << 20, hole - at), at)
                    if any(data):
                        found.update(b"%d" % at + data)
                    at += len(data)
        return found.hexdigest()

    def check(self) -> None:
        """Is the disk what the model says, and of one piece?"""
        bench = self.bench
        with bench.opened() as disk:
            known = {"swap", *self.model, *(n + PREVIOUS for n, p in self.model.items() if p.before)}
            assert set(disk.names) == known
            assert disk.journal.unfinished is None
            found = lvm2.logical_volumes(bench.tools, bench.disk, disk.pv.start, disk.pv.size)
            assert set(found) == known
            self.check_menu(disk)
            for host in (h for h in HOSTS if h in self.model):
                self.check_host(disk, host)
        name = self.chance.choice(list(self.model))
        assert self.read(name) == self.model[name]

    def check_menu(self, disk: SeatDisk) -> None:
        """The menu offers the hosts that there are, with volume and kernel; no other kernel is left."""
        fat = Fat32(lambda offset, size: disk.medium.read(disk.esp.start + offset, size))
        there = [h for h in HOSTS if h in self.model]
        assert sorted(fat.names("loader/entries")) == sorted(Path(entry_of_host(h)).name for h in there)
        named = set()
        for host in there:
            entry, kernel = fat.file(entry_of_host(host)).decode(), kernel_of(disk, host)
            assert f"rd.luks.name={disk.whole_header(host).uuid}=root" in entry
            assert f"efi      /{kernel}\n" in entry
            for volume in (host, host + PREVIOUS):
                state = self.model[host].now if volume == host else self.model[host].before
                if state:
                    kernel = kernel_of(disk, volume)
                    named.add(Path(kernel).name)
                    assert fat.file(kernel).startswith(f"UKI of {host} {state.version}\n".encode())
        assert set(fat.names(UKIS)) == named

    def check_host(self, disk: SeatDisk, host: str) -> None:
        """It has for each container what the container's volume says, and the key that opens it."""
        bench, keys = self.bench, {}
        with (
            bench.empty_scratch() as scratch,
            opened(disk, host, bytearray(PASSPHRASE), bench.tools, scratch) as root,
        ):
            assert root.clean
            for name in (n for n in self.model if n != host):
                self.check_files(disk, root, host, name)
                key = read_file(root, keyfile_of(name))
                keys[name] = key.data if key else None
        if "third" in self.model and not self.foreign and host not in self.keyless:
            key = keys["third"]
            assert key, f"{host} has no key of third"
            with (
                bench.empty_scratch() as scratch,
                opened(disk, "third", bytearray(key), bench.tools, scratch),
            ):
                pass

    def check_files(self, disk: SeatDisk, root: Filesystem, host: str, name: str) -> None:
        record = decode(read_file(root, record_of(name)))
        digest = disk.tags(name).get(f"host.{host}")
        if digest is not None:
            assert record is not None
            assert digest_of(record) == digest, f"{host} has other files for {name} than its volume says"
        for path, file in (record or {}).items():
            assert read_file(root, path) == file, f"{path} of {host} is not what its record says"
