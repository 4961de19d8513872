"""Corpora by name, from files and folders; downloads against a server of this test."""

import hashlib
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinygrad_llm.backend.download import RemoteFile, fetch
from tinygrad_llm.backend.files import cache_folder
from tinygrad_llm.data import corpora
from tinygrad_llm.data.remote import REMOTE
from tinygrad_llm.errors import DataError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def test_pydoc_is_a_few_hundred_kilobytes_of_prose() -> None:
    documents = corpora.load()
    text = "\n".join(document.text for document in documents)
    assert len(documents) > 60
    assert 250_000 < len(text) < 600_000
    assert "::=" not in text
    assert ">>>" not in text
    assert "*****" not in text
    assert " is used for conditional execution:" in text
    assert "built-in" in text
    assert "built- in" not in text
    assert corpora.load("pydoc") == documents


def test_prose_of_a_page() -> None:
    page = """The "if" statement
******************

The "if" statement is used for conditional
execution of built-
in things:

   if_stmt ::= "if" assignment_expression ":" suite

   >>> if x: pass

+------+------+
| a    | b    |
+------+------+

   def f(x=1): return {x: [1, 2, 3] ** 2}

* It selects   exactly one of the suites.
"""
    assert corpora.as_prose(page).splitlines() == [
        'The "if" statement',
        'The "if" statement is used for conditional execution of built-in things:',
        "* It selects exactly one of the suites.",
    ]


def test_pydoc_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match="--data stdlib"):
        corpora.load("pydoc")


def test_stdlib_has_megabytes_of_source() -> None:
    documents = corpora.load("stdlib")
    names = [document.name for document in documents]
    assert "stdlib/argparse.py" in names
    assert not any("site-packages" in name for name in names)
    assert sum(len(document.text) for document in documents) > 5_000_000


def test_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("zwei: ü", encoding="utf-8")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\n")
    (tmp_path / "empty.txt").write_text(" \n", encoding="utf-8")
    (tmp_path / ".hidden").write_text("no", encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "latin.txt").write_bytes("süß".encode("latin-1"))
    with pytest.warns(UserWarning, match="2 files are not UTF-8 text"):
        documents = corpora.load(tmp_path)
    assert [(d.name, d.text) for d in documents] == [
        ("a.txt", "one\n"),
        (str(Path("b/two.md")), "zwei: ü"),
    ]
    both = corpora.load([tmp_path / "b" / "two.md", "pydoc"])
    assert both[0].text == "zwei: ü"
    assert len(both) > 60


def test_a_character_cut_at_the_end_of_the_sample_is_still_text(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("x" * 4095 + "日" * 10, encoding="utf-8")
    assert len(corpora.load(tmp_path)) == 1


def test_bad_sources(tmp_path: Path) -> None:
    bad, empty = tmp_path / "latin.txt", tmp_path / "empty.txt"
    bad.write_bytes(b"caf\xe9 au lait")
    empty.write_text("\n", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    for source, message in [
        (bad, "byte 0xe9 at position 3 is not UTF-8"),
        (empty, "there is no text to read"),
        (tmp_path / "folder", "there is no text to read"),
        ("shakspeare", "neither a file, a folder nor a known corpus. Known: pydoc"),
        ([], "no source was given"),
    ]:
        with pytest.raises(DataError, match=message):
            corpora.load(source)


@pytest.mark.parametrize("name", sorted(REMOTE))
def test_checksums_are_those_of_the_real_files(name: str) -> None:
    path = SHARED / REMOTE[name].name
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    assert fetch(REMOTE[name], SHARED) == path


def test_a_downloaded_corpus_is_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"To be, or not to be"
    remote = RemoteFile("play.txt", "http://127.0.0.1:9/", hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(corpora.REMOTE, "the-verdict", remote)
    with pytest.raises(DataError, match="put it at .*play.txt"):
        corpora.load("the-verdict", cache_dir=tmp_path)
    (tmp_path / "play.txt").write_bytes(content)
    assert corpora.load("the-verdict", cache_dir=tmp_path)[0].text == content.decode()
    monkeypatch.setenv("TINYGRAD_LLM_CACHE", str(tmp_path))
    assert corpora.load("the-verdict")[0].name == "the-verdict"
    (tmp_path / "play.txt").write_bytes(b"To be")
    with pytest.raises(DataError, match="damaged: delete it"):
        corpora.load("the-verdict")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TINYGRAD_LLM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tinygrad_llm"
    assert cache_folder("here") == Path("here")


CONTENT = bytes(range(256)) * 50


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges, breaks off at /broken, and zips it at /zip."""

    def do_GET(self) -> None:
        body, status = CONTENT, 200
        if self.path == "/zip":
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("inside", CONTENT)
            body = buffer.getvalue()
        if self.path == "/missing":
            self.send_error(404)
            return
        if "Range" in self.headers and self.path != "/no-ranges":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                self.send_error(416)
                return
            body, status = body[start:], 206
            self.server.resumed_at.append(start)  # type: ignore[attr-defined]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if self.path == "/broken" else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.resumed_at = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: http.server.ThreadingHTTPServer, path: str, **more) -> RemoteFile:
    url = f"http://127.0.0.1:{server.server_address[1]}{path}"
    return RemoteFile("file.bin", url, hashlib.sha256(CONTENT).hexdigest(), **more)


def test_download_checks_and_keeps_the_file(server, tmp_path: Path) -> None:
    path = fetch(remote(server, "/"), tmp_path / "new", progress=False)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["file.bin"]


def test_download_out_of_a_zip_archive(server, tmp_path: Path) -> None:
    path = fetch(remote(server, "/zip", zip_member="inside"), tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    path.unlink()
    with pytest.raises(DataError, match="cannot be downloaded"):
        fetch(remote(server, "/zip", zip_member="other"), tmp_path, progress=False)


def test_a_broken_download_is_resumed(server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="file.bin: cannot be downloaded"):
        fetch(remote(server, "/broken"), tmp_path, progress=False)
    assert (tmp_path / "file.bin.part").stat().st_size == 1000
    assert not (tmp_path / "file.bin").exists()
    assert fetch(remote(server, "/"), tmp_path, progress=False).read_bytes() == CONTENT
    assert server.resumed_at == [1000]


def test_a_server_without_ranges_starts_again(server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"half")
    assert fetch(remote(server, "/no-ranges"), tmp_path, progress=False).read_bytes() == CONTENT


def test_a_finished_part_needs_no_bytes(server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(remote(server, "/"), tmp_path, progress=False).read_bytes() == CONTENT


def test_a_wrong_content_is_refused_and_removed(server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"something else")
    with pytest.raises(DataError, match="not the expected file"):
        fetch(remote(server, "/"), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="404"):
        fetch(remote(server, "/missing"), tmp_path, progress=False)


def test_pydoc_says_nothing_twice() -> None:
    """What the validation part holds must not stand in the training part."""
    text = "\n".join(document.text for document in corpora.load("pydoc"))
    paragraphs = [line for line in text.split("\n") if len(line) >= 60]
    assert len(paragraphs) == len(set(paragraphs)) > 500
