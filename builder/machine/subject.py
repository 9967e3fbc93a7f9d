"""What is tested: which disk, which environments on it, and how is it unlocked?"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from builder.machine.credentials import Credential, agent_credentials
from builder.machine.hardware import TEST_KERNEL_OPTIONS, Accelerator, DirectKernel, Firmware, Hardware
from builder.render.escape import unit_name


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EnvironmentFacts(Frozen):
    """One environment as its profile describes it."""

    name: str
    vt: int
    user: str | None = None
    """Who is logged in without a password; None: the greeter waits."""
    person: str = "user"
    """Who logs in at the greeter."""
    session: str = "i3"
    wayland: bool = False
    """sway by seatd, and neither an X server nor LightDM."""
    sound: bool = True
    network: bool = True
    """A container's network namespace of its own."""
    volume: bool = True
    """A container's encrypted volume of its own."""
    keyfile: bool = False
    """Whose hosts have a key for it, so that it opens without a person."""
    strict: bool = False
    """As a container: with devices of its own, fed by the host's input broker."""

    @property
    def volume_unit(self) -> str:
        """The unit that opens a container's volume, by crypttab(5) of the host."""
        return f"systemd-cryptsetup@{unit_name(self.name)}.service"


class Kernel(Frozen):
    """What the fast route starts, without firmware and boot loader."""

    kernel: Path
    initrd: Path
    cmdline: str


class Subject(Frozen):
    """A seat as a boot test sees it; written to a file for the workers of a run."""

    name: str
    disk: Path
    host: EnvironmentFacts
    containers: list[EnvironmentFacts]
    fast: Kernel
    passphrase: str | None = None
    """Opens all volumes; None where nothing is encrypted."""
    full: bool = True
    """Boot by the route of a real PC (firmware, boot menu, passphrase typed), not by the fast one."""
    accelerator: Accelerator = Accelerator.TCG
    memory: int = 2048 << 20

    @property
    def environments(self) -> list[EnvironmentFacts]:
        return [self.host, *self.containers]

    def credentials(self) -> tuple[Credential, ...]:
        """The agent, and by the fast route the passphrase, so that nobody has to type it.

        A container's volume may be opened long after the initrd's passphrase has left the kernel's keyring,
        so it is handed to each of them.
        """
        found = agent_credentials()
        if not self.full and self.passphrase is not None:
            found.append(Credential("cryptsetup.passphrase", self.passphrase))
            dropin = "[Service]\nImportCredential=cryptsetup.passphrase\n"
            for facts in self.containers:
                found.append(Credential(f"systemd.unit-dropin.{facts.volume_unit}", dropin))
        return tuple(found)

    def hardware(self) -> Hardware:
        """The PC for this seat."""
        kernel = self.fast
        options = f"{TEST_KERNEL_OPTIONS} systemd.show_status=0 quiet"
        boot: Firmware | DirectKernel
        if self.full:
            boot = Firmware(options)
        else:
            boot = DirectKernel(kernel.kernel, kernel.initrd, f"{kernel.cmdline} {options}")
        return Hardware(
            disk=self.disk,
            boot=boot,
            accelerator=self.accelerator,
            memory=self.memory,
            credentials=self.credentials(),
        )
