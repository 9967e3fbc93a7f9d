"""Which settings does a profile have, and what is accepted for each?"""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from builder.profile.checks import (
    Description,
    DevicePath,
    GroupName,
    HostName,
    Keymap,
    Locale,
    ProfileName,
    Shell,
    SshKey,
    SystemCall,
    Timezone,
    Token,
    TreePath,
    UnitName,
    UserName,
)
from builder.profile.package_checks import (
    Atom,
    Fingerprint,
    Keyword,
    MakeValue,
    MakeVariable,
    PackageName,
    RepositoryName,
    Url,
    UseFlag,
)
from builder.sizes import Size

Bool = Annotated[bool, Strict()]


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


# capabilities(7), in lower case and without CAP_
Capability = StrEnum(
    "Capability",
    "audit_control audit_read audit_write block_suspend bpf checkpoint_restore chown dac_override "
    "dac_read_search fowner fsetid ipc_lock ipc_owner kill lease linux_immutable mac_admin mac_override "
    "mknod net_admin net_bind_service net_broadcast net_raw perfmon setfcap setgid setpcap setuid sys_admin "
    "sys_boot sys_chroot sys_module sys_nice sys_pacct sys_ptrace sys_rawio sys_resource sys_time "
    "sys_tty_config syslog wake_alarm",
)


class DisplayServer(StrEnum):
    X11 = "x11"
    WAYLAND = "wayland"


class AudioServer(StrEnum):
    NONE = "none"
    PULSEAUDIO = "pulseaudio"
    PIPEWIRE = "pipewire"


class SigLevel(StrEnum):
    """Which signatures of a repository pacman asks for (pacman.conf(5), SigLevel)."""

    REQUIRED = "Required"
    PACKAGES = "Required DatabaseOptional"
    PACKAGES_ALONE = "Required DatabaseNever"


def usable_vt(vt: int) -> int:
    reasons = {
        0: "0 is no terminal but the one that is active",
        1: "VT 1 shows boot messages and the passphrase prompt",
    }
    if not 2 <= vt <= 63:
        wrong = reasons.get(vt, f"there is no VT {vt}")
        raise PydanticCustomError(
            "rule", "{wrong}; accepted: 2 to 63 (7 for a host alone)", {"wrong": wrong}
        )
    return vt


Vt = Annotated[
    int, Strict(), AfterValidator(usable_vt), Field(json_schema_extra={"minimum": 2, "maximum": 63})
]
Uid = Annotated[int, Strict(), Field(ge=1000, le=59999)]


class Display(Section):
    """The screen: where and how the environment's desktop runs."""

    vt: Vt = 8
    """Virtual terminal of the desktop (LightDM's minimum-vt). VT 7 is the host's."""
    server: DisplayServer = DisplayServer.X11
    """X11 (Xorg by LightDM) or Wayland (sway by seatd and greetd)."""
    greeter: Token = "lightdm-gtk-greeter"
    """Name of a greeter below /usr/share/xgreeters. With `server: wayland` it is tuigreet."""
    session: Token = "i3"
    """Name of a session below /usr/share/xsessions or wayland-sessions; with `server: wayland` sway."""
    autologin: UserName | None = None
    """User who is logged in without a password; one of `users`."""


class User(Section):
    """A person's account. There is never a password in an image: it is set when a seat is provisioned."""

    name: UserName
    """Login name. Users of extended files are merged by it."""
    uid: Uid | None = None
    """User id. Default: the next free one from 1000 on."""
    groups: list[GroupName] = Field(default_factory=lambda: ["audio", "video", "input"])
    """Groups beside the user's own. Default: audio, video, input."""
    shell: Shell = "/bin/bash"
    """Login shell; its package must be in the image."""
    ssh_keys: list[SshKey] = Field(default_factory=list)
    """Public keys that may log in over SSH."""


class Audio(Section):
    """Sound: the host has the hardware, containers are its clients."""

    server: AudioServer = AudioServer.PULSEAUDIO
    """On a host: the server that runs there. In a container: the kind of its client."""
    microphone: Bool = False
    """Whether a container may record. With `isolation: shared` it can in any case."""


class Devices(Section):
    """Hardware that a container may use."""

    gpu: Bool = True
    """The graphics card (/dev/dri)."""
    input: Bool = True
    """Keyboard, mouse, touchpad and so on (/dev/input)."""
    extra: list[DevicePath] = Field(default_factory=list)
    """More device nodes below /dev that a container may use, such as /dev/video0."""


class Privileges(Section):
    """What a container may do beyond what a desktop needs; only with `isolation: strict`."""

    capabilities: list[Capability] = Field(default_factory=list)
    """Capabilities in its own user namespace, without `CAP_`, such as sys_ptrace for a debugger."""
    system_calls: list[SystemCall] = Field(default_factory=list)
    """System calls, or groups of them as systemd names them, such as perf_event_open or @keyring."""


class Network(Section):
    """How a container reaches the network."""

    veth: Bool = True
    """A network namespace of its own with a veth pair: host0 inside, ve-NAME on the host."""


class Packages(Section):
    """Packages beyond the base set of the distribution, and packages to leave out."""

    add: list[PackageName] = Field(default_factory=list)
    """Packages to install. Extended files add up."""
    remove: list[PackageName] = Field(default_factory=list)
    """Packages of the base set, or of an extended file, to leave out. Extended files add up."""


