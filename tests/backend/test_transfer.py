"""Downloads from servers that are slow, broken or hostile, and by several processes at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_server import CONTENT, Server, serving

from tinygrad_llm.backend import download, transfer
from tinygrad_llm.backend.download import RemoteFile, fetch
from tinygrad_llm.backend.lock import FileLock
from tinygrad_llm.errors import DataError

SHA256 = hashlib.sha256(CONTENT).hexdigest()
MOST = 20_000  # bytes that the file may have
FETCH = """
import sys
from pathlib import Path
from tinygrad_llm.backend.download import RemoteFile, fetch
url, sha256, folder = sys.argv[1:]
fetch(RemoteFile("file.bin", url, sha256), Path(folder))
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def server(running: Server) -> Server:
    running.asked.clear()
    return running


def remote(server: Server, path: str, **more: str) -> RemoteFile:
    return RemoteFile("file.bin", server.url(path), SHA256, max_bytes=MOST, **more)


def get(server: Server, path: str, folder: Path) -> bytes:
    return fetch(remote(server, path), folder, progress=False).read_bytes()


ODD = ("no-length", "odd-length", "chunks", "more-than-said")
REDIRECTED = ("redirected", "redirected-with-a-long-page")


@pytest.mark.parametrize("path", ["good", *ODD, *REDIRECTED])
def test_the_file_arrives(server: Server, tmp_path: Path, path: str) -> None:
    assert get(server, f"/{path}", tmp_path / "new") == CONTENT
    assert os.listdir(tmp_path / "new") == ["file.bin"]


SLOW = ("silent", "slow-head", "slow-body", "slow-chunk", "go-on-waiting")
HOSTILE = {
    **dict.fromkeys(SLOW, "(no answer|too slow: not even 64 KB) in 0.3 s"),
    "cut": "the connection broke after 1,000 of 12,800 bytes",
    "cut-chunk": "IncompleteRead",
    "nothing": "closed connection",
    "empty": "an empty file was sent",
    "huge": "3,000,000,000 bytes or more are sent; expected at most 20,000",
    "endless": "bytes or more are sent; expected at most 20,000",
    "endless-chunks": "bytes or more are sent; expected at most 20,000",
    "chunk-of-minus-one": "bytes or more are sent; expected at most 20,000",
    "long-line": "got more than 65536 bytes",
    "many-lines": "got more than 100 headers",
    "not-http": "220 mail.example ready",
    "bad-chunk": "IncompleteRead|invalid literal",
    "missing": "HTTP Error 404",
    "in-a-circle": "infinite loop",
    "to-a-file": "not allowed",
    "to-ftp": "unknown url type: ftp",
    "to-nonsense": "Invalid IPv6",
}


@pytest.mark.parametrize("path", HOSTILE)
def test_what_a_server_does_wrong_is_one_sentence(
    server: Server, tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path in SLOW:
        monkeypatch.setattr(transfer, "PATIENCE_SECONDS", 0.3)
    with pytest.raises(DataError, match=f"file.bin: cannot be downloaded.*({HOSTILE[path]})") as it:
        get(server, f"/{path}", tmp_path)
    assert str(it.value).isprintable()
    left = {file.name: file.stat().st_size for file in tmp_path.iterdir()}
    assert left == ({"file.bin.part": 1000} if path == "cut" else {})
    monkeypatch.undo()
    assert get(server, "/good", tmp_path) == CONTENT, "and the next try goes well"


@pytest.mark.parametrize("path", ["other", "other-part"])
def test_another_content_is_not_kept(server: Server, tmp_path: Path, path: str) -> None:
    if path == "other-part":
        (tmp_path / "file.bin.part").write_bytes(CONTENT[:100])
    with pytest.raises(DataError, match="not the expected file"):
        get(server, f"/{path}", tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "nonsense", "http://", "http://a b/", ""])
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch(RemoteFile("file.bin", url, SHA256), tmp_path, progress=False)


