"""Does an update fetch only what changed, and can a patch do no more than cost the saving?"""

import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from builder.files import file_digest
from builder.outputs.sign import sign_file
from builder.publish.delta import LEVELS, compress, make_delta
from builder.publish.index import Delta, Index, Patch, index_text
from builder.publish.pull import Pulled
from builder.tools import Tools, ensure_tools
from tests.support.gpgkeys import TestKey
from tests.support.publisher import FIRST, SECOND, Publisher
from tests.support.results import entry, pack

pytestmark = pytest.mark.tools


def noise(seed: int) -> Callable[[str], bytes]:
    """Content that does not compress, so that an update pays."""
    return lambda name: random.Random(f"{seed} {name}").randbytes(200_000)


FILES = [entry(f"./usr/lib/{n}") for n in range(10)]


def archive(changed: int) -> bytes:
    """The tar of an image of ten files, of which the last has a content of its own."""
    old, new = noise(0), noise(changed)
    last = FILES[-1].name
    packed = pack(*FILES, content=lambda name: new(name) if name == last else old(name))
    return zstandard.decompress(packed, max_output_size=1 << 24)


def image(changed: int) -> bytes:
    """The same as it is published: compressed as mkosi does it, or no patch could lead to it."""
    with tempfile.TemporaryDirectory() as place:
        tar, made = Path(place) / "tar", Path(place) / "image"
        tar.write_bytes(archive(changed))
        compress(ensure_tools(), tar, made, LEVELS[0])
        return made.read_bytes()


