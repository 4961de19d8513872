"""Files that are no UTF-8 text: what they are, and a command that converts them."""

import os
import socket
import subprocess

import pytest

from tinygrad_llm.data.documents import read_paths, read_text
from tinygrad_llm.data.text_pieces import paths_of
from tinygrad_llm.errors import DataError

TEXT = "A text, and quite an ordinary one.\nCaf\N{LATIN SMALL LETTER E WITH ACUTE}.\n" * 20


@pytest.mark.parametrize(
    ("encoding", "named"),
    [
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16le"),
        ("utf-16-be", "utf-16be"),
        ("utf-32", "utf-32"),
        ("latin-1", "latin1"),
    ],
)
def test_the_command_that_is_advised_makes_utf8(tmp_path, encoding, named):
    path = tmp_path / "my text.txt"
    path.write_bytes(TEXT.encode(encoding))
    with pytest.raises(DataError, match=f"It looks like {named}") as error:
        read_text(path)
    command = str(error.value).partition("first: ")[2]
    subprocess.run(command, shell=True, check=True)
    assert read_text(tmp_path / "my text-utf8.txt") == TEXT


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes(range(256)), b"\0" * 99]
)
def test_a_binary_file_is_called_one(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError, match="binary file"):
        read_text(path)


def test_a_text_with_a_zero_byte_is_given_no_command_that_would_keep_it(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(b"a line of a log\n" * 400 + b"\0\n")
    with pytest.raises(DataError, match="zero bytes") as error:
        read_text(path)
    assert "iconv" not in str(error.value)
    assert "log.txt, line 401: " in str(error.value)
    assert "Correct it" in str(error.value)


@pytest.mark.parametrize("wrong", [b"\xff", b"\xed\xa0\x80", b"\xc3", b"\0"])
def test_a_damaged_byte_of_utf8_makes_it_no_latin1(tmp_path, wrong):
    path = tmp_path / "a.txt"
    path.write_bytes(TEXT.encode() + wrong + b"\n" + TEXT.encode())
    with pytest.raises(DataError, match=r"a\.txt, line 41: .*looks like UTF-8") as error:
        read_text(path)
    assert "iconv" not in str(error.value)


def test_what_is_no_text_in_a_folder_is_named(tmp_path):
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "utf16.txt").write_bytes(TEXT.encode("utf-16"))
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "missing")
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.txt"))
    for read in (read_paths, paths_of):
        with pytest.warns(UserWarning, match=r"5 files .* skipped: loop\.txt, nowhere\.txt, pipe"):
            assert len(read([tmp_path])) == 1


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "good.txt").write_text("text")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.warns(UserWarning, match=r"1 files .* skipped: closed"):
        assert len(read_paths([tmp_path])) == 1


def test_a_pipe_is_refused_before_it_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe or device"):
        paths_of([tmp_path / "pipe"])
