"""Reading text: one document for each file, always as UTF-8."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinygrad_llm.errors import DataError


@dataclass(frozen=True)
class Document:
    """A text that belongs together, such as a file, a book or a page of a manual."""

    name: str
    text: str


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """The text of a file; a byte order mark at its beginning is dropped.

    Raises:
        DataError: it cannot be read, or its bytes are not of that encoding.
    """
    try:
        return path.read_bytes().decode(encoding).replace("\r\n", "\n")
    except LookupError:
        raise DataError(f"{path}: unknown encoding {encoding!r}. Try 'utf-8'.") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte 0x{error.object[error.start]:02x} at position {error.start} is not "
            f"{encoding.removesuffix('-sig').upper()}. Convert the file first, for instance: "
            f"iconv -f latin1 -t utf-8 {path.name} > {path.stem}-utf8{path.suffix}"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


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
    """The files below a folder in a fixed order; hidden ones and caches are left out."""
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__pycache__")))
        yield from (Path(base, name) for name in sorted(names) if not name.startswith("."))


def is_text(path: Path) -> bool:
    """Whether a file's beginning looks like UTF-8 text: no NUL byte, nothing undecodable."""
    with open(path, "rb") as file:
        head = file.read(4096)
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # otherwise the cut at 4096 bytes split a character
            return False
    return b"\0" not in head


def _read_folder(folder: Path) -> Iterator[Document]:
    """Every text file below a folder; files that are something else are counted and skipped."""
    skipped = 0
    for path in text_files(folder):
        try:
            if is_text(path):
                yield Document(str(path.relative_to(folder)), read_text(path))
                continue
        except (DataError, OSError):
            pass
        skipped += 1
    if skipped:
        warnings.warn(
            f"{folder}: {skipped} files are not UTF-8 text and were skipped.", stacklevel=4
        )
