"""Which settings does a profile have, and what is accepted for each?"""

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Distribution(StrEnum):
    ARCH = "arch"
    GENTOO = "gentoo"


class Role(StrEnum):
    CONTAINER = "container"
    HOST = "host"


class Isolation(StrEnum):
    SHARED = "shared"
    STRICT = "strict"


class DisplayServer(StrEnum):
    X11 = "x11"
    WAYLAND = "wayland"


class AudioServer(StrEnum):
    NONE = "none"
    PULSEAUDIO = "pulseaudio"
    PIPEWIRE = "pipewire"


class Display(Section):
    vt: int = 8
    """Virtual terminal the environment's X server runs on (LightDM's minimum-vt)."""
    server: DisplayServer = DisplayServer.X11
    greeter: str = "lightdm-gtk-greeter"
    session: str = "i3"
    """Name of a session below /usr/share/xsessions (or wayland-sessions)."""
    autologin: str | None = None
    """User who is logged in without a password."""


class User(Section):
    name: str
    uid: int | None = None
    groups: list[str] = Field(default_factory=lambda: ["audio", "video", "input"])
    shell: str = "/bin/bash"
    ssh_keys: list[str] = Field(default_factory=list)
    """Public keys; there is never a password in an image."""


class Audio(Section):
    server: AudioServer = AudioServer.PULSEAUDIO
    """On a host: the server that runs there. In a container: the kind of its client."""
    microphone: bool = False


class Devices(Section):
    gpu: bool = True
    input: bool = True
    extra: list[str] = Field(default_factory=list)
    """More device nodes below /dev that a container may use."""


class Network(Section):
    veth: bool = True
    """A network namespace of its own with a veth pair: host0 inside, ve-NAME on the host."""


class Packages(Section):
    add: list[str] = Field(default_factory=list)
    remove: list[str] = Field(default_factory=list)


class Repository(Section):
    name: str
    url: str
    key: Path
    """OpenPGP public key file, relative to the profile's directory."""
    fingerprint: str
    siglevel: str = "Required"


class Services(Section):
    enable: list[str] = Field(default_factory=list)
    mask: list[str] = Field(default_factory=list)


class Profile(Section):
    """One environment, with everything it extends already merged in."""

    name: str
    distribution: Distribution = Distribution.ARCH
    hostname: str | None = None
    """Default: the profile's name."""
    timezone: str = "UTC"
    locale: str = "C.UTF-8"
    keymap: str = "us"
    role: Role = Role.CONTAINER
    """What the environment is on a seat unless the seat file says otherwise."""
    bootable: bool = False
    """Bring a kernel, an initrd and a UKI, so that the environment can be the host of a seat."""
    isolation: Isolation = Isolation.SHARED
    display: Display = Field(default_factory=Display)
    users: list[User] = Field(default_factory=list)
    audio: Audio = Field(default_factory=Audio)
    devices: Devices = Field(default_factory=Devices)
    network: Network = Field(default_factory=Network)
    packages: Packages = Field(default_factory=Packages)
    """Packages beyond the base set of the distribution, and packages to leave out."""
    repositories: list[Repository] = Field(default_factory=list)
    files: Path | None = None
    """Tree of extra files copied into the image, relative to the profile's directory."""
    services: Services = Field(default_factory=Services)

    @property
    def machine(self) -> str:
        """The name that nspawn, units and volumes know the environment by."""
        return self.name
