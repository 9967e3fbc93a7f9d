"""What does a person do and see on one environment's desktop: switch to it, open a window, type, click?"""

import re
import shlex
import time
from collections.abc import Callable

from builder.machine.errors import Unmet
from builder.machine.machine import Machine
from builder.machine.shell import WAIT, Shell, until
from builder.machine.subject import EnvironmentFacts

AGAIN = 5.0  # seconds after which a person presses Ctrl+Alt+F… again
TYPED = "/run/seatsmith-typed"
# Writes down what a full-screen terminal is sent: letters as they are, clicks as xterm's SGR mouse reports,
# ESC [ < button ; column ; row M.
RECORDER = r"""stty raw -echo; printf '\033[?1000h\033[?1006h%s: type here\r\n' "$1"; exec tee FILE"""
CLICK = re.compile(r"\x1b\[<(\d+);(\d+);(\d+)M")
OWN_X = (
    "for p in $(pgrep -x Xorg); do "
    '[ "$(readlink /proc/$p/ns/pid)" = "$(readlink /proc/self/ns/pid)" ] '
    '&& tr "\\0" " " </proc/$p/cmdline && echo; '
    "done; true"
)
PASSWORD = "opensesame7"  # of whoever logs in at a greeter
ASKING = {False: "Log In", True: "Username"}  # what LightDM's greeter says, and that of Wayland
SESSION_SIGN = {"i3": "i3bar", "sway": "swaybar"}  # the program that shows that a session has come up


