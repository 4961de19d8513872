"""Texts larger than memory: where a file can be cut so that no token changes, and its pieces."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tinygrad_llm.data.documents import decode_text, is_text, text_files, warn_skipped
from tinygrad_llm.errors import DataError

BLOCK_BYTES = 1 << 20  # what is in memory at a time
LONGEST_WORD = 1 << 24  # bytes; what goes on for longer without white space is cut anyway
_WINDOW_BYTES = 1 << 16


@dataclass(frozen=True)
class Piece:
    """Bytes ``start .. stop - 1`` of a file; ``last`` if the document ends with them."""

    path: str
    start: int
    stop: int
    last: bool
    sha256: str


def paths_of(files: Iterable[str | Path], without: Path | None = None) -> list[Path]:
    """Each file once; those of a folder in order of their names, without what is not text.

    Args:
        files: files and folders.
        without: a folder, such as that of the shards, whose files are left out.

    Raises:
        DataError: no such file or folder, a pipe or device, or nothing in them.

    Warns:
        UserWarning: files in a folder are no text.
    """
    given = [str(file) for file in files]
    found: dict[Path, None] = {}
    for name in given:
        path = Path(name)
        if not name or not path.exists():  # Path("") is the current folder
            raise DataError(f"{name or repr(name)}: no such file or folder.")
        if not path.is_dir() and not path.is_file():
            raise DataError(f"{name}: is a pipe or device, which is read once. Save it as a file.")
        inside = _texts_of(path, without) if path.is_dir() else [path]
        found.update(dict.fromkeys(p for p in inside if p.stat().st_size))
    if not found:
        raise DataError(f"{', '.join(given) or 'no file'}: there is no text to tokenize.")
    return list(found)


def _texts_of(folder: Path, without: Path | None) -> list[Path]:
    there = list(text_files(folder))
    if without is not None:
        out = without.resolve()
        there = [path for path in there if out not in path.resolve().parents]
    texts = [path for path in there if is_text(path)]
    warn_skipped(folder, sorted(set(there) - set(texts)))
    return texts


def plan(paths: Iterable[Path], shard_bytes: int) -> Iterator[list[Piece]]:
    """The pieces of each shard: small files together, large ones in several.

    Raises:
        DataError: a file cannot be read.
    """
    task: list[Piece] = []
    room = shard_bytes
    for path in paths:
        with _opened(path) as file:
            start, size = 0, path.stat().st_size
            while start < size:
                stop = size if size - start <= room else _cut(file, start + room, size)
                checksum = _checksum(file, start, stop)
                task.append(Piece(str(path.resolve()), start, stop, stop == size, checksum))
                room -= stop - start
                start = stop
                if room <= 0:
                    yield task
                    task, room = [], shard_bytes
    if task:
        yield task


def blocks(piece: Piece) -> Iterator[str]:
    """The text of a piece in blocks, cut between words.

    Raises:
        DataError: the file cannot be read, is not UTF-8, or changed since `plan`.
    """
    path = Path(piece.path)
    digest = hashlib.sha256()
    start = piece.start
    with _opened(path) as file:
        while start < piece.stop:
            last = piece.stop - start <= BLOCK_BYTES
            stop = piece.stop if last else _cut(file, start + BLOCK_BYTES, piece.stop)
            content = _read(file, start, stop)
            if len(content) < stop - start:
                break
            digest.update(content)
            yield decode_text(path, content, "utf-8" if start else "utf-8-sig", start)
            start = stop
    if digest.hexdigest() != piece.sha256:
        raise DataError(f"{path}: changed while it was tokenized. Start again.")


def _opened(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error


def _read(file: BinaryIO, start: int, stop: int) -> bytes:
    try:
        file.seek(start)
        return file.read(stop - start)
    except OSError as error:
        raise DataError(f"{file.name}: cannot be read ({error.strerror}).") from error


def _checksum(file: BinaryIO, start: int, stop: int) -> str:
    digest = hashlib.sha256()
    for place in range(start, stop, BLOCK_BYTES):
        digest.update(_read(file, place, min(place + BLOCK_BYTES, stop)))
    return digest.hexdigest()


def _cut(file: BinaryIO, position: int, size: int) -> int:
    """The next place from ``position`` on where a file can be cut without changing a token.

    That is before white space which follows a character that is none: there every tokenizer of
    this package ends a token in any case. A line break is preferred.
    """
    limit = min(size, position + LONGEST_WORD)
    while position < limit:
        begin = max(position - 4, 0)
        window = _read(file, begin, begin + _WINDOW_BYTES)
        for spaces in (rb"\r?\n", rb"[ \t]"):
            for found in re.finditer(spaces, window[4:]):
                end = found.start() + 4
                before = window[end - 4 : end].decode("utf-8", errors="replace")
                if not before[-1:].isspace():
                    return begin + end
        position += max(len(window) - 4, 1)
    if limit == size:
        return size
    rest_of_character = re.match(rb"[\x80-\xbf]*\n?", _read(file, limit, limit + 4))
    return min(limit + (rest_of_character.end() if rest_of_character else 0), size)
