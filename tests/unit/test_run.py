"""Are programs run to their end, told apart by how they end, and never left behind?"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from builder import run as run_module
from builder.errors import MachineError
from builder.files import exclusive
from builder.run import ProgramError, dying_with_us, program_name, run, tail_of

PYTHON = sys.executable


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ")[-1][0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 5
    while alive(pid):
        assert time.monotonic() < end, f"process {pid} was left behind"
        time.sleep(0.02)


def test_a_program_gets_its_input_and_both_outputs_are_kept_apart() -> None:
    result = run(["sh", "-c", "cat; echo err >&2"], stdin=b"in\xff")
    assert (result.stdout, result.stderr, result.returncode) == (b"in\xff", b"err\n", 0)
    assert result.text == "in\ufffd"
    assert result.seconds > 0


def test_nothing_of_the_callers_input_is_inherited() -> None:
    assert run(["cat"]).stdout == b""
    with Path("/etc/passwd").open("rb") as f:
        assert run(["head", "-c", "4"], stdin=f.fileno()).stdout == b"root"


def test_words_are_never_read_by_a_shell() -> None:
    odd = "$(touch x); `id` 'a' \"b\" * \n ä"
    assert run([PYTHON, "-c", "import sys; print(sys.argv[1], end='')", odd]).text == odd


def test_a_failure_tells_program_status_and_the_last_lines() -> None:
    with pytest.raises(ProgramError) as caught:
        run(["sh", "-c", "seq 100; seq 200 300 >&2; exit 3"], hint="look there")
    error = caught.value
    assert (error.returncode, error.exit_code, error.hint) == (3, 5, "look there")
    assert error.message.splitlines()[0] == "sh exited with 3:"
    assert [line.strip() for line in error.message.splitlines()[1:]] == [str(n) for n in range(281, 301)]


def test_a_failure_without_words_on_stderr_shows_stdout() -> None:
    with pytest.raises(ProgramError, match="sh exited with 1:\n  so it is"):
        run(["sh", "-c", "echo so it is; exit 1"])


def test_an_expected_failure_is_a_result() -> None:
    assert run(["false"], check=False).returncode == 1


def test_a_program_that_was_killed_is_told_so() -> None:
    with pytest.raises(ProgramError, match="sh was killed by signal 9"):
        run(["sh", "-c", "kill -9 $$"])


def test_a_program_that_does_not_exist_is_what_the_machine_lacks(tmp_path: Path) -> None:
    with pytest.raises(
        MachineError, match=r"cannot start .*nothing-here: there is no such program"
    ) as caught:
        run([tmp_path / "nothing-here"], hint="install it")
    assert caught.value.hint == "install it"
    assert caught.value.exit_code == 6


def test_a_secret_given_as_input_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProgramError) as caught:
        run(["sh", "-c", "read secret; exit 1"], stdin=b"hunter2\n")
    assert "hunter2" not in caplog.text + caught.value.message + str(caught.value.argv)
    assert "run: sh" in caplog.text


def test_the_environment_is_the_one_that_is_given() -> None:
    assert run(["env"], env={"A": "1", "PATH": os.environ["PATH"]}).text.splitlines().count("A=1") == 1
    assert "HOME=" not in run(["env"], env={"PATH": os.environ["PATH"]}).text


def test_what_programs_make_does_not_depend_on_our_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        run(["touch", tmp_path / "made"])
    finally:
        os.umask(old)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o644


def test_a_talkative_program_writes_into_its_log(tmp_path: Path) -> None:
    log = tmp_path / "logs/program.log"
    run(["sh", "-c", "echo out; echo err >&2"], log_to=log)
    assert log.read_text() == "out\nerr\n"
    with pytest.raises(ProgramError, match="third"):
        run(["sh", "-c", "echo third; exit 1"], log_to=log)
    assert tail_of(log, 1) == "third\n"
    assert tail_of(tmp_path / "none") == ""


def test_a_time_out_ends_the_whole_group(tmp_path: Path) -> None:
    script = f"sleep 99 & echo $! > {tmp_path}/pid; sleep 99"
    with pytest.raises(MachineError, match="sh did not finish in 1 s"):
        run(["sh", "-c", script], timeout=0.8)
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_a_child_that_ignores_sigterm_is_ended_too(tmp_path: Path) -> None:
    script = f"(trap '' TERM; echo > {tmp_path}/ready; exec sleep 99) & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(MachineError):
        run(["sh", "-c", script], timeout=0.8)
    assert (tmp_path / "ready").exists()
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_a_program_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "GRACE", 0.3)
    started = time.monotonic()
    with pytest.raises(MachineError, match="did not finish"):
        run(
            [PYTHON, "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(99)"],
            timeout=1,
        )
    assert time.monotonic() - started < 5


def test_ctrl_c_ends_the_group_before_it_goes_on(tmp_path: Path) -> None:
    script = f"sleep 99 & echo $! > {tmp_path}/pid; wait"

    def interrupt() -> None:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", script])
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_a_program_dies_with_us_even_when_we_are_killed(tmp_path: Path) -> None:
    code = f"from builder.run import run; run(['sh', '-c', 'echo $$ > {tmp_path}/pid; exec sleep 99'])"
    with subprocess.Popen([PYTHON, "-c", code]) as process:
        end = time.monotonic() + 10
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < end
            time.sleep(0.02)
        process.kill()
    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_what_a_program_started_dies_with_us_before_the_lock_is_free(tmp_path: Path) -> None:
    """As mkosi does: its worker is no child of ours, and another one has even left the group."""
    lock, pids = tmp_path / "lock", tmp_path / "pids"
    script = f"sleep 99 & echo $! >> {pids}; setsid sleep 98 & echo $! >> {pids}; echo ready >> {pids}; wait"
    code = (
        "from pathlib import Path; from builder.files import exclusive; from builder.run import run\n"
        f"with exclusive(Path({str(lock)!r}), 'it') as held: run(['sh', '-c', {script!r}], held=held)"
    )
    with subprocess.Popen([PYTHON, "-c", code]) as process:
        end = time.monotonic() + 10
        while not pids.exists() or "ready" not in pids.read_text():
            assert time.monotonic() < end
            time.sleep(0.02)
        started = [int(line) for line in pids.read_text().splitlines()[:2]]
        assert all(alive(pid) for pid in started)
        process.kill()
        process.wait()
        with exclusive(lock, "it"):  # not busy: who had it is gone
            assert not any(alive(pid) for pid in started)


def test_a_program_with_a_lock_ends_as_any_other_and_leaves_nothing(tmp_path: Path) -> None:
    with exclusive(tmp_path / "lock", "it") as held:
        assert run(["sh", "-c", "cat; exit 3"], stdin=b"in", check=False, held=held).stdout == b"in"
        for script, status in (("exit 3", 3), ("kill -9 $$", -9)):
            with pytest.raises(ProgramError) as caught:
                run(["sh", "-c", script], held=held)
            assert caught.value.returncode == status
        open_files = run(["sh", "-c", "ls -l /proc/self/fd"], held=held).text
        assert str(tmp_path / "lock") not in open_files, "what it started could keep the lock"
        script = f"sleep 99 >/dev/null 2>&1 & echo $! > {tmp_path}/pid"
        run(["sh", "-c", script], held=held)
        assert not alive(int((tmp_path / "pid").read_text()))


def test_a_program_with_a_lock_is_asked_to_end_and_waited_for(tmp_path: Path) -> None:
    script = f"trap 'sleep 0.3; echo tidied > {tmp_path}/said; exit' TERM; sleep 99 & wait"
    with exclusive(tmp_path / "lock", "it") as held, pytest.raises(MachineError, match="did not finish"):
        run(["sh", "-c", script], timeout=0.8, held=held)
    assert (tmp_path / "said").read_text() == "tidied\n"


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["pacman", "-S"], "pacman"),
        (["/usr/bin/gpg"], "gpg"),
        (["python3", "sandbox.py", "--bind", "/", "/", "--", "pacman", "--sync", "--", "bash"], "pacman"),
        (dying_with_us(["mkosi", "build"]), "mkosi"),
        (["sh", "--"], "sh"),
    ],
)
def test_an_error_names_the_program_and_not_what_wraps_it(argv: list[str], name: str) -> None:
    assert program_name(argv) == name
