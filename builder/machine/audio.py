"""Which tone is in what QEMU's sound card played?"""

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RATE = 44100
FRAME = 4  # bytes: two channels of 16 bits
HEADER = 44  # bytes of QEMU's wav header
WINDOW = RATE // 10
LOUD = 500.0  # root mean square above which a window counts as sound


@dataclass(frozen=True)
class Tone:
    """What was heard: the strongest frequency, how pure it is (0 to 1) and for how long anything sounded."""

    frequency: float
    purity: float
    seconds: float


def recorded(wav: Path) -> int:
    """Bytes recorded so far: the mark to hand to ``samples`` later."""
    return max(wav.stat().st_size, HEADER) if wav.exists() else HEADER


def samples(wav: Path, since: int = HEADER) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """The left channel from byte ``since`` of a recording on."""
    with wav.open("rb") as f:
        f.seek(since - (since - HEADER) % FRAME)
        data = f.read()
    return np.frombuffer(data[: len(data) // FRAME * FRAME], "<i2").reshape(-1, 2)[:, 0].astype(np.float64)


def listen(wav: Path, since: int = HEADER) -> Tone | None:
    """The tone in a recording from byte ``since`` on, or None where it is silent."""
    return tone_of(samples(wav, since))


def tone_of(left: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Tone | None:
    windows = left[: len(left) // WINDOW * WINDOW].reshape(-1, WINDOW)
    if not len(windows):
        return None
    loud = windows[np.sqrt((windows**2).mean(axis=1)) > LOUD]
    if not len(loud):
        return None
    sound = loud.reshape(-1)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE)
    peak = float(frequencies[power.argmax()])
    near = power[np.abs(frequencies - peak) < 20].sum() / power.sum()
    return Tone(peak, float(near), len(sound) / RATE)


def clip(wav: Path, since: int, into: Path) -> None:
    """Write what was recorded from byte ``since`` on as a small file of its own: mono, 11 kHz."""
    left = samples(wav, since)[::4].astype("<i2")
    with wave.open(str(into), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE // 4)
        out.writeframes(left.tobytes())
