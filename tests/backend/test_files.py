"""Files that appear whole or not at all, and locks: planted links, crashes, several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_llm.backend import files
from tinygrad_llm.backend.files import open_atomic, open_regular, remove, write_atomic
from tinygrad_llm.backend.lock import FileLock

HOLDER = """
import sys, time
from pathlib import Path
from tinygrad_llm.backend.lock import FileLock
print(FileLock(Path(sys.argv[1])).acquire(), flush=True)
lock = FileLock(Path(sys.argv[2]))
print(lock.acquire(), flush=True)
time.sleep(60)
"""


def test_the_temporary_name_cannot_be_foreseen(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with open_atomic(tmp_path / "a") as file:
            names |= {path.name for path in tmp_path.iterdir()} - {"a"}
            file.write(b"new")
    assert len(names) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    write = f"""
import os, signal
from pathlib import Path
from tinygrad_llm.backend.files import open_atomic
with open_atomic(Path({str(tmp_path / "a")!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", write]).returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    others = {
        f".a.{os.getpid()}.0123456789ab.tmp",
        ".b.1.0123456789ab.tmp",
        left.name + "x",
        ".a.tmp",
    }
    for name in others:
        (tmp_path / name).touch()
    write_atomic(tmp_path / "a", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a", *others}


def test_a_link_planted_under_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "known")
    planted = tmp_path / f".a.{os.getpid()}.known.tmp"
    planted.symlink_to(foreign)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "a", b"new")
    assert foreign.read_bytes() == b"mine"
    assert planted.is_symlink(), "what is not ours stays"


def test_the_first_error_is_the_one_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    write_atomic(tmp_path / "a", b"old")
    monkeypatch.setattr(files.os, "fsync", full)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("planted", ["link", "dangling link", "second name", "pipe", "folder"])
def test_only_regular_files_are_opened(tmp_path: Path, planted: str) -> None:
    path, foreign = tmp_path / "a.part", tmp_path / "foreign"
    if planted != "dangling link":
        foreign.write_bytes(b"mine")
    if "link" in planted:
        path.symlink_to(foreign)
    elif planted == "second name":
        os.link(foreign, path)
    elif planted == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError):
        os.close(open_regular(path, os.O_RDWR))
    assert foreign.exists() == (planted != "dangling link")


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.parametrize("what", ["file", "folder", "pipe", "link to a folder", "nothing"])
def test_whatever_has_a_name_is_removed(tmp_path: Path, what: str) -> None:
    path, foreign = tmp_path / "a", tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "x").write_bytes(b"mine")
    if what == "file":
        path.write_bytes(b"x")
    elif what == "folder":
        path.mkdir()
        (path / "link").symlink_to(foreign)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link to a folder":
        path.symlink_to(foreign)
    signal.alarm(10)  # ends a process that waits for the pipe's other end
    remove(path)
    signal.alarm(0)
    assert [p.name for p in tmp_path.iterdir()] == ["foreign"]
    assert (foreign / "x").exists(), "a link is removed, not what it leads to"


def test_what_cannot_be_removed_is_told_or_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(PermissionError):
        remove(tmp_path / "a")
    remove(tmp_path / "a", quietly=True)


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    first, second = FileLock(path), FileLock(path)
    assert first.acquire()
    assert first.acquire(), "it is held already"
    assert not second.acquire()
    first.release()
    assert list(tmp_path.iterdir()) == []
    assert second.acquire()
    first.release()
    assert path.exists(), "releasing what is not held removes nobody's file"
    second.release()


def test_a_lock_whose_file_was_removed_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder removes the file between the opening and the locking of the next one."""
    path, opened = tmp_path / ".lock", []

    def open_and_lose(path: Path, flags: int) -> int:
        opened.append(open_regular(path, flags))
        if len(opened) == 1:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr("tinygrad_llm.backend.lock.open_regular", open_and_lose)
    lock = FileLock(path)
    assert lock.acquire()
    assert len(opened) == 2
    assert not FileLock(path).acquire(), "the second file is the one that others see"
    lock.release()


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    mine, theirs = FileLock(tmp_path / "mine"), FileLock(tmp_path / "theirs")
    assert mine.acquire()
    command = [sys.executable, "-c", HOLDER, str(mine.path), str(theirs.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "False\n", "another process holds it"
        assert holder.stdout.readline() == "True\n"
        assert not theirs.acquire()
        holder.send_signal(signal.SIGKILL)
    assert theirs.acquire()
    mine.release()
    theirs.release()


@pytest.mark.skipif(os.name != "posix", reason="has no pipes with names")
def test_pipes_and_devices_that_somebody_names(tmp_path):
    """A pipe without a writer would be waited for without end, a device read without end."""
    os.mkfifo(tmp_path / "pipe")
    with files.open_to_read(tmp_path / "pipe") as file:
        assert file.read() == b""
    reading, writing = os.pipe()
    os.write(writing, b"from another program")
    os.close(writing)
    with files.open_to_read(Path(f"/dev/fd/{reading}")) as file:
        assert file.read() == b"from another program"
    os.close(reading)
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(OSError, match="device"):
            files.open_to_read(Path(device))
    with pytest.raises(IsADirectoryError):
        files.open_to_read(tmp_path)
