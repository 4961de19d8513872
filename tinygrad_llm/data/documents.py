"""Reading text: one document for each file, always as UTF-8."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygrad_llm.backend.files import open_to_read
from tinygrad_llm.errors import DataError


@dataclass(frozen=True)
class Document:
    """A text that belongs together, such as a file, a book or a page of a manual."""

    name: str
    text: str


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """The text of a file; a byte order mark at its beginning is dropped.

    Raises:
        DataError: it cannot be read, is no text, or its bytes are not of that encoding.
    """
    try:
        with open_to_read(path) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    return decode_text(path, content, encoding)


def decode_text(path: Path, content: bytes, encoding: str = "utf-8-sig", start: int = 0) -> str:
    """The text of a file's bytes, or of a part of them; line ends of Windows become ``\\n``.

    Args:
        path: for messages.
        start: where in the file the part begins.

    Raises:
        DataError: it is no text, or the bytes are not of that encoding.
    """
    try:
        text = content.decode(encoding).replace("\r\n", "\n")
    except LookupError:
        raise DataError(f"{path}: unknown encoding {encoding!r}. Try 'utf-8'.") from None
    except UnicodeDecodeError as error:
        what = f"byte 0x{content[error.start]:02x} at position {start + error.start} is not "
        what += encoding.removesuffix("-sig").upper()
        line = _line(content, error.start, start)
        raise DataError(f"{path}{line}: {what}. {_advice(path, content)}") from None
    if "\0" in text:
        line = _line(content, content.index(0), start)
        raise DataError(
            f"{path}{line}: holds zero bytes, as no text does. {_advice(path, content)}"
        )
    return text


def _line(content: bytes, index: int, start: int) -> str:
    """The line in which a byte stands, if the part begins with the file."""
    return "" if start else f", line {content.count(10, 0, index) + 1}"


def _advice(path: Path, content: bytes) -> str:
    """How to make UTF-8 of a file that is something else."""
    if _is_nearly_utf8(content):
        return "The rest looks like UTF-8: the file is damaged there. Correct it."
    found = _other_encoding(content)
    if found is None:
        return "It looks like a binary file. Extract its text first."
    target = path.with_name(f"{path.stem}-utf8{path.suffix}")
    words = shlex.join(["iconv", "-f", found, "-t", "utf-8", str(path)])
    return f"It looks like {found}. Convert it first: {words} > {shlex.quote(str(target))}"


def _is_nearly_utf8(content: bytes) -> bool:
    """Whether few bytes only keep it from being text: in Latin-1 no two bytes make a character."""
    text = content[: 1 << 20].decode("utf-8", errors="replace")
    zeros, undecodable = text.count("\0"), text.count("\ufffd")
    characters = sum(character > "\x7f" for character in text) - undecodable
    return undecodable <= characters and 20 * (zeros + undecodable) <= len(text)


def _other_encoding(content: bytes) -> str | None:
    """UTF-16 by its mark or its zero bytes, else Latin-1; None for what is no text."""
    if content.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    head = content[:4096]
    for zeros, name in ((head[1::2], "utf-16le"), (head[::2], "utf-16be")):
        if zeros.count(0) > 0.7 * len(zeros) and head.count(0) < 0.6 * len(head):
            return name
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return None if b"\0" in content or control > 0.02 * len(head) else "latin1"


def read_paths(paths: Sequence[str | Path]) -> list[Document]:
    """The documents of files and folders, in the order given; empty ones are left out.

    Raises:
        DataError: a path does not exist, a file is not UTF-8, or there is no text at all.
    """
    documents: list[Document] = []
    for path in map(Path, paths):
        if path.is_dir():
            documents.extend(_read_folder(path))
        elif path.exists():
            documents.append(Document(path.name, read_text(path)))
        else:
            raise DataError(f"{path}: no such file or folder.")
    documents = [d for d in documents if d.text.strip()]
    if not documents:
        raise DataError(f"{', '.join(map(str, paths)) or 'no path'}: there is no text to read.")
    return documents


def text_files(folder: Path) -> Iterator[Path]:
    """The files below a folder in a fixed order; hidden ones and caches are left out.

    Folders behind symbolic links are not entered. One that cannot be read is told as a file.
    """
    closed: list[Path] = []
    for base, folders, names in os.walk(folder, onerror=lambda e: closed.append(Path(e.filename))):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__pycache__")))
        yield from (Path(base, name) for name in sorted(names) if not name.startswith("."))
    yield from closed


def is_text(path: Path) -> bool:
    """Whether a file's beginning looks like UTF-8 text: no NUL byte, nothing undecodable.

    A pipe, a link to nowhere and a file that cannot be read are none.
    """
    if not path.is_file():
        return False
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # otherwise the cut at 4096 bytes split a character
            return False
    return b"\0" not in head


def warn_skipped(folder: Path, skipped: Sequence[Path]) -> None:
    """Say which files of a folder are left out, since they are no text."""
    if skipped:
        some = ", ".join(str(path.relative_to(folder)) for path in skipped[:5])
        more = ", ..." if len(skipped) > 5 else ""
        warnings.warn(
            f"{folder}: {len(skipped)} files are not UTF-8 text, or cannot be read, and were "
            f"skipped: {some}{more}",
            stacklevel=3,
        )


def _read_folder(folder: Path) -> Iterator[Document]:
    """Every text file below a folder; files that are something else are named and skipped."""
    skipped = []
    for path in text_files(folder):
        try:
            if is_text(path):
                yield Document(str(path.relative_to(folder)), read_text(path))
                continue
        except DataError:
            pass
        skipped.append(path)
    warn_skipped(folder, skipped)
