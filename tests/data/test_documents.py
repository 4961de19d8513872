"""Files that are no UTF-8 text: what they are, and a command that converts them."""

import subprocess

import pytest

from tinygrad_llm.data.documents import read_text
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
    assert "binary file" in str(error.value)
