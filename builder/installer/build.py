"""How is the installer of a seat made? One UKI with everything to be trusted, and a stick around it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

from builder import ui
from builder.errors import InputError
from builder.files import exclusive, remove_tree
from builder.installer.answers import Answers
from builder.installer.cpio import write_cpio
from builder.installer.layout import make_overlay, unwanted
from builder.installer.stick import Ids, write_stick
from builder.machine.kernel import pe_sections
from builder.outputs.checksums import write_checksums
from builder.outputs.sign import Signature, sign_or_warn
from builder.project import Project
from builder.run import Arg
from builder.seat.images import Image
from builder.seat.load import load_seat
from builder.tools import Tools

PROFILE = "installer"
LEVEL = 4  # zstd
OPTIONS = "console=tty0 systemd.firstboot=no systemd.show_status=auto quiet"


@dataclass(frozen=True)
class SecureBoot:
    """The key that firmware checks the UKI by (systemd-sbsign(1)); both files are PEM."""

    key: Path
    certificate: Path


@dataclass(frozen=True)
class Made:
    """A finished installer."""

    place: Path
    uki: Path
    stick: Path
    size: int
    signature: Signature | None


def build_installer(
    project: Project,
    seat: str,
    root: Image,
    *,
    results: Mapping[str, Path],
    place: Path,
    keys: Sequence[Path],
    answers: Answers | None,
    tools: Tools,
    secure_boot: SecureBoot | None = None,
) -> Made:
    """Make the installer of a seat from the image of the installer's profile.

    ``results`` are the result directories that go onto the stick, by profile; without any, the answers must
    say from where the images are to be fetched. ``place`` gets UKI, stick and checksums, which are signed
    with SIGNING_KEY. ``keys`` are the public keys that the installer trusts, files or directories of them.
    """
    load_seat(project, seat)
    if root.uki is None:
        raise InputError(f"the image of {root.profile} has no kernel", hint="it needs `bootable: true`")
    if answers is not None and answers.seat != seat:
        raise InputError(f"the answers are for the seat {answers.seat}, not for {seat}")
    if not results and (answers is None or answers.url is None):
        raise InputError("the stick would have no images, and no `url:` to fetch them from")
    work = project.cache / "work"
    with exclusive(work / f"installer-{seat}.lock", f"the installer of {seat}"):
        scratch = work / f"installer-{seat}"
        remove_tree(scratch)
        scratch.mkdir(parents=True)
        try:
            uki = scratch / f"{seat}.efi"
            make_uki(
                project,
                seat,
                root,
                uki,
                scratch,
                results=results,
                keys=keys,
                answers=answers,
                tools=tools,
                secure=secure_boot,
            )
            place.mkdir(parents=True, exist_ok=True)
            stick = place / f"{seat}.img"
            files: dict[str, Path | bytes] = {
                f"dist/{name}/{path.name}": path
                for name, folder in results.items()
                for path in sorted(folder.iterdir())
                if path.is_file()
            }
            size = write_stick(
                tools, stick, seat=seat, uki=uki, files=files, scratch=scratch, epoch=root.epoch
            )
            shutil.move(uki, place / uki.name)
        finally:
            remove_tree(scratch)
    write_checksums(place)
    return Made(place, place / uki.name, stick, size, sign_or_warn(place, tools=tools))


def make_uki(
    project: Project,
    seat: str,
    root: Image,
    uki: Path,
    scratch: Path,
    *,
    results: Mapping[str, Path],
    keys: Sequence[Path],
    answers: Answers | None,
    tools: Tools,
    secure: SecureBoot | None,
) -> None:
    """Turn the image into an initrd that is a whole system, and join it to its kernel."""
    assert root.uki is not None
    tar, overlay, initrd, kernel = (scratch / n for n in ("image.tar", "overlay", "initrd", "linux"))
    with (
        ui.current().step("Unpacking the installer's image"),
        root.tar.open("rb") as f,
        tar.open("wb") as out,
    ):
        zstandard.ZstdDecompressor().copy_stream(f, out)
    with ui.current().step("Putting Seatsmith into it"):
        stick = Ids(seat).data
        make_overlay(
            project,
            seat,
            tar,
            overlay,
            stick=stick,
            results=results,
            keys=keys,
            answers=answers,
            tools=tools,
        )
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    with (
        ui.current().step("Packing the initrd"),
        initrd.open("wb") as out,
        compressor.stream_writer(out, closefd=False) as packed,
    ):
        write_cpio(tar, overlay, packed, epoch=root.epoch, unwanted=unwanted)
    tar.unlink()
    sections = pe_sections(root.uki.read_bytes(), root.uki)
    kernel.write_bytes(sections[".linux"])
    uname = sections.get(".uname", b"").decode().strip("\0\n ")
    release = scratch / "os-release"
    version = root.version
    release.write_text(f'ID=seatsmith-installer\nNAME="Seatsmith installer"\nVERSION_ID={version}\n')
    argv: list[Arg] = ["ukify", "build", "--linux", kernel, "--initrd", initrd, "--output", uki]
    argv += ["--cmdline", OPTIONS, "--os-release", f"@{release}"]
    if uname:
        argv += ["--uname", uname]
    if secure is not None:
        argv += ["--signtool=systemd-sbsign", "--no-sign-kernel"]
        argv += [f"--secureboot-private-key={secure.key.absolute()}"]
        argv += [f"--secureboot-certificate={secure.certificate.absolute()}"]
    with ui.current().step("Joining it to its kernel"):
        tools.run(argv, env={"SOURCE_DATE_EPOCH": str(root.epoch)}, network=False)
    initrd.unlink()


def results_of(project: Project, images: Mapping[str, Image]) -> dict[str, Path]:
    """The result directories of images, by profile."""
    return {image.profile: project.dist / image.profile for image in images.values()}
