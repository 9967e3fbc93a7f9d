"""Do files appear whole or not at all, also when a run is killed or somebody else is at it?"""

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from builder.errors import BusyError, InputError, MachineError
from builder.files import (
    atomic_path,
    exclusive,
    from_byte,
    json_digest,
    machine_error,
    remove_tree,
    scratch_directory,
    tree_digest,
    write_atomic,
    write_json,
)

KILLED_AT_WORK = """
import sys, time
from multiprocessing.synchronize import Event
from pathlib import Path
from builder.files import atomic_path
with atomic_path(Path(sys.argv[1])) as made:
    made.mkdir()
    (made / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def names(place: Path) -> set[str]:
    return {p.name for p in place.iterdir()}


def test_a_file_appears_whole_and_nothing_else_does(tmp_path: Path) -> None:
    final = tmp_path / "deep/er/file"
    with atomic_path(final) as made:
        made.write_text("new")
        assert not final.exists()
    assert final.read_text() == "new"
    assert names(final.parent) == {"file"}


def test_an_error_leaves_the_earlier_file_and_no_trace(tmp_path: Path) -> None:
    final = tmp_path / "file"
    final.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(final) as made:
        made.write_text("new")
        raise ZeroDivisionError
    assert final.read_text() == "old"
    assert names(tmp_path) == {"file"}


def test_a_directory_replaces_an_earlier_one_without_a_moment_in_between(tmp_path: Path) -> None:
    final = tmp_path / "dir"
    final.mkdir()
    (final / "n").write_text("0")
    stop, missing = threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            if not final.exists():
                missing.append(1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for n in range(200):
        with atomic_path(final) as made:
            made.mkdir()
            (made / "n").write_text(str(n))
    stop.set()
    watcher.join()
    assert not missing
    assert (final / "n").read_text() == "199"
    assert names(tmp_path) == {"dir"}


def test_a_directory_is_replaced_also_where_names_cannot_be_swapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.files.exchanged", lambda one, other: False)
    final = tmp_path / "dir"
    final.mkdir()
    with atomic_path(final) as made:
        made.mkdir()
        (made / "new").touch()
    assert names(final) == {"new"}
    assert names(tmp_path) == {"dir"}


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    final = tmp_path / "dir [1]*"
    argv = [sys.executable, "-c", KILLED_AT_WORK, str(final)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with atomic_path(final) as made:
            made.mkdir()
        assert len(names(tmp_path)) == 2, "the scratch directory of a live run was taken away"
        process.send_signal(signal.SIGKILL)
    with atomic_path(final) as made:
        made.mkdir()
    assert names(tmp_path) == {final.name}


def test_a_directory_lost_between_two_renames_comes_back(tmp_path: Path) -> None:
    old = tmp_path / ".dir.abc.part/old"
    old.mkdir(parents=True)
    (old / "kept").touch()
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "dir"):
        raise ZeroDivisionError
    assert names(tmp_path / "dir") == {"kept"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_or_read_only_disk_is_one_clear_error_with_code_6(tmp_path: Path, number: int) -> None:
    final = tmp_path / "file"
    with pytest.raises(MachineError) as caught, atomic_path(final) as made:
        made.touch()
        raise OSError(number, os.strerror(number))
    assert str(final) in caught.value.message
    assert os.strerror(number) in caught.value.message
    assert caught.value.exit_code == 6
    assert names(tmp_path) == set()


def test_missing_permission_names_the_file() -> None:
    error = machine_error(PermissionError(errno.EACCES, "Permission denied", "/there/file"))
    assert error is not None
    assert "/there/file: Permission denied" in error.message
    assert machine_error(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None


def test_a_small_file_has_the_mode_asked_for(tmp_path: Path) -> None:
    write_atomic(tmp_path / "secret", b"x", mode=0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    write_json(tmp_path / "json", {"b": "ä", "a": 1})
    assert (tmp_path / "json").read_text() == '{\n  "a": 1,\n  "b": "ä"\n}\n'


def test_a_lock_that_somebody_holds_is_busy_with_his_process_id(tmp_path: Path) -> None:
    lock = tmp_path / "a/lock"
    with exclusive(lock, "the image of work"):
        with pytest.raises(BusyError, match=f"image of work.*process {os.getpid()}"):
            exclusive(lock, "the image of work").__enter__()
        with exclusive(tmp_path / "a/other", "another"):
            pass
    with exclusive(lock, "the image of work"):
        pass


def hold(path: str, ready: Event) -> None:
    with exclusive(Path(path), "it"):
        ready.set()
        signal.pause()


def test_the_kernel_drops_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path / "lock"), ready), daemon=True)
    process.start()
    assert ready.wait(60)
    with pytest.raises(BusyError, match=f"process {process.pid}"):
        exclusive(tmp_path / "lock", "it").__enter__()
    process.kill()
    process.join()
    with exclusive(tmp_path / "lock", "it"):
        pass


def test_who_waits_for_a_lock_is_told_so_and_gets_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lock"
    held = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    threading.Timer(0.2, os.close, [held]).start()
    with exclusive(path, "the tools tree", wait=True):
        pass
    assert "Waiting: the tools tree is being worked on" in capsys.readouterr().err


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_tree_with_read_only_or_closed_directories_can_be_removed(tmp_path: Path, mode: int) -> None:
    inner = tmp_path / "tree/in"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    (tmp_path / "tree/link").symlink_to("/etc")
    inner.chmod(mode)
    remove_tree(tmp_path / "tree")
    remove_tree(tmp_path / "not there")
    assert names(tmp_path) == set()
    assert Path("/etc").is_dir()


@pytest.mark.parametrize("offset", range(8))
def test_what_follows_a_byte_is_the_same_however_the_blocks_are_cut(offset: int) -> None:
    for blocks in ([b"abcdef"], [b"a", b"", b"bc", b"def"], [b"abc", b"def"]):
        assert b"".join(from_byte(blocks, offset)) == b"abcdef"[offset:]


def test_a_scratch_directory_is_empty_and_private_and_gone_after_an_error_too(tmp_path: Path) -> None:
    place = tmp_path / "work/scratch"
    place.mkdir(parents=True)
    (place / "left").write_text("by an earlier run")
    with pytest.raises(InputError), scratch_directory(place) as scratch:
        assert scratch == place
        assert list(scratch.iterdir()) == []
        assert scratch.stat().st_mode & 0o777 == 0o700
        (scratch / "file").write_text("in the clear")
        raise InputError("it failed")
    assert not place.exists()


def test_a_trees_digest_tells_names_contents_links_and_the_executable_bit(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    seen = [tree_digest(root)]
    file, link = root / "file", root / "link"
    file.write_text("one")
    seen.append(tree_digest(root))
    file.write_text("two")
    seen.append(tree_digest(root))
    file.chmod(0o755)
    seen.append(tree_digest(root))
    link.symlink_to("file")
    seen.append(tree_digest(root))
    link.unlink()
    link.symlink_to("elsewhere")
    seen.append(tree_digest(root))
    (root / "empty").mkdir()
    seen.append(tree_digest(root))
    assert len(set(seen)) == len(seen)
    (root / "__pycache__").mkdir()
    assert tree_digest(root) == seen[-1], "bytecode is no input"


def test_a_trees_digest_does_not_depend_on_the_umask_of_a_checkout(tmp_path: Path) -> None:
    digests = set()
    for mode in (0o600, 0o644, 0o664):
        (tmp_path / "file").write_text("x")
        (tmp_path / "file").chmod(mode)
        digests.add(tree_digest(tmp_path))
    for mode in (0o700, 0o755, 0o775):
        (tmp_path / "file").chmod(mode)
        digests.add(tree_digest(tmp_path))
    assert len(digests) == 2


def test_a_device_pipe_or_socket_is_never_replaced_by_a_result(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="device, pipe or socket"), atomic_path(pipe) as made:
        made.mkdir()
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_file_is_never_replaced_by_a_directory(tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("kept")
    with pytest.raises(InputError, match="is a file"), atomic_path(letter) as made:
        made.mkdir()
    assert letter.read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_a_pipe_in_a_tree_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is neither a file"):
        tree_digest(tmp_path)


def test_a_json_digest_depends_on_the_value_alone() -> None:
    assert json_digest({"a": 1, "b": "ä"}) == json_digest({"b": "ä", "a": 1})
    assert json_digest({"a": 1}) != json_digest({"a": "1"})
