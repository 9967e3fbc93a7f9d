"""What is on the screen: which text, does it stand still, does it look like that other picture?"""

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageChops, ImageOps

from builder.tools import Tools

SCALE = 2  # tesseract reads letters of 20 to 40 pixels best; a desktop's are smaller


def readings(picture: Path, tools: Tools) -> Iterator[str]:
    """The text in a picture, as tesseract reads it: once as it is and then inverted, for light on dark.

    Reading takes seconds on a busy machine; whoever has found what it looks for need not go on.
    """
    with tempfile.TemporaryDirectory(prefix="seatsmith-ocr-") as folder:
        grey = ImageOps.autocontrast(Image.open(picture).convert("L"))
        grey = grey.resize((grey.width * SCALE, grey.height * SCALE), Image.Resampling.LANCZOS)
        for name, image in (("plain", grey), ("inverted", ImageOps.invert(grey))):
            path = Path(folder) / f"{name}.png"
            image.save(path, compress_level=1)
            argv: list[str | Path] = ["tesseract", path, "-", "-l", "eng", "--psm", "11"]
            yield tools.run(argv, env={"OMP_THREAD_LIMIT": "1"}, timeout=60).text


def difference(one: Path, other: Path) -> float:
    """How much two pictures differ, by root mean square: 0.0 (the same) to 1.0 (black and white)."""
    a, b = Image.open(one).convert("RGB"), Image.open(other).convert("RGB")
    if a.size != b.size:
        return 1.0
    histogram = ImageChops.difference(a, b).histogram()
    squares = sum(count * (index % 256) ** 2 for index, count in enumerate(histogram))
    return math.sqrt(squares / (a.width * a.height * 3)) / 255


def dominant_colour(picture: Path) -> tuple[int, int, int]:
    """The colour that most of the picture has."""
    image = Image.open(picture).convert("RGB").quantize(16)
    palette = image.getpalette() or []
    counts = image.getcolors() or [(1, 0)]
    _, index = max((count, int(str(value))) for count, value in counts)
    red, green, blue = palette[3 * index : 3 * index + 3]
    return red, green, blue


class Stillness:
    """For how long has the screen not changed? ``memory`` is where the picture before is kept."""

    TOLERANCE = 0.002  # a blinking cursor is no change

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self.since = time.monotonic()

    def seconds(self, picture: Path) -> float:
        """Take one more picture into account (it is moved away)."""
        if not self.memory.exists() or difference(picture, self.memory) > self.TOLERANCE:
            self.since = time.monotonic()
        picture.replace(self.memory)
        return time.monotonic() - self.since
