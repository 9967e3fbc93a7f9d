"""Is a row called blocked only where that is proven, and does the table say everything?"""

import base64
import json
from pathlib import Path

import pytest

from builder.isolation.results import as_json, record, table
from builder.isolation.rows import BY_ID, GROUPS, ROWS, Promise
from builder.isolation.verdict import Attempt, Result, Try, Verdict, judge, listened, tried_again

DONE = Attempt(tries=[Try(how="open it", outcome="done")])
REFUSED = Attempt(tries=[Try(how="mknod it", outcome="refused", said="EPERM")])
NOTHING = Attempt(tries=[Try(how="look", outcome="absent", said="no card")])
BROKEN = Attempt(tries=REFUSED.tries, problem="it hung")


def result(row: str, attempt: Attempt, control: Attempt, *, strict: bool = True) -> Result:
    known = BY_ID[row]
    return Result(
        environment="work",
        strict=strict,
        row=row,
        group=known.group,
        title=known.title,
        attempt=attempt,
        control=control,
    )


@pytest.mark.parametrize(
    ("attempt", "control", "verdict"),
    [
        (REFUSED, DONE, Verdict.BLOCKED),
        (DONE, DONE, Verdict.OPEN),
        (DONE, REFUSED, Verdict.OPEN),
        (REFUSED, REFUSED, Verdict.NOT_PROVEN),
        (REFUSED, NOTHING, Verdict.NOT_PROVEN),
        (REFUSED, BROKEN, Verdict.NOT_PROVEN),
        (NOTHING, DONE, Verdict.NOT_PROVEN),
        (BROKEN, DONE, Verdict.NOT_PROVEN),
        (Attempt(), DONE, Verdict.NOT_PROVEN),
    ],
)
def test_only_an_attempt_that_was_made_and_has_a_working_control_counts_as_blocked(
    attempt: Attempt, control: Attempt, verdict: Verdict
) -> None:
    assert judge(attempt, control) is verdict


def test_an_attempt_that_is_made_again_elsewhere_succeeds_in_either_place() -> None:
    for first, more in ((REFUSED, DONE), (DONE, REFUSED)):
        both = tried_again(first, more, DONE, "guest in front")
        assert judge(both, DONE) is Verdict.OPEN
        assert both.tries[-1].how == f"guest in front: {more.tries[0].how}"
    assert judge(tried_again(REFUSED, REFUSED, DONE, "guest in front"), DONE) is Verdict.BLOCKED


def test_an_attempt_that_is_made_again_proves_nothing_without_a_control_there() -> None:
    both = tried_again(REFUSED, REFUSED, REFUSED, "guest in front")
    assert both.problem == "guest in front the control comes to nothing"
    assert judge(both, DONE) is Verdict.NOT_PROVEN


def test_what_is_heard_with_another_container_in_front_counts() -> None:
    deaf = listened(REFUSED.model_copy(update={"heard": [""]}), "secret")
    heard = listened(REFUSED.model_copy(update={"heard": ["a secret"]}), "secret")
    assert tried_again(deaf, heard, heard, "guest in front").succeeded
    assert not tried_again(deaf, deaf, heard, "guest in front").succeeded


def test_one_way_that_works_is_enough_to_be_open() -> None:
    assert judge(Attempt(tries=[*REFUSED.tries, *DONE.tries]), DONE) is Verdict.OPEN


def test_where_a_word_has_to_arrive_a_call_that_was_accepted_is_no_success() -> None:
    sent = DONE.model_copy(update={"arrived": False})
    assert not sent.succeeded
    assert judge(sent, DONE) is Verdict.BLOCKED
    assert judge(sent, sent) is Verdict.NOT_PROVEN
    assert sent.refusals == "nothing arrives"


def test_who_listens_succeeds_by_hearing_the_secret_and_nothing_else() -> None:
    heard = Attempt(tries=DONE.tries, heard=["", "xqzbklm"])
    assert listened(heard, "qzbk").succeeded
    assert not listened(heard, "qzbkx").succeeded
    assert not listened(Attempt(tries=DONE.tries), "qzbk").succeeded


def test_what_shared_leaves_open_is_kept_there_and_broken_in_strict() -> None:
    row = BY_ID["keys-given"]
    assert result(row.id, DONE, DONE, strict=False).kept(row)
    assert not result(row.id, DONE, DONE, strict=True).kept(row)
    assert not result(row.id, REFUSED, REFUSED, strict=False).kept(row)


def test_strict_promises_everything_but_to_keep_the_terminal() -> None:
    known = {"vt-own", "vt-other"}
    assert {row.id for row in ROWS if row.strict is Promise.OPEN} == known


def test_every_row_has_a_function_in_the_prober_and_a_group_of_the_table() -> None:
    from builder.isolation.probe.main import ROWS as FUNCTIONS

    elsewhere = {row.id for row in ROWS if row.heard} | {"screen-switch"}  # listen.py and screen.race
    assert {row.id for row in ROWS} == set(FUNCTIONS) | elsewhere
    assert {row.group for row in ROWS} == set(GROUPS)


def test_the_page_about_the_test_names_exactly_its_rows() -> None:
    page = (Path(__file__).parents[2] / "docs/isolation-test.md").read_text()
    named = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert named == [row.id for row in ROWS]


def test_the_table_shows_attempt_result_errno_and_control() -> None:
    text = table(
        [
            result("memory", REFUSED, DONE),
            result("sound-record", DONE, DONE, strict=False),
            result("framebuffer", REFUSED, REFUSED),
        ],
        width=120,
    )
    assert "root in work (strict) can" in text
    lines = {line.split("  ")[1].strip(): line for line in text.splitlines() if line.startswith("   ")}
    assert "1 way" in lines["reach the machine's memory and ports"]
    assert "blocked" in lines["reach the machine's memory and ports"]
    assert "EPERM" in lines["reach the machine's memory and ports"]
    assert "open, as documented" in lines["record what the host plays"]
    assert "not proven" in lines["read /dev/fb0"]
    assert "fails" in lines["read /dev/fb0"]


def test_a_stolen_picture_is_shown_in_the_report_and_left_out_of_the_json(tmp_path: Path) -> None:
    stolen = Try(how="GETFB", outcome="done", picture=base64.b64encode(b"PNG data").decode())
    found = result("screen-getfb", Attempt(tries=[stolen]), DONE)
    made = record(found, tmp_path)
    assert made.outcome == "failed"
    assert made.message == "root in work can read the screen by GETFB"
    assert (tmp_path / made.pictures[0].file).read_bytes() == b"PNG data"
    rows = json.loads(as_json([found]))
    assert rows[0]["verdict"] == "open"
    assert rows[0]["kept"] is False
    assert "UE5H" not in as_json([found])


def test_a_row_that_is_not_proven_is_an_error_that_says_why(tmp_path: Path) -> None:
    made = record(result("framebuffer", REFUSED, REFUSED), tmp_path)
    assert made.outcome == "error"
    assert "so was the control: refused (EPERM)" in made.message
    assert "mknod it: refused (EPERM)" in made.logs["in the container"]
    assert "nothing could be tried" in record(result("framebuffer", NOTHING, DONE), tmp_path).message