class Desktop:
    """One environment's screen, keyboard and pointer, through the machine's."""

    def __init__(self, machine: Machine, shell: Shell, facts: EnvironmentFacts) -> None:
        self.machine = machine
        self.shell = shell
        self.facts = facts
        self.name = facts.name
        self.vt = facts.vt

    # --- what runs

    def x_servers(self) -> list[str]:
        """Command lines of the environment's own X servers, not those of containers below it."""
        return [line.strip() for line in self.shell.succeed(OWN_X).splitlines() if line.strip()]

    def wait_until_up(self, *, timeout: float = 300.0) -> None:
        """Wait until the desktop (or the greeter, where nobody is logged in) is there.

        By Wayland it is the desktop in any case: whoever is asked for at the greeter logs in.
        """
        unit = "lightdm.service"
        if self.facts.wayland:
            unit = f"seatsmith-{'greetd' if self.facts.user is None else 'sway'}.service"
        self.shell.wait_for_unit(unit, timeout=timeout)
        if self.facts.user is not None:
            self.wait_for_session(self.facts.user, timeout=timeout)
            return
        self.wait_for_greeter(timeout=timeout)
        if self.facts.wayland:
            self.log_in(timeout=timeout)

    def wait_for_greeter(self, *, timeout: float = WAIT) -> None:
        """Wait until somebody is asked for the password."""
        sign = "-x tuigreet" if self.facts.wayland else "-f [l]ightdm-.*-greeter"
        self.shell.wait_until_succeeds(self.in_own_namespace(f"pgrep {sign}"), timeout=timeout)

    def log_in(
        self, *, picture: Callable[[str], object] = lambda caption: None, timeout: float = 60
    ) -> None:
        """Type name and password at the greeter, which has to be up."""
        user = self.facts.person
        self.shell.succeed(f"echo {user}:{PASSWORD} | chpasswd")
        self.switch_to()
        self.machine.wait_for_text(ASKING[self.facts.wayland], timeout=timeout)
        picture("the greeter")
        if self.facts.wayland:
            into = f"{user} gets into {self.name} by typing the password"
            until(lambda: self.in_session(user) or self.try_password(user, picture), into, timeout=timeout)
            return
        self.machine.type_text(f"{user}\n")
        self.machine.wait_for_screen(still=1.5, timeout=30)
        self.machine.type_text(PASSWORD)
        picture("name and password are typed")
        self.machine.type_text("\n")
        self.wait_for_session(user, timeout=timeout)

    def try_password(self, user: str, picture: Callable[[str], object]) -> bool:
        """Type name and password at tuigreet, from the start; False where that did not lead to a desktop.

        A window that has just been drawn may hear nothing yet, and another environment that starts comes to
        the front.
        """
        self.switch_to()
        try:
            self.machine.send_key("esc")
            # a terminal says Escape, then a letter, by the same bytes as Alt and that letter
            self.machine.wait_for_screen(still=2.0, timeout=20)
            self.machine.type_text(f"{user}\n")
            self.machine.wait_for_text("Password", timeout=15)
            self.machine.type_text(PASSWORD)
            picture("name and password are typed")
            self.machine.type_text("\n")
            self.wait_for_session(user, timeout=20)
        except Unmet:
            return False
        return True

    def in_session(self, user: str) -> bool:
        return self.shell.run(self.in_own_namespace(self.session_sign(user))).status == 0

    def log_out(self, *, timeout: float = 60) -> None:
        """Press the desktop's keys for it, and wait until the greeter asks again."""
        self.switch_to()
        self.machine.send_key("super-shift-e")
        self.wait_for_greeter(timeout=timeout)
        self.machine.wait_for_text(ASKING[self.facts.wayland], timeout=timeout)

    def wait_for_session(self, user: str, *, timeout: float = WAIT) -> None:
        """Wait until the user's desktop is there."""
        self.shell.wait_until_succeeds(self.in_own_namespace(self.session_sign(user)), timeout=timeout)

    def session_sign(self, user: str) -> str:
        program = SESSION_SIGN.get(self.facts.session, self.facts.session)
        return f"pgrep -u {shlex.quote(user)} -x {shlex.quote(program)}"

    @staticmethod
    def in_own_namespace(pgrep: str) -> str:
        """A command that succeeds if ``pgrep`` finds a process of this environment itself."""
        return (
            f"for p in $({pgrep}); do "
            '[ "$(readlink /proc/$p/ns/pid)" = "$(readlink /proc/self/ns/pid)" ] && exit 0; '
            "done; exit 1"
        )

    def x(self, command: str, *, timeout: float = 60.0) -> str:
        """Run a command with the environment's X display at hand."""
        return self.shell.succeed(
            f"export DISPLAY=:0 XAUTHORITY=/run/lightdm/root/:0; {command}", timeout=timeout
        )

    def wayland(self, command: str, *, timeout: float = 60.0) -> str:
        """Run a command as the user, with the environment's Wayland display at hand."""
        user = shlex.quote(self.facts.person)
        display = f'XDG_RUNTIME_DIR="/run/user/$(id -u {user})" WAYLAND_DISPLAY=wayland-1'
        return self.shell.succeed(f"runuser -u {user} -- env {display} {command}", timeout=timeout)

    # --- virtual terminals

    @property
    def active(self) -> bool:
        return active_vt(self.machine) == self.vt

    def switch_to(self, *, insist: bool = False, timeout: float = 60.0) -> None:
        """Press Ctrl+Alt+F… as a person would, and wait for the terminal to change.

        A person who sees nothing happen presses again after a while: an X server that has just been shown
        hears no key before it has opened its devices, a second later under emulation. With ``insist`` press
        at once again and again, as somebody does whose keyboard has only just been plugged in.
        """
        pressed = -AGAIN

        def there() -> bool:
            nonlocal pressed
            if self.active:
                return True
            if insist or time.monotonic() - pressed >= AGAIN:
                self.machine.send_key(f"ctrl-alt-f{self.vt}")
                pressed = time.monotonic()
            return self.active

        until(there, f"Ctrl+Alt+F{self.vt} brings {self.name}'s terminal", timeout=timeout, poll=0.2)

    # --- typing and pointing

    def open_recorder(self, *, timeout: float = WAIT) -> None:
        """Open a terminal over the whole screen that writes down what it is sent."""
        inner = f"bash -c {shlex.quote(RECORDER.replace('FILE', TYPED))} sh {shlex.quote(self.name)}"
        if self.facts.wayland:
            self.shell.succeed(f"rm -f {TYPED}; (umask 0; : >{TYPED})")
            self.wayland(
                f"setsid -f foot --fullscreen --font=Mono:size=16 {inner} >/dev/null 2>&1 </dev/null"
            )
        else:
            window = f"xterm -fullscreen -fa Mono -fs 16 -e {inner}"
            self.x(f"rm -f {TYPED}; setsid -f {window} >/run/seatsmith-xterm.log 2>&1 </dev/null")
        # the window is there, and has the keyboard: a letter gets through
        self.shell.wait_for_file(TYPED, timeout=timeout)
        self.eventually_types("a", timeout=timeout)
        self.forget()

    def eventually_types(self, letter: str, *, timeout: float) -> None:
        def arrived() -> bool:
            self.machine.type_text(letter)
            return letter in self.typed()

        until(arrived, f"a letter typed reaches {self.name}'s window", timeout=timeout, poll=0.5)

    def forget(self) -> None:
        """Empty the record of what was typed."""
        self.shell.succeed(f": >{TYPED}")

    def typed(self) -> str:
        """What the recorder's window was sent so far: letters and clicks' reports."""
        return self.shell.run(f"cat {TYPED}").output.replace("\0", "")

    def letters(self) -> str:
        """The letters among it."""
        return CLICK.sub("", re.sub(r"\x1b\[<\d+;\d+;\d+m", "", self.typed()))

    def clicks(self) -> list[tuple[int, int, int]]:
        """The clicks among it: button, column, row."""
        return [(int(b), int(c), int(r)) for b, c, r in CLICK.findall(self.typed())]

    def expect(self, ask: Callable[[], bool], what: str, *, timeout: float = 20.0) -> None:
        """Wait until something is so in this environment, and say what came instead where it is not."""
        try:
            until(ask, what, timeout=timeout, poll=0.3)
        except Unmet as e:
            raise Unmet(f"{e}; {self.name}'s window was sent {self.typed()!r}") from None


def active_vt(machine: Machine) -> int:
    """The number of the virtual terminal on screen."""
    return int(machine.host.succeed("cat /sys/class/tty/tty0/active").strip().removeprefix("tty"))
