"""How do a UKI's kernel, initrd and command line come apart, so that QEMU can load them by itself?

An uncompressed kernel also starts faster under emulation: nothing has to be unpacked by emulated code, and
QEMU enters it directly (PVH).
"""

import lzma
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zstandard

from builder.errors import InputError

ELF = b"\x7fELF"
SETUP_HEADER = 0x1F1  # Documentation/arch/x86/boot.rst: offset of setup_sects
BOOT_MAGIC = b"HdrS"  # at 0x202
PAYLOAD = 0x248  # payload_offset and payload_length, since protocol 2.08


@dataclass(frozen=True)
class UnifiedKernel:
    """What a unified kernel image (UAPI.5) carries."""

    linux: bytes
    initrd: bytes
    cmdline: str


def read_uki(path: Path) -> UnifiedKernel:
    """Take a UKI's sections apart. Raises InputError where it is none."""
    sections = pe_sections(path.read_bytes(), path)
    missing = [name for name in (".linux", ".initrd") if name not in sections]
    if missing:
        raise InputError(f"{path} is not a unified kernel image: it has no section {missing[0]}")
    return UnifiedKernel(
        sections[".linux"],
        sections[".initrd"],
        sections.get(".cmdline", b"").decode(errors="replace").strip("\0\n "),
    )


def pe_sections(data: bytes, path: Path) -> dict[str, bytes]:
    """Names and contents of a PE file's sections (Microsoft PE/COFF specification, section table)."""
    try:
        (header,) = struct.unpack_from("<I", data, 0x3C)
        if data[:2] != b"MZ" or data[header : header + 4] != b"PE\0\0":
            raise InputError(f"{path} is not an EFI program")
        (count,) = struct.unpack_from("<H", data, header + 6)
        (optional,) = struct.unpack_from("<H", data, header + 20)
        sections = {}
        for number in range(count):
            at = header + 24 + optional + 40 * number
            name = data[at : at + 8].rstrip(b"\0").decode("ascii", "replace")
            virtual, _, raw, offset = struct.unpack_from("<IIII", data, at + 8)
            sections[name] = data[offset : offset + min(virtual or raw, raw)]
    except struct.error as e:
        raise InputError(f"{path} is not an EFI program: it ends too early") from e
    return sections


def uncompressed(linux: bytes) -> bytes:
    """The ELF kernel inside a bzImage, or the bzImage as it is where its compression is not known here."""
    if linux[:4] == ELF or linux[0x202:0x206] != BOOT_MAGIC:
        return linux
    sectors = linux[SETUP_HEADER] or 4
    offset, length = struct.unpack_from("<II", linux, PAYLOAD)
    start = (sectors + 1) * 512 + offset
    payload = linux[start : start + length]
    unpackers: dict[bytes, Callable[[bytes], bytes]] = {
        b"\x28\xb5\x2f\xfd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
        b"\x1f\x8b": lambda data: zlib.decompressobj(31).decompress(data),
        b"\xfd7zXZ\0": lambda data: lzma.LZMADecompressor().decompress(data),
    }
    for magic, unpack in unpackers.items():
        if payload.startswith(magic):
            elf = unpack(payload)
            return elf if elf[:4] == ELF else linux
    return linux


def unpack_uki(path: Path, folder: Path) -> tuple[Path, Path, str]:
    """Write kernel (uncompressed) and initrd of a UKI into ``folder``; their paths and the command line."""
    parts = read_uki(path)
    kernel, initrd = folder / "vmlinux", folder / "initrd"
    kernel.write_bytes(uncompressed(parts.linux))
    initrd.write_bytes(parts.initrd)
    return kernel, initrd, parts.cmdline
