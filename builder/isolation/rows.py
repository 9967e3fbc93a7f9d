"""What is tried, while which terminal is in front, and what does each mode of isolation promise about it?"""

from dataclasses import dataclass
from enum import StrEnum


class Scene(StrEnum):
    """What the seat does meanwhile."""

    DESKTOP = "desktop"
    """The host's desktop is in front, and its keyboard is typed at."""
    TUNE = "tune"
    """The host's desktop is in front and plays something."""
    TEXT = "text"
    """A text console of the host is in front, typed at."""
    SWITCH = "switch"
    """The terminal changes from the host's desktop to the environment's."""
    ALONE = "alone"
    """A text console is in front, and the environment's display server is stopped: its terminal is free."""


class Promise(StrEnum):
    BLOCKED = "blocked"
    OPEN = "open"
    """The mode does not prevent it, and docs/isolation.md says so."""


KEYBOARD, SCREEN, TERMINALS = "Keyboard", "Screen", "Terminals"
SOUND, DATA, PROCESSES, KERNEL = "Sound", "Disks and memory", "Processes", "Kernel and devices"
GROUPS = (KEYBOARD, SCREEN, TERMINALS, SOUND, DATA, PROCESSES, KERNEL)


@dataclass(frozen=True)
class Row:
    """One thing that root in a container tries.

    ``title`` completes "root in the container can …". ``shared`` and ``strict`` are the modes' promises;
    ``control`` is the scene of the control where it is another.
    """

    id: str
    group: str
    title: str
    scene: Scene
    shared: Promise = Promise.BLOCKED
    strict: Promise = Promise.BLOCKED
    control: Scene | None = None
    heard: bool = False
    """Succeeds if what is typed meanwhile is heard (listen.py)."""
    arrives: str = ""
    """Succeeds if its word arrives there on the host: ``console``, ``screen`` or ``victim``."""

    def promise(self, *, strict: bool) -> Promise:
        return self.strict if strict else self.shared

    @property
    def control_scene(self) -> Scene:
        return self.control or self.scene


OPEN = Promise.OPEN
DESKTOP, TUNE, TEXT, SWITCH, ALONE = Scene.DESKTOP, Scene.TUNE, Scene.TEXT, Scene.SWITCH, Scene.ALONE

