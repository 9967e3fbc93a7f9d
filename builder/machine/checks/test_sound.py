"""Does what a container plays come out of the sound card?"""

import pytest

from builder.machine.bench import SeatInTest
from builder.machine.desktop import Desktop
from builder.machine.evidence import Evidence

pytestmark = pytest.mark.needs("container", "sound")
SECONDS = 3
MAKE_TONE = (
    'python3 -c \'import math,struct,sys,wave; f=int(sys.argv[1]); w=wave.open(sys.argv[2],"wb"); '
    "w.setnchannels(1); w.setsampwidth(2); w.setframerate(44100); "
    'w.writeframes(b"".join(struct.pack("<h",int(12000*math.sin(2*math.pi*f*n/44100))) '
    f"for n in range(44100*{SECONDS})))' "
)
AS_USER = "runuser -u {user} -- env XDG_RUNTIME_DIR=/run/user/$(id -u {user})"


def play(desktop: Desktop, frequency: int) -> None:
    path = f"/tmp/tone-{frequency}.wav"
    user = AS_USER.format(user=desktop.facts.person)
    desktop.shell.succeed(f"{MAKE_TONE} {frequency} {path} && chmod 644 {path} && {user} paplay {path}")


@pytest.mark.check("A tone played in the container comes out of the sound card, whatever is on screen")
@pytest.mark.defect(
    "host",
    "runuser -u user -- env XDG_RUNTIME_DIR=/run/user/1000 pactl set-sink-mute @DEFAULT_SINK@ 1",
)
def test_tone(seat: SeatInTest, evidence: Evidence) -> None:
    for desktop, frequency in ((seat.guest, 1000), (seat.host, 1500)):
        desktop.switch_to()
        since = seat.machine.audio_mark()
        play(seat.guest, frequency)
        tone = seat.machine.wait_for_tone(since, seconds=1.0, timeout=30)
        evidence.sound(
            f"{frequency} Hz played by {seat.guest.name} while {desktop.name} is on screen", since
        )
        evidence.note(
            f"heard {tone.frequency:.1f} Hz for {tone.seconds:.1f} s while VT{desktop.vt} was on screen"
        )
        assert abs(tone.frequency - frequency) < 5, f"played {frequency} Hz, heard {tone.frequency:.1f} Hz"