class Repository(Section):
    """A pacman repository beside the distribution's own, with a key of its own."""

    name: RepositoryName
    """Its name in pacman.conf, and of its database file."""
    url: Url
    """Where it is; pacman puts in `$repo` and `$arch`."""
    key: TreePath
    """OpenPGP public key file, relative to profiles/."""
    fingerprint: Fingerprint
    """Fingerprint that the key must have."""
    siglevel: SigLevel = SigLevel.REQUIRED
    """Which signatures are asked for: of packages always, of the database by choice."""


class Services(Section):
    """systemd units that a preset turns on, and units that cannot be started at all."""

    enable: list[UnitName] = Field(default_factory=list)
    """Units to enable. Extended files add up."""
    mask: list[UnitName] = Field(default_factory=list)
    """Units to mask. Extended files add up."""


class Sizes(Section):
    """How much room the environment wants on a seat's disk, where the seat file says nothing else."""

    root: Size = 8 << 30
    """Size of the volume with the root filesystem."""


class Gentoo(Section):
    """Settings for portage; only with `distribution: gentoo`."""

    use: list[UseFlag] = Field(default_factory=list)
    """USE flags for all packages."""
    package_use: dict[Atom, list[UseFlag]] = Field(default_factory=dict)
    """USE flags for single packages (package.use)."""
    keywords: dict[Atom, list[Keyword]] = Field(default_factory=dict)
    """Keywords to accept for single packages (package.accept_keywords)."""
    masks: list[Atom] = Field(default_factory=list)
    """Packages or versions never to install (package.mask)."""
    unmasks: list[Atom] = Field(default_factory=list)
    """Packages or versions to install though Gentoo masks them (package.unmask)."""
    make_conf: dict[MakeVariable, MakeValue] = Field(default_factory=dict)
    """More variables for make.conf, without quotes."""
    slim: Bool = False
    """Install into an empty root, without the compilers and build tools of the stage3."""
    keep_portage: Bool = True
    """Keep portage in the image, so that the environment can update itself."""


class Profile(Section):
    """One environment, with everything it extends already merged in."""

    name: ProfileName
    """Name of the environment: the name of its file, which need not repeat it."""
    description: Description = "A Seatsmith environment"
    """One line that lists and boot menus show."""
    distribution: Distribution = Distribution.ARCH
    """Distribution that the environment is made of."""
    hostname: HostName | None = None
    """Host name inside. Default: the profile's name."""
    timezone: Timezone = "UTC"
    """Time zone."""
    locale: Locale = "C.UTF-8"
    """Language and formats (LANG)."""
    keymap: Keymap = "us"
    """Keyboard layout, as the console names it."""
    role: Role = Role.CONTAINER
    """What the environment is on a seat unless the seat file says otherwise."""
    bootable: Bool = False
    """Bring a kernel, an initrd and a UKI, so that the environment can be the host of a seat.

    Follows `role: host`, where it is true."""
    isolation: Isolation = Isolation.STRICT
    """How far a container is kept from the others' keyboard and screen."""
    display: Display = Field(default_factory=Display)
    users: list[User] = Field(default_factory=list)
    """Accounts of people. Those of extended files are merged by name."""
    audio: Audio = Field(default_factory=Audio)
    devices: Devices = Field(default_factory=Devices)
    privileges: Privileges = Field(default_factory=Privileges)
    network: Network = Field(default_factory=Network)
    packages: Packages = Field(default_factory=Packages)
    repositories: list[Repository] = Field(default_factory=list)
    """pacman repositories beside the distribution's own; only with `distribution: arch`."""
    files: TreePath | None = None
    """Tree of extra files copied into the image, relative to profiles/."""
    services: Services = Field(default_factory=Services)
    sizes: Sizes = Field(default_factory=Sizes)
    gentoo: Gentoo = Field(default_factory=Gentoo)

    @property
    def machine(self) -> str:
        """The name that nspawn, units and volumes know the environment by."""
        return self.name

    @model_validator(mode="before")
    @classmethod
    def fill_in(cls, data: Any) -> Any:
        """Defaults that follow from other settings."""
        if not isinstance(data, dict):
            return data
        more: dict[str, Any] = {}
        if data.get("hostname") is None and isinstance(data.get("name"), str):
            more["hostname"] = data["name"]
        if data.get("role") == Role.HOST and "bootable" not in data:
            more["bootable"] = True
        display = data.get("display")
        if isinstance(display, dict) and display.get("server") == "wayland" and "session" not in display:
            more["display"] = {**display, "session": "sway"}
        if isinstance(data.get("users"), list):
            more["users"] = with_uids(data["users"])
        return {**data, **more}

    @model_validator(mode="after")
    def agree_with_itself(self) -> Self:
        from builder.profile.rules import disagreements

        if found := disagreements(self.model_dump(mode="json", exclude_unset=True)):
            raise PydanticCustomError("rules", "{wrong}", {"wrong": "; ".join(f.message for f in found)})
        return self


def with_uids(users: list[Any]) -> list[Any]:
    """Users as they are, and those without an id with the next free one: the same in every build."""
    taken = {u["uid"] for u in users if isinstance(u, dict) and isinstance(u.get("uid"), int)}
    free = (uid for uid in range(1000, 60000) if uid not in taken)
    return [{**u, "uid": next(free)} if isinstance(u, dict) and u.get("uid") is None else u for u in users]
