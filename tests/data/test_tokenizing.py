"""Making shards: streams, stops at any moment, and what is refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinygrad_llm.backend.lock import FileLock
from tinygrad_llm.commands.tokenize import main
from tinygrad_llm.data import TokenShards, text_pieces, tokenize_files
from tinygrad_llm.errors import DataError
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes of Linux")
LINES = "a line of text, and the text of a line\n" * 40
KILLED = 9


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text(LINES, encoding="utf-8")
    return path


def make(text: Path, out: Path, shard_bytes: int = 500) -> list[int]:
    tokenizer = CharTokenizer.train(LINES)
    tokenize_files([text], out, tokenizer, 1, shard_bytes, progress=False)
    return TokenShards(out)[:].tolist()


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def killed_at(event: int, arguments: list[str]) -> bool:
    """Run the command in a child that dies at a file event; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [event]

        def count(name: str, about: tuple) -> None:
            writes = name == "open" and about[2] & (os.O_WRONLY | os.O_RDWR)
            if writes or name in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(KILLED)

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.addaudithook(count)
        os._exit(main(arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED


@linux
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_file_event_it_goes_on_or_starts_over(
    text: Path, tmp_path: Path, every: int
) -> None:
    out = tmp_path / "out"
    arguments = [str(text), "--out", str(out), "--vocab-size", "270", "--workers", "1"]
    assert main(arguments) == 0
    whole = contents(out)
    event = 1
    while True:
        shutil.rmtree(out)
        if not killed_at(event, arguments):
            break
        assert main(arguments) == 0, f"after a kill at file event {event}"
        assert contents(out) == whole, f"after a kill at file event {event}"
        event += every
    assert event > 20


def test_a_text_of_the_same_size_and_time_is_another_text(text: Path, tmp_path: Path) -> None:
    make(text, tmp_path / "out")
    before = text.stat()
    text.write_text(LINES.replace("a line", "a tree"), encoding="utf-8")
    os.utime(text, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match="files that have changed since"):
        make(text, tmp_path / "out")


def test_a_text_that_moved_is_the_same_text(text: Path, tmp_path: Path) -> None:
    ids = make(text, tmp_path / "out")
    moved = text.rename(tmp_path / "b.txt")
    assert make(moved, tmp_path / "out") == ids


def test_a_text_that_changes_meanwhile_is_noticed(text: Path) -> None:
    (piece,) = next(text_pieces.plan([text], 1 << 20))
    text.write_text(LINES.replace("a line", "a tree"), encoding="utf-8")
    with pytest.raises(DataError, match="changed while it was tokenized"):
        list(text_pieces.blocks(piece))
    text.write_text(LINES[:-9], encoding="utf-8")
    with pytest.raises(DataError, match="changed while it was tokenized"):
        list(text_pieces.blocks(piece))


def test_shards_without_an_index_are_left_alone(text: Path, tmp_path: Path) -> None:
    make(text, tmp_path / "out")
    (tmp_path / "out" / "index.json").unlink()
    with pytest.raises(DataError, match="holds shards, but no index.json"):
        make(text, tmp_path / "out")


def test_what_failed_before_the_first_shard_can_be_begun_otherwise(tmp_path: Path) -> None:
    text, out = tmp_path / "a.txt", tmp_path / "out"
    text.write_bytes(LINES.encode() + b"\xe9\n")
    with pytest.raises(DataError, match="is not UTF-8"):
        make(text, out, 1 << 20)
    text.write_text(LINES, encoding="utf-8")
    assert make(text, out) == CharTokenizer.train(LINES).encode(LINES)


def test_the_shards_are_no_text_of_the_folder_in_which_they_stand(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINES, encoding="utf-8")
    for _ in range(2):
        assert make(tmp_path, tmp_path / "out") == CharTokenizer.train(LINES).encode(LINES)


@linux
def test_two_at_once_in_a_folder(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    lock = FileLock(out / ".tokenize.lock")
    assert lock.acquire()
    with pytest.raises(DataError, match="another process makes shards there"):
        make(text, out)
    lock.release()
    make(text, out)


@pytest.mark.parametrize("line", [b"a line\n", b"one line without an end ", "日本語".encode()])
def test_no_more_than_a_block_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    monkeypatch.setattr(text_pieces, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(text_pieces, "LONGEST_WORD", 2000)
    path = tmp_path / "a.txt"
    path.write_bytes(line * 3000)
    (task,) = text_pieces.plan([path], 1 << 20)
    texts = list(text_pieces.blocks(task[0]))
    assert "".join(texts).encode() == line * 3000
    assert max(len(text.encode()) for text in texts) <= 3003
    if b" " in line:
        tokenizer = BPETokenizer.train(LINES, 270)
        ids = tokenizer.encode("".join(texts))
        assert [i for text in texts for i in tokenizer.encode(text)] == ids


@linux
def test_workers_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(LINES * 6_000, encoding="utf-8")
    command = [sys.executable, "-m", "tinygrad_llm", "tokenize", "a.txt", "--out", "out"]
    flags = ["--workers", "2", "--shard-mb", "1", "--tokenizer", "char"]
    parent = subprocess.Popen([*command, *flags], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while parent.poll() is None and not list(tmp_path.glob("out/*.tokens")):
        time.sleep(0.02)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    workers = children.read_text(encoding="utf-8").split()
    assert len(workers) >= 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while living(workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not living(workers)


_STILL_IMPORTING = """
import sys, time
from tinygrad_llm.data import tokenize_files
from tinygrad_llm.tokenizers import CharTokenizer

if __name__ == "__mp_main__":
    time.sleep(60)
elif __name__ == "__main__":
    tokenize_files(["a.txt"], "out", CharTokenizer.train("abc"), 2, 1, progress=False)
"""


@linux
def test_workers_that_are_still_importing_end_with_their_parent(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc " * 3, encoding="utf-8")
    (tmp_path / "program.py").write_text(_STILL_IMPORTING, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    while parent.poll() is None and len(children.read_text("utf-8").split()) < 3:
        time.sleep(0.02)
    helpers = children.read_text(encoding="utf-8").split()  # the workers and what counts semaphores
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while living(helpers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(helpers) == 3
    assert not living(helpers)


def living(processes: list[str]) -> list[str]:
    found = [Path(f"/proc/{process}/stat") for process in processes]
    states = {p.parent.name: p.read_text("utf-8").split(") ")[1] for p in found if p.exists()}
    return [process for process, state in states.items() if not state.startswith("Z")]