@pytest.fixture(scope="module")
def original(release: TestKey, tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The places of a publisher of two releases, and of a seat that has the first."""
    place = tmp_path_factory.mktemp("delta")
    made = Publisher(place, release)
    made.publish(FIRST, image=image(0))
    made.pull()
    made.publish(SECOND, image=image(1))
    return place


@pytest.fixture
def publisher(original: Path, tmp_path: Path, release: TestKey) -> Publisher:
    """A copy of that for each test."""
    shutil.copytree(original, tmp_path / "copy")
    return Publisher(tmp_path / "copy", release)


def sign_index(publisher: Publisher, index: Index) -> None:
    path = publisher.root / "index.json"
    path.write_text(index_text(index))
    sign_file(path, publisher.root / "index.json.gpg", str(publisher.key.secret))


def index_of(publisher: Publisher) -> Index:
    return Index.model_validate_json((publisher.root / "index.json").read_bytes())


def replace_patch(publisher: Publisher, data: bytes) -> None:
    """Another patch, as a publisher would announce it: signed, with its own digest."""
    index = index_of(publisher)
    newest = index.profiles["work"][0]
    (delta,) = newest.deltas
    path = publisher.root / "work/extra" / delta.file
    path.write_bytes(data)
    said = Delta(base=delta.base, file=delta.file, size=len(data), sha256=file_digest(path))
    releases = [newest.model_copy(update={"deltas": [said]}), *index.profiles["work"][1:]]
    sign_index(publisher, index.model_copy(update={"profiles": {"work": releases}}))


def arrived(publisher: Publisher, pulled: Pulled) -> bool:
    """Whether the seat has the second release exactly, and nothing lies about."""
    name = f"work_{SECOND}_x86-64.tar.zst"
    same = file_digest(publisher.seat / name) == file_digest(publisher.release(SECOND) / name)
    return same and pulled.release.version == SECOND and not list(publisher.seat.parent.glob(".delta*"))


def test_an_update_fetches_little_more_than_what_changed(publisher: Publisher) -> None:
    pulled = publisher.pull()
    assert arrived(publisher, pulled)
    assert pulled.fetched < 1.1 * 200_000, "with all papers: of an image of 2 MB, one file of 200 kB"
    assert index_of(publisher).profiles["work"][0].updates()[FIRST] > 0.99 * pulled.fetched, (
        "as the page says"
    )


def spdx(publisher: Publisher) -> Patch:
    """The patch to one of the papers of the second release."""
    return next(p for p in index_of(publisher).profiles["work"][0].patches if p.target == "sbom.spdx.json")


def test_a_file_that_did_not_change_is_not_fetched_again(publisher: Publisher) -> None:
    bundle = "work_{}_x86-64.host.tar.zst"
    (publisher.release(SECOND) / bundle.format(SECOND)).unlink()
    assert arrived(publisher, publisher.pull())
    assert (publisher.seat / bundle.format(SECOND)).stat().st_size > 0


@pytest.mark.parametrize("changed", ["work_{}_x86-64.host.tar.zst", "sbom.spdx.json"])
def test_a_file_that_was_changed_on_the_seat_since_is_fetched(publisher: Publisher, changed: str) -> None:
    path = publisher.seat / changed.format(FIRST)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert arrived(publisher, publisher.pull())


def test_a_patch_to_a_paper_that_a_mirror_changed_costs_only_the_saving(
    publisher: Publisher, capfd: pytest.CaptureFixture[str]
) -> None:
    path = publisher.root / "work/extra" / spdx(publisher).file
    path.write_bytes(path.read_bytes()[::-1])
    assert arrived(publisher, publisher.pull())
    assert "sbom.spdx.json.patch.zst cannot be used, fetching the whole file" in capfd.readouterr().err


@pytest.mark.parametrize("data", [b"another paper", bytes(1 << 28)], ids=["another", "bomb"])
def test_a_signed_patch_to_another_paper_or_to_a_huge_one_is_not_taken(
    publisher: Publisher, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    patch = spdx(publisher)
    path = publisher.root / "work/extra" / patch.file
    path.write_bytes(zstandard.compress(zstandard.compress(data)))
    said = patch.model_copy(update={"size": path.stat().st_size, "sha256": file_digest(path)})
    index = index_of(publisher)
    newest = index.profiles["work"][0].model_copy(update={"patches": [said]})
    releases = [newest, *index.profiles["work"][1:]]
    sign_index(publisher, index.model_copy(update={"profiles": {"work": releases}}))
    assert arrived(publisher, publisher.pull())
    assert "fetching the whole file" in capfd.readouterr().err


def test_a_small_change_of_a_large_image_makes_a_small_patch(tmp_path: Path, tools: Tools) -> None:
    """What a patch says of all that is the same must not outweigh what is new (docs/decisions/050)."""
    same, places = random.Random(1).randbytes(64 << 20), []
    for name, new in (("old", b""), ("new", random.Random(2).randbytes(20_000))):
        (tmp_path / name).mkdir()
        tar, made = tmp_path / "tar", tmp_path / name / "work_1_x86-64.tar.zst"
        tar.write_bytes(same[: 30 << 20] + new + same[30 << 20 :])
        compress(tools, tar, made, LEVELS[0])
        places.append(made.parent)
    (tmp_path / "extra").mkdir()
    delta = make_delta(*places, tmp_path / "extra", "1", "2", tools=tools)
    assert delta is not None
    assert delta.size < 1.5 * 20_000


def test_a_patch_that_a_mirror_changed_costs_only_the_saving(
    publisher: Publisher, capfd: pytest.CaptureFixture[str]
) -> None:
    (delta,) = index_of(publisher).profiles["work"][0].deltas
    path = publisher.root / "work/extra" / delta.file
    path.write_bytes(path.read_bytes()[::-1])
    assert arrived(publisher, publisher.pull())
    assert "cannot be used, fetching the whole image" in capfd.readouterr().err


def test_a_patch_for_another_base_costs_only_the_saving(
    publisher: Publisher, capfd: pytest.CaptureFixture[str]
) -> None:
    """The seat's image is not the one that its version says."""
    name = f"work_{FIRST}_x86-64.tar.zst"
    (publisher.seat / name).write_bytes(pack(*FILES, content=noise(7)))
    assert arrived(publisher, publisher.pull())
    assert "fetching the whole image" in capfd.readouterr().err


def test_a_signed_patch_to_another_image_is_not_taken_for_the_release(
    publisher: Publisher, tmp_path: Path, tools: Tools, capfd: pytest.CaptureFixture[str]
) -> None:
    old, evil, patch = tmp_path / "old.tar", tmp_path / "evil.tar", tmp_path / "patch"
    old.write_bytes(archive(0))
    evil.write_bytes(archive(666))
    tools.run(["zstd", "-q", "--long=31", f"--patch-from={old}", evil, "-o", patch])
    replace_patch(publisher, zstandard.compress(patch.read_bytes()))
    assert arrived(publisher, publisher.pull())
    assert "it does not give the signed image" in capfd.readouterr().err


@pytest.mark.parametrize("layer", ["outer", "inner"])
def test_a_patch_that_unpacks_to_a_huge_file_is_stopped(
    layer: str, publisher: Publisher, capfd: pytest.CaptureFixture[str]
) -> None:
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    block = bytes(1 << 20)
    bomb = b"".join(packer.compress(block) for _ in range(2048)) + packer.flush()
    assert len(bomb) < 300_000
    replace_patch(publisher, bomb if layer == "outer" else zstandard.compress(bomb))
    free = shutil.disk_usage(publisher.place).free
    assert arrived(publisher, publisher.pull())
    assert "fetching the whole image" in capfd.readouterr().err
    assert shutil.disk_usage(publisher.place).free > free - (1 << 30)


def test_a_patch_larger_than_announced_is_not_read_to_its_end(
    publisher: Publisher, capfd: pytest.CaptureFixture[str]
) -> None:
    (delta,) = index_of(publisher).profiles["work"][0].deltas
    with (publisher.root / "work/extra" / delta.file).open("ab") as f:
        f.truncate(1 << 34)  # a hole
    assert arrived(publisher, publisher.pull())
    assert "larger than" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "a/b", ".hidden"])
def test_a_patch_of_a_name_that_leads_elsewhere_is_refused_with_the_index(
    publisher: Publisher, name: str
) -> None:
    index = index_of(publisher)
    path = publisher.root / "index.json"
    text = index_text(index).replace(index.profiles["work"][0].deltas[0].file, name)
    path.write_text(text)
    sign_file(path, publisher.root / "index.json.gpg", str(publisher.key.secret))
    publisher.refused("index.json: profiles.work.0.deltas.0.file")
