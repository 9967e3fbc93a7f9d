"""What does a real kernel say of a disk? A script in an initrd, on a PC in QEMU without a system on it."""

import os
from collections.abc import Mapping
from pathlib import Path

from builder.machine.hardware import QEMU, Accelerator, accelerator_arguments
from builder.run import Arg
from builder.tools import Tools

SCRIPT = """\
#!/usr/bin/bash
export PATH=/usr/bin:/usr/sbin DM_DISABLE_UDEV=1
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
exec </dev/null >/dev/ttyS0 2>&1
mkdir -p /run/lock/lvm /run/cryptsetup /mnt
for module in virtio_pci virtio_blk dm-mod dm-crypt xts aesni-intel ext4; do modprobe $module; done
echo BEGIN
"""
END = "\necho END\nsync\necho o > /proc/sysrq-trigger\nsleep 60\n"

OPEN = """
lvm vgck {group} && lvm vgchange -ay --noudevsync {group} && lvm vgmknodes
lvm lvs --noheadings -o lv_name,seg_pe_ranges {group}
"""
COMPARE = """
cryptsetup open --key-file /{name}.key /dev/mapper/{mapper} c{name} && mount -o ro /dev/mapper/c{name} /mnt
(cd /mnt && sha256sum --quiet -c /{name}.sums && echo "{name}: $(wc -l < /{name}.sums) files agree")
umount /mnt && e2fsck -fn /dev/mapper/c{name} >/dev/null && echo "{name}: e2fsck finds no fault"
"""
CHANGE = """
lvm lvextend -y --noudevsync -l +2 {group}/{name} && echo "{name}: extended"
cryptsetup resize --key-file /{name}.key c{name} && e2fsck -fp /dev/mapper/c{name} >/dev/null
mount /dev/mapper/c{name} /mnt && echo new > /mnt/new && umount /mnt && echo "{name}: written to"
lvm lvcreate -y --noudevsync -Zn -Wn -l 3 -n extra {group} && echo "extra: created"
lvm vgck {group} && echo "vgck finds no fault"
lvm lvs --noheadings -o lv_name,seg_pe_ranges {group}
"""


def archive(files: Mapping[str, bytes]) -> bytes:
    """A cpio archive (format newc) that the kernel unpacks over the initrd before it."""
    out = bytearray()
    for number, (name, data) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
        fields = [number, 0o100700, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def ask_guest(
    tools: Tools,
    disk: Path,
    script: str,
    files: Mapping[str, bytes],
    *,
    kernel: Path,
    initrd: Path,
    accelerator: Accelerator,
    scratch: Path,
    timeout: float = 240,
) -> str:
    """Run a script as the first process of a PC with that disk (which stays as it is); all that it says."""
    both, serial = scratch / "initrd-with-script", scratch / "serial"
    begun = initrd.read_bytes()
    extra = archive({"seatcheck": (SCRIPT + script + END).encode(), **files})
    both.write_bytes(begun + bytes(-len(begun) % 4) + extra)
    argv: list[Arg] = [QEMU, "-nodefaults", "-no-user-config", "-M", "q35", "-smp", "2", "-m", "1536"]
    argv += [*accelerator_arguments(accelerator), "-kernel", kernel, "-initrd", both]
    argv += ["-append", "console=ttyS0 rdinit=/seatcheck quiet mitigations=off panic=-1"]
    argv += ["-drive", f"file={os.fspath(disk).replace(',', ',,')},format=raw,if=virtio,snapshot=on"]
    argv += ["-display", "none", "-serial", f"file:{serial}", "-no-reboot"]
    tools.run(argv, network=False, timeout=timeout)
    both.unlink()
    text = serial.read_text(errors="replace").replace("\r", "")
    assert "END" in text, text[-2000:]
    return text.partition("BEGIN")[2]


def sums(digests: Mapping[str, str]) -> bytes:
    """What sha256sum -c reads; names with odd characters are escaped as it does."""
    lines = []
    for name, digest in sorted(digests.items()):
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
        mark = "\\" if escaped != name else ""
        lines.append(f"{mark}{digest}  {escaped}\n")
    return "".join(lines).encode(errors="surrogateescape")
