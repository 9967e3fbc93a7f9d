"""Which virtual PC does QEMU make: processor, disk, screen, keyboard, sound and what boots on it?"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from builder.machine.agent import PORT
from builder.machine.credentials import Credential, smbios_arguments, stub_arguments

QEMU = "qemu-system-x86_64"
DISK = "disk"  # the block node that snapshots are kept in
SERIAL = "SEATSMITH-TEST-0"  # of the disk: provisioning takes it for one that tests may change
INPUT_PORTS = 6  # PCIe root ports: a PCI device can only be plugged into a free one

# The guest's clock follows the emulated HPET, which a snapshot rolls back with everything else; the
# processor's own counter would jump. Speculation guards cost much under emulation and protect nobody here.
# On a busy machine a disk may take longer to be found than the 90 s after which systemd gives up.
TEST_KERNEL_OPTIONS = (
    "console=tty0 console=ttyS0,115200 clocksource=hpet tsc=unstable mitigations=off audit=0 "
    "systemd.default_device_timeout_sec=600"
)


class Accelerator(StrEnum):
    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True)
class Firmware:
    """The whole way of a real PC: UEFI, boot loader, UKI. ``options`` lengthen the kernel command line."""

    options: str = TEST_KERNEL_OPTIONS


@dataclass(frozen=True)
class DirectKernel:
    """QEMU loads kernel and initrd itself: no firmware, no boot loader."""

    kernel: Path
    initrd: Path
    cmdline: str


@dataclass(frozen=True)
class Hardware:
    """One virtual PC. ``disk`` is never written to: what changes goes to a qcow2 overlay."""

    disk: Path
    boot: Firmware | DirectKernel
    accelerator: Accelerator = Accelerator.TCG
    disk_format: str = "raw"
    memory: int = 2048 << 20
    processors: int = 2
    width: int = 1024
    height: int = 768
    credentials: tuple[Credential, ...] = ()
    resets: bool = False
    """Let the guest reboot by itself. Off: QEMU ends then, so that a test sees it."""
    network: bool = False
    """A network card behind QEMU's user-mode network. Off: nothing leaves the guest."""
    extra: tuple[str, ...] = field(default=())
    """More QEMU arguments."""


@dataclass(frozen=True)
class Sockets:
    """The files of one running QEMU, all in its private directory."""

    folder: Path

    @property
    def monitor(self) -> Path:
        return self.folder / "qmp.sock"

    @property
    def agent(self) -> Path:
        return self.folder / "agent.sock"

    @property
    def display(self) -> Path:
        return self.folder / "vnc.sock"

    @property
    def serial(self) -> Path:
        return self.folder / "serial.log"

    @property
    def output(self) -> Path:
        return self.folder / "qemu.log"

    @property
    def audio(self) -> Path:
        return self.folder / "audio.wav"

    @property
    def overlay(self) -> Path:
        return self.folder / "overlay.qcow2"

    @property
    def screen(self) -> Path:
        return self.folder / "screen.png"

    @property
    def look(self) -> Path:
        return self.folder / "look.ppm"

    @property
    def earlier_look(self) -> Path:
        return self.folder / "earlier-look.ppm"

    @property
    def looks(self) -> list[Path]:
        """The pictures there are of the screen, whatever they were taken for, the newest first."""
        taken = [path for path in (self.screen, self.look, self.earlier_look) if path.exists()]
        return sorted(taken, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    @property
    def variables(self) -> Path:
        return self.folder / "efi-variables.fd"


def qemu_arguments(
    hardware: Hardware, sockets: Sockets, *, name: str, display: tuple[str, ...] = ()
) -> list[str]:
    """The argument list that starts this PC, paused. ``display`` replaces the hidden screen."""
    return [
        QEMU,
        *("-name", name),
        *("-nodefaults", "-no-user-config", "-S"),
        *(() if hardware.resets else ("-no-reboot",)),
        *("-M", "q35,usb=off,vmport=off,i8042=off"),
        *accelerator_arguments(hardware.accelerator),
        *("-smp", str(hardware.processors)),
        *("-m", f"{hardware.memory >> 20}M"),
        *boot_arguments(hardware, sockets),
        *disk_arguments(sockets),
        *screen_arguments(hardware, sockets, display),
        *input_arguments(),
        *audio_arguments(sockets),
        *channel_arguments(sockets),
        *("-device", "virtio-rng-pci,bus=pcie.0"),
        *(("-nic", "user,model=virtio-net-pci") if hardware.network else ("-nic", "none")),
        *smbios_arguments(list(hardware.credentials), sockets.folder),
        *hardware.extra,
    ]


def accelerator_arguments(accelerator: Accelerator) -> list[str]:
    if accelerator is Accelerator.KVM:
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"]


def boot_arguments(hardware: Hardware, sockets: Sockets) -> list[str]:
    if isinstance(hardware.boot, DirectKernel):
        kernel = hardware.boot
        return [
            *("-kernel", str(kernel.kernel)),
            *("-initrd", str(kernel.initrd)),
            *("-append", kernel.cmdline),
        ]
    code = firmware_file("CODE")
    return [
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={sockets.variables}"),
        *("-boot", "menu=off,strict=on"),
        *(stub_arguments(hardware.boot.options) if hardware.boot.options else ()),
    ]


def firmware_file(part: str) -> Path:
    """OVMF's code or variables as QEMU, inside the tools tree, sees them (only /usr differs there)."""
    return Path(f"/usr/share/OVMF/OVMF_{part}_4M.fd")


def disk_arguments(sockets: Sockets) -> list[str]:
    return [
        *(
            "-blockdev",
            f"driver=file,node-name=file,filename={sockets.overlay},cache.no-flush=on,discard=unmap",
        ),
        *("-blockdev", f"driver=qcow2,node-name={DISK},file=file,cache.no-flush=on,discard=unmap"),
        *("-device", f"virtio-blk-pci,drive={DISK},serial={SERIAL},bus=pcie.0,bootindex=1"),
    ]


def screen_arguments(hardware: Hardware, sockets: Sockets, display: tuple[str, ...]) -> list[str]:
    size = f"xres={hardware.width},yres={hardware.height}"
    hidden = ("-display", "none", "-vnc", f"unix:{sockets.display}")
    return ["-device", f"virtio-vga,id=screen,{size},edid=on,bus=pcie.0", *(display or hidden)]


def input_arguments() -> list[str]:
    ports = [f"pcie-root-port,id=port{n},chassis={n + 1},slot={n + 1}" for n in range(INPUT_PORTS)]
    devices = [
        *ports,
        "qemu-xhci,id=usb,bus=pcie.0",
        "virtio-keyboard-pci,id=keyboard,bus=port0",
        "virtio-tablet-pci,id=tablet,bus=port1",
    ]
    return [word for device in devices for word in ("-device", device)]


def audio_arguments(sockets: Sockets) -> list[str]:
    return [
        *("-audiodev", f"wav,id=sound,path={sockets.audio},out.frequency=44100"),
        *("-device", "ich9-intel-hda,bus=pcie.0"),
        *("-device", "hda-output,audiodev=sound"),
    ]


def channel_arguments(sockets: Sockets) -> list[str]:
    return [
        *("-device", "virtio-serial-pci,bus=pcie.0"),
        *("-chardev", f"socket,id=agent,path={sockets.agent},server=on,wait=off"),
        *("-device", f"virtserialport,chardev=agent,name={PORT}"),
        *("-chardev", f"file,id=serial,path={sockets.serial}"),
        *("-serial", "chardev:serial"),
        *("-qmp", f"unix:{sockets.monitor},server=on,wait=off"),
    ]