ROWS = (
    Row("keys-given", KEYBOARD, "read what is typed from its own input devices", DESKTOP, OPEN, heard=True),
    Row("keys-made", KEYBOARD, "read what is typed from input devices it makes", DESKTOP, OPEN, heard=True),
    Row("keys-hidraw", KEYBOARD, "read what is typed from hidraw", DESKTOP, heard=True),
    Row("keys-terminal", KEYBOARD, "read what is typed from the terminal's device", TEXT, OPEN, heard=True),
    Row(
        "keys-front", KEYBOARD, "read what is typed by bringing itself to the front", ALONE, OPEN, heard=True
    ),
    Row("inject-given", KEYBOARD, "type by its own input devices", TEXT, OPEN, arrives="console"),
    Row("inject-made", KEYBOARD, "type by input devices it makes", TEXT, OPEN, arrives="console"),
    Row("inject-uinput", KEYBOARD, "type by a virtual keyboard (uinput)", TEXT, arrives="console"),
    Row("inject-tiocsti", KEYBOARD, "type by TIOCSTI", TEXT, OPEN, arrives="console"),
    Row("inject-paste", KEYBOARD, "type by TIOCLINUX's paste", TEXT, OPEN, arrives="console"),
    Row("keymap", KEYBOARD, "change the keymap of all consoles", ALONE, OPEN),
    Row("shift-keys", KEYBOARD, "see which modifier keys are held", ALONE, OPEN),
    Row("screen-getfb", SCREEN, "read the screen by GETFB", DESKTOP, OPEN),
    Row("screen-getfb2", SCREEN, "read the screen by GETFB2", DESKTOP, OPEN),
    Row("screen-prime", SCREEN, "export the screen's memory by PRIME", DESKTOP, OPEN),
    Row("screen-names", SCREEN, "open a graphics buffer by its global name", DESKTOP, OPEN),
    Row("screen-switch", SCREEN, "read the last picture at a switch of terminals", SWITCH, OPEN),
    Row("screen-behind", SCREEN, "read what others have drawn, as the card's master", ALONE, OPEN),
    Row("drm-master", SCREEN, "become the graphics card's master", DESKTOP, control=TEXT),
    Row("drm-lease", SCREEN, "lease the graphics card's outputs", DESKTOP, control=TEXT),
    Row("framebuffer", SCREEN, "read /dev/fb0", DESKTOP),
    Row("text-picture", SCREEN, "read the text console's picture by GETFB", TEXT, OPEN),
    Row("console-memory", SCREEN, "read the text console by /dev/vcs", TEXT),
    Row("console-selection", SCREEN, "copy the text console by TIOCLINUX's selection", ALONE, OPEN),
    Row("console-write", SCREEN, "write on the text console", TEXT, OPEN, arrives="screen"),
    Row("x11-host", SCREEN, "connect to another environment's X server", DESKTOP),
    Row("wayland-host", SCREEN, "connect to another environment's Wayland compositor", DESKTOP),
    Row("vt-lock", TERMINALS, "forbid everybody to change the terminal", ALONE, OPEN),
    Row("vt-own", TERMINALS, "bring itself to the front", ALONE, OPEN, OPEN),
    Row("vt-other", TERMINALS, "bring a third terminal to the front", ALONE, OPEN, OPEN),
    Row("console-settings", TERMINALS, "change settings that all consoles share", ALONE, OPEN),
    Row("sound-record", SOUND, "record what the host plays", TUNE, OPEN),
    Row("sound-clients", SOUND, "list who else plays", TUNE, OPEN),
    Row("sound-modules", SOUND, "load modules into the sound server", TUNE, OPEN),
    Row("disks", DATA, "read the seat's disk", DESKTOP),
    Row("volumes", DATA, "read the opened volumes", DESKTOP),
    Row("memory", DATA, "reach the machine's memory and ports", DESKTOP),
    Row("process-read", PROCESSES, "read a host process's environment and memory", DESKTOP),
    Row("process-signal", PROCESSES, "send a host process a signal", DESKTOP),
    Row("process-trace", PROCESSES, "trace a host process", DESKTOP),
    Row("shared-memory", PROCESSES, "attach a host process's shared memory", DESKTOP),
    Row("keyring", PROCESSES, "read keys of the host's root", DESKTOP),
    Row("abstract-sockets", PROCESSES, "connect to abstract sockets of others", DESKTOP),
    Row("kernel-log", KERNEL, "read the kernel's log", DESKTOP),
    Row("sysrq", KERNEL, "give the kernel SysRq commands", DESKTOP, OPEN),
    Row("core-pattern", KERNEL, "set the program that the host starts for a crash", DESKTOP, OPEN),
    Row("sysctls", KERNEL, "change settings of the kernel in /proc/sys", DESKTOP, OPEN),
    Row("sysfs", KERNEL, "change settings of devices in /sys", DESKTOP, OPEN),
    Row("debugfs", KERNEL, "mount the kernel's debugging files", DESKTOP, OPEN),
    Row("tracefs", KERNEL, "mount the kernel's tracer", DESKTOP, OPEN),
    Row("devtmpfs", KERNEL, "mount the host's /dev", DESKTOP, OPEN),
    Row("modules", KERNEL, "load kernel modules", DESKTOP),
    Row("tracing", KERNEL, "watch the machine by perf or BPF", DESKTOP),
    Row("clock", KERNEL, "set the clock", DESKTOP),
    Row("udev-database", KERNEL, "write into its udev database", DESKTOP, OPEN),
    Row("udev-message", KERNEL, "tell the host's programs of a device", DESKTOP, arrives="victim"),
    Row("uevent", KERNEL, "have the kernel tell of a device", DESKTOP, OPEN, arrives="victim"),
)
BY_ID = {row.id: row for row in ROWS}
