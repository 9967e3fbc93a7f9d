"""What does a person see: plain lines in pipes and CI, spinners on a terminal, the same words in both?"""

import sys

import pytest

from builder import ui
from builder.ui import PlainMeter, RichUi, Ui, size_text


def test_plain_lines_say_when_a_step_begins_and_how_long_it_took(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 0.0, 12.34])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    with Ui().step("Fetching 3 files", total=3):
        pass
    out, err = capsys.readouterr()
    assert out == "", "stdout is for results"
    assert err == "• Fetching 3 files …\n  Fetching 3 files: 12.3 s\n"


def test_a_quick_step_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Ui().step("Rendering"):
        pass
    assert capsys.readouterr().err == "• Rendering …\n"


def test_a_long_step_tells_its_progress_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    meter = PlainMeter(Ui(), "Fetching", 100 << 20, "B")
    for _ in range(50):
        now[0] += 0.5
        meter.advance(1 << 20)
    assert capsys.readouterr().err.splitlines() == [
        "  Fetching: 20.0 MiB of 100 MiB",
        "  Fetching: 40.0 MiB of 100 MiB",
    ]


def test_quiet_says_only_warnings_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Ui(quiet=True)
    quiet.say("no")
    with quiet.step("no"):
        quiet.warn("careful")
    quiet.error("broken", "mend it")
    assert capsys.readouterr().err == "warning: careful\nerror: broken\nhint: mend it\n"


@pytest.mark.parametrize("kind", [Ui, RichUi])
def test_words_of_others_do_not_command_the_terminal(
    kind: type[Ui], capsys: pytest.CaptureFixture[str]
) -> None:
    name = "x\x1b]52;c;cm0=\x07\x9b2J\r\x7f"
    shown = r"x\x1b]52;c;cm0=\x07\x9b2J\r\x7f"
    rich = kind()
    with rich.step(name):
        rich.say(name)
    rich.warn(name)
    rich.error(name, name)
    ui.show(None, f"a\t{name}\nb", as_json=False)
    ui.show(None, "\x1b[32mgreen\x1b[0m", as_json=False, styled=True)
    out, err = capsys.readouterr()
    assert out == f"a\t{shown}\nb\n\x1b[32mgreen\x1b[0m\n", "a table keeps its colours"
    assert not ui.COMMANDS & set(err)
    assert err.count(shown) >= 5


def test_brackets_in_words_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    rich = RichUi()
    with rich.step("Building [red]x[/red] of [a]"):
        pass
    rich.error("[bold]x", "[i]y")
    rich.warn("[link]z")
    err = capsys.readouterr().err
    for words in ("Building [red]x[/red] of [a]", "[bold]x", "[i]y", "[link]z"):
        assert words in err


def test_a_failed_step_is_not_said_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (Ui(), RichUi()):
        with pytest.raises(ZeroDivisionError), shown.step("Dividing"):
            raise ZeroDivisionError
    assert "✓" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "terminal", "fancy"),
    [({}, True, True), ({}, False, False), ({"CI": "1"}, True, False), ({"TERM": "dumb"}, True, False)],
)
def test_spinners_are_for_terminals_alone(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], terminal: bool, fancy: bool
) -> None:
    for name in ("CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert isinstance(ui.choose(quiet=False), RichUi) is fancy


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (344 << 20, "344 MiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_sizes_are_told_as_people_read_them(size: int, text: str) -> None:
    assert size_text(size) == text
