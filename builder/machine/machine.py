"""How does a test use a virtual PC: start it, type at it, look at it, unplug things from it, and end it?"""

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from builder.machine import audio, input, screen, vnc
from builder.machine.agent import OVERTIME, Agent
from builder.machine.errors import AgentSilent, MachineDied, QemuRefused, Unmet
from builder.machine.hardware import DISK, Hardware
from builder.machine.input import Plugs
from builder.machine.keys import combination, keys_for
from builder.machine.power import Power
from builder.machine.shell import WAIT, ContainerShell, HostShell, until
from builder.machine.watch import plain
from builder.tools import Tools


class Machine(Power):
    """One virtual PC. Use it in a ``with`` statement: at its end nothing of it is left.

    ``overlay`` continues from an earlier machine's disk (with its snapshots) instead of a fresh one.
    ``host`` is root's command line on the host, ``container(NAME)`` that in a container.
    """

    def __init__(
        self,
        tools: Tools,
        hardware: Hardware,
        *,
        name: str = "seat",
        overlay: Path | None = None,
        display: Sequence[str] = (),
    ) -> None:
        super().__init__(tools, hardware, name=name, overlay=overlay, display=display)
        self.host = HostShell(lambda: self.agent)
        self.plugs = Plugs()
        self.monitor_changed = False
        self._agent: Agent | None = None

    # --- life

    def start(self, *, paused: bool = False) -> None:
        self.plugs = Plugs()
        self.monitor_changed = False
        super().start(paused=paused)

    def crash(self) -> None:
        if self._agent is not None:
            self._agent.close()
            self._agent = None
        super().crash()

    def stop(self, *, timeout: float = WAIT) -> None:
        """Shut the guest down by its power button. Raises Unmet where the PC does not go off."""
        self.alive()
        self.expect_end()
        self.qmp("system_powerdown")
        ended = self.wait_for_end(timeout)
        self.crash()
        if not ended:
            raise Unmet(f"the guest did not power off within {timeout:.0f} s")

    def reboot(self, *, timeout: float = WAIT) -> None:
        """Let the guest reboot in order. QEMU is started anew on the same disk for it."""
        self.alive()
        self.expect_end()
        with contextlib.suppress(AgentSilent, MachineDied):
            answer = self.host.run("systemctl reboot", timeout=10)
            if answer.status not in (0, OVERTIME):
                raise Unmet(f"the guest does not reboot: {answer.output.strip()[-2000:]}")
        ended = self.wait_for_end(timeout)  # QEMU has -no-reboot: a guest's reset ends it
        self.crash()
        if not ended:
            raise Unmet(f"the guest did not reboot within {timeout:.0f} s")
        self.start()

    # --- commands in the guest

    @property
    def agent(self) -> Agent:
        if self._agent is None:
            self.alive()
            self._agent = Agent(self.files.agent, self.alive)
        return self._agent

    def wait_for_agent(self, *, timeout: float = WAIT) -> None:
        """Wait until commands can be run in the host. Raises AgentSilent or MachineDied."""
        if not self.agent.answers(timeout):
            raise AgentSilent(f"the guest's agent said nothing for {timeout:.0f} s after the start")

    def container(self, name: str) -> ContainerShell:
        """Root's command line in one of the host's containers."""
        return ContainerShell(self.host, name)

    # --- serial log

    def serial_log(self) -> str:
        """What the guest wrote to its serial port since the last start, as plain text."""
        if not self.files.serial.exists():
            return ""
        return plain(self.files.serial.read_bytes().decode(errors="replace"))

    def wait_for_serial(self, pattern: str, *, timeout: float = WAIT) -> str:
        """Wait for a regular expression in the serial log; what it matched."""
        found: list[str] = []

        def probe() -> bool:
            self.alive()
            match = re.search(pattern, self.serial_log())
            found.extend([match.group(0)] if match else [])
            return bool(match)

        until(probe, f"{pattern!r} on the serial port", timeout=timeout, poll=0.1)
        return found[0]

    # --- keyboard and pointer

    def send_key(self, keys: str, *, hold: float = input.HOLD) -> None:
        """Press one key or a combination: ``ret``, ``ctrl-alt-f8``."""
        input.press(self.monitor, combination(keys), hold)

    def type_text(self, text: str, *, hold: float = input.HOLD) -> None:
        """Type a text on a US keyboard; a newline is the Enter key."""
        for character in text:
            input.press(self.monitor, keys_for(character), hold)

    def move_pointer(self, x: int, y: int) -> None:
        """Put the pointer at a pixel of the screen, by the tablet."""
        input.move(self.monitor, x / self.hardware.width, y / self.hardware.height)

    def click(self, x: int, y: int, button: str = "left") -> None:
        """Move the pointer and press a button of it: ``left``, ``middle`` or ``right``."""
        self.move_pointer(x, y)
        input.click(self.monitor, button)

    # --- plugging

    def plug(self, kind: str, name: str | None = None) -> str:
        """Plug in a keyboard, mouse or tablet (``usb-…``: by USB); the name to unplug it by."""
        self.plugs.plug(self.monitor, kind, name or kind)
        return name or kind

    def unplug(self, name: str, *, timeout: float = 90.0) -> None:
        """Pull a device out and wait until the guest has let go of it."""
        self.plugs.unplug(self.monitor, name, timeout)

    def set_monitor(self, width: int, height: int) -> None:
        """Have the guest find another monitor plugged in, which prefers this size."""
        self.monitor_changed = True
        vnc.set_desktop_size(self.files.display, width, height)

    @property
    def as_started(self) -> bool:
        """Whether exactly what was plugged in at the start is: what a snapshot's loading asks for."""
        return self.plugs.as_started and not self.monitor_changed

    # --- screen

    def screenshot(self, path: Path) -> Path:
        """Write what the screen shows as PNG."""
        self.qmp("screendump", filename=str(self.files.screen), format="png")
        shutil.copyfile(self.files.screen, path)
        return path

    def look(self) -> Path:
        """What the screen shows, for us alone: not compressed, as the guest waits for QEMU meanwhile."""
        self.qmp("screendump", filename=str(self.files.look), format="ppm")
        return self.files.look

    def screen_text(self) -> str:
        """All text on the screen, as tesseract reads it."""
        return "\n".join(screen.readings(self.look(), self.tools))

    def wait_for_text(self, pattern: str, *, timeout: float = WAIT) -> None:
        """Wait until a regular expression matches the text on the screen, as one line, in any case."""
        last: list[str] = []

        def probe() -> bool:
            last.clear()
            for text in screen.readings(self.look(), self.tools):
                last.append(" ".join(text.split()))
                if re.search(pattern, " ".join(last), re.IGNORECASE):
                    return True
            return False

        try:
            until(probe, f"{pattern!r} on the screen", timeout=timeout, poll=0.5)
        except Unmet as e:
            raise Unmet(f"{e}; it reads: {' '.join(last)[:600]}") from None

    def wait_for_screen(
        self,
        *,
        like: Path | None = None,
        still: float = 2.0,
        tolerance: float = 0.02,
        timeout: float = WAIT,
    ) -> None:
        """Wait until the screen looks ``like`` a picture, or else has not changed for ``still`` seconds."""
        earlier = self.files.earlier_look
        earlier.unlink(missing_ok=True)
        stillness = screen.Stillness(earlier)

        def probe() -> bool:
            look = self.look()
            if like is not None:
                return screen.difference(look, like) <= tolerance
            return stillness.seconds(look) >= still

        what = f"the screen looks like {like.name}" if like else f"the screen stands still for {still:.0f} s"
        until(probe, what, timeout=timeout, poll=0.5)

    # --- sound

    def audio_mark(self) -> int:
        """Where the recording of the sound card is now."""
        return audio.recorded(self.files.audio)

    def wait_for_tone(self, since: int, *, seconds: float = 0.5, timeout: float = WAIT) -> audio.Tone:
        """Wait until so many seconds of sound came after ``since``; which tone it was."""
        heard: list[audio.Tone] = []

        def probe() -> bool:
            tone = audio.listen(self.files.audio, since)
            heard.extend([tone] if tone else [])
            return tone is not None and tone.seconds >= seconds

        until(probe, "sound from the sound card", timeout=timeout)
        return heard[-1]

    # --- snapshots

    def save_snapshot(self, tag: str) -> None:
        """Keep memory, devices and disk as they are now, inside the overlay."""
        self._snapshot("snapshot-save", tag)
        self.resume()

    def load_snapshot(self, tag: str) -> None:
        """Go back to a snapshot. It asks for the devices that were plugged in when it was saved."""
        self._snapshot("snapshot-load", tag)
        self.resume()

    def _snapshot(self, command: str, tag: str) -> None:
        self.pause()
        try:
            self.monitor.job(command, {"job-id": command, "tag": tag, "vmstate": DISK, "devices": [DISK]})
        except QemuRefused as e:
            raise QemuRefused(
                f"{e.message} (snapshot {tag!r})",
                hint="a snapshot can be loaded only with the devices it was saved with",
            ) from e
