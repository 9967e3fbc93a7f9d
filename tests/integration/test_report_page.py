"""Does a person who opens a boot test's report in a browser see what happened?"""

import json
from pathlib import Path

from PIL import Image

from builder.machine.screen import readings
from builder.report.model import Report
from builder.report.page import write_report
from builder.report.record import CheckRecord, Picture
from builder.tools import Tools
from tests.support.browser import photograph

SEEN, HIDDEN = (200, 0, 120), (0, 160, 200)  # colours that the page itself has not


def check(folder: Path, ident: str, outcome: str, colour: tuple[int, int, int]) -> CheckRecord:
    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (640, 480), colour).save(folder / f"pictures/{ident}.png")
    return CheckRecord(
        id=ident,
        title=f"The {ident} works",
        group="sound",
        outcome=outcome,
        message="" if outcome == "passed" else "nothing was heard",
        pictures=[Picture(caption="the screen", file=f"pictures/{ident}.png")],
    )


def test_a_failed_check_lies_open_with_its_picture_and_the_others_are_folded(
    tools: Tools, tmp_path: Path
) -> None:
    timeline = tmp_path / "boot.json"
    timeline.write_text(
        json.dumps([{"seconds": 2.0, "label": "menu"}, {"seconds": 8.0, "label": "desktop"}])
    )
    records = [check(tmp_path, "speaker", "failed", SEEN), check(tmp_path, "microphone", "passed", HIDDEN)]
    report = Report("demo", tmp_path, records, timeline)
    write_report(report)
    (tmp_path / "elsewhere").mkdir()
    alone = report.page.rename(tmp_path / "elsewhere/report.html")  # sent around by itself
    picture = photograph(alone, tmp_path / "seen.png", height=1000)
    text = " ".join(" ".join(readings(picture, tools)).split())
    for words in ("Boot test of demo: failed", "speaker works", "nothing was heard", "8.0 s desktop"):
        assert words in text, text
    with Image.open(picture) as image:
        colours = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24)}
    assert colours.get(SEEN, 0) > 20_000
    assert HIDDEN not in colours