def test_mangled_answers(server: Server, tmp_path: Path) -> None:
    """Whatever comes is the file or an error of ours."""
    random.seed(5)
    head = b"HTTP/1.1 206 OK\r\nContent-Length: 12800\r\n"
    answer = head + b"Transfer-Encoding: chunked\r\n\r\n3200\r\n"
    odd = [b"\n", b"\xff", b"-", b"9" * 9]
    for _ in range(150):
        mangled = bytearray(answer)
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(mangled))
            mangled[at : at + random.randrange(3)] = random.choice(odd)
        server.raw = bytes(mangled) + CONTENT + b"\r\n0\r\n\r\n"
        with contextlib.suppress(DataError):
            assert get(server, "/raw", tmp_path) == CONTENT
        for left in tmp_path.iterdir():
            left.unlink()


def test_a_slow_server_does_not_keep_the_process(server: Server, tmp_path: Path) -> None:
    code = "import tinygrad_llm.backend.transfer as t; t.PATIENCE_SECONDS = 0.3\n" + FETCH
    command = [sys.executable, "-c", code, server.url("/slow-body"), SHA256, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=30)
    assert "DataError: file.bin: cannot be downloaded" in done.stderr
    assert done.returncode == 1


# ---- the disk ------------------------------------------------------------------------------------


def test_a_target_that_is_no_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").mkdir()
    with pytest.raises(DataError, match="cannot be read .it is no ordinary file.. Remove it"):
        get(server, "/good", tmp_path)
    (tmp_path / "file.bin").rmdir()
    os.mkfifo(tmp_path / "file.bin")
    with pytest.raises(DataError, match="cannot be read .it is no ordinary file.. Remove it"):
        get(server, "/good", tmp_path)
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be written to .*TINYGRAD_LLM_CACHE"):
        get(server, "/good", tmp_path / "a")
    assert server.asked == []


def test_a_planted_link_is_not_written_through(server: Server, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"mine")
    for name in ("file.bin.part", ".file.bin.lock"):
        (tmp_path / name).symlink_to(foreign)
        with pytest.raises(DataError, match="cannot be written to"):
            get(server, "/good", tmp_path)
        (tmp_path / name).unlink()
    assert foreign.read_bytes() == b"mine"


def test_a_full_disk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(DataError, match="cannot be written to .*No space left.*Make room"):
        get(server, "/good", tmp_path)


def test_a_damaged_or_overlong_file_in_the_cache(server: Server, tmp_path: Path) -> None:
    for content in (CONTENT[:-1] + b"?", bytes(MOST + 1)):
        (tmp_path / "file.bin").write_bytes(content)
        with pytest.raises(DataError, match="damaged: delete it"):
            get(server, "/good", tmp_path)


# ---- several at once -----------------------------------------------------------------------------


def test_fifteen_at_once_download_once(server: Server, tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(get(server, "/good", tmp_path)))
        for _ in range(15)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 15
    assert server.asked == [("/good", 0)]
    assert os.listdir(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("n", [2, pytest.param(15, marks=pytest.mark.slow)])
def test_processes_at_once_download_once(server: Server, tmp_path: Path, n: int) -> None:
    command = [sys.executable, "-c", FETCH, server.url("/good"), SHA256, str(tmp_path)]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(n)]
    assert [process.wait() for process in processes] == [0] * n
    assert server.asked == [("/good", 0)]
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_killed_download_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    """By one who waited for it."""
    part = tmp_path / "file.bin.part"
    command = [sys.executable, "-c", FETCH, server.url("/slow-body"), SHA256, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not (tmp_path / ".file.bin.lock").exists():
            time.sleep(0.01)
        part.write_bytes(CONTENT[:5000])
        found: list[bytes] = []
        waiting = threading.Thread(target=lambda: found.append(get(server, "/good", tmp_path)))
        waiting.start()
        time.sleep(0.2)
        assert not found
        process.kill()
    waiting.join()
    assert found == [CONTENT]
    assert server.asked[-1][0] == "/good"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_waiting_for_one_that_stands_still_ends(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_STANDSTILL_SECONDS", 0.2)
    lock = FileLock(tmp_path / ".file.bin.lock")
    assert lock.acquire()
    with pytest.raises(DataError, match="another process holds .*file.bin.lock"):
        get(server, "/good", tmp_path)
    lock.release()
    assert get(server, "/good", tmp_path) == CONTENT
