"""Files to token shards, on all cores, in pieces, and able to go on after a stop.

The work is cut into tasks before it begins, and each task writes one shard. So a shard that is
there is finished, whatever happened to the process, and another run makes only the missing ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.backend.threads import num_threads
from tinygrad_llm.data.documents import is_text, text_files
from tinygrad_llm.data.shards import INDEX, SUFFIX, read_header, verify_shard, write_shard
from tinygrad_llm.data.sliding_window import TextEncoder, token_dtype
from tinygrad_llm.errors import ConfigError, DataError

_WINDOW_BYTES = 1 << 16


class PortableTokenizer(TextEncoder, Protocol):
    """What is needed of a tokenizer to hand it to other processes and to save it."""

    def to_dict(self) -> dict[str, object]: ...

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], /) -> PortableTokenizer: ...

    def save(self, folder: str | Path, /) -> Path: ...


Description = tuple[type[PortableTokenizer], dict[str, object]]


@dataclass(frozen=True)
class Piece:
    """Bytes ``start .. stop - 1`` of a file; ``last`` if the document ends with them."""

    path: str
    start: int
    stop: int
    last: bool


@dataclass(frozen=True)
class Tokenized:
    """What `tokenize_files` made."""

    folder: Path
    shards: int
    tokens: int
    documents: int
    reused: int


def tokenize_files(
    files: Sequence[str | Path],
    out: str | Path,
    tokenizer: PortableTokenizer,
    workers: int | None = None,
    shard_bytes: int = 16 << 20,
    progress: bool = True,
) -> Tokenized:
    """Tokenize files and folders into shards of ``out``, with the tokenizer and an index beside.

    Each file is a document and ends with ``<|endoftext|>``, if the tokenizer has it; spellings
    of special tokens in the text are read as ordinary text. A large file is cut between words,
    where tokens are not changed by the cut. Stopped and started again with the same files, it
    goes on where it was.

    Args:
        files: UTF-8 files and folders; in folders, files that are not text are left out.
        out: folder for the shards.
        tokenizer: any of `tinygrad_llm.tokenizers`.
        workers: processes; by default one for each usable core. With more than one, a script
            must guard its start by ``if __name__ == "__main__":`` (they are spawned).
        shard_bytes: about how much text goes into one shard.
        progress: show a bar.

    Returns:
        the number of shards, tokens and documents, and how many shards were there already.

    Raises:
        DataError: a missing, unreadable or undecodable file, or ``out`` holds other work.
        ConfigError: workers or shard size below 1.
    """
    workers = num_threads() if workers is None else workers
    if workers < 1 or shard_bytes < 1:
        raise ConfigError(f"workers and shard_bytes must be at least 1: {workers}, {shard_bytes}.")
    folder = Path(out)
    tasks = list(plan(list(_paths(files)), shard_bytes))
    description = (type(tokenizer), tokenizer.to_dict())
    _claim(folder, tasks, description)
    missing = [n for n in range(len(tasks)) if not _is_done(shard_path(folder, n))]
    jobs = [(shard_path(folder, n), tasks[n]) for n in missing]
    _run(jobs, description, min(workers, len(jobs)), progress)
    tokenizer.save(folder)
    counts = [read_header(shard_path(folder, n)).count for n in range(len(tasks))]
    documents = sum(piece.last for task in tasks for piece in task)
    return Tokenized(folder, len(tasks), sum(counts), documents, len(tasks) - len(missing))


def shard_path(folder: Path, number: int) -> Path:
    """The file of shard ``number``."""
    return folder / f"shard_{number:06d}{SUFFIX}"


def plan(paths: Iterable[Path], shard_bytes: int) -> Iterator[list[Piece]]:
    """The pieces of each shard: small files together, large ones in several."""
    task: list[Piece] = []
    room = shard_bytes
    for path in paths:
        start, size = 0, path.stat().st_size
        while start < size:
            stop = size if size - start <= room else _cut(path, start + room, size)
            task.append(Piece(str(path.resolve()), start, stop, stop == size))
            room -= stop - start
            start = stop
            if room <= 0:
                yield task
                task, room = [], shard_bytes
    if task:
        yield task


def _cut(path: Path, position: int, size: int) -> int:
    """The next place from ``position`` on where a file can be cut without changing a token.

    That is before a line break which follows a character that is not white space: there every
    tokenizer of this package ends a token in any case.
    """
    with open(path, "rb") as file:
        while position < size:
            file.seek(max(position - 4, 0))
            window = file.read(_WINDOW_BYTES)
            for found in re.finditer(rb"\r?\n", window[4:]):
                end = found.start() + 4
                before = window[end - 4 : end].decode("utf-8", errors="replace")
                if not before[-1:].isspace():
                    return max(position - 4, 0) + end
            position += max(len(window) - 4, 1)
    return size


def encode_task(pieces: Sequence[Piece], tokenizer: PortableTokenizer) -> np.ndarray:
    """The ids of one shard.

    Raises:
        DataError: a file changed, cannot be read, or is not UTF-8.
        TokenizerError: a character or word that the tokenizer does not know.
    """
    end = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    dtype = token_dtype(tokenizer.vocab_size)
    parts = [np.empty(0, dtype)]
    for piece in pieces:
        ids = tokenizer.encode_ordinary(_read_piece(piece))
        parts.append(np.array(ids + end if piece.last else ids, dtype))
    return np.concatenate(parts)


def _read_piece(piece: Piece) -> str:
    try:
        with open(piece.path, "rb") as file:
            file.seek(piece.start)
            raw = file.read(piece.stop - piece.start)
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{piece.path}: byte 0x{error.object[error.start]:02x} at position "
            f"{piece.start + error.start} is not UTF-8. Convert the file, or leave it out."
        ) from None
    except OSError as error:
        raise DataError(f"{piece.path}: cannot be read ({error.strerror}).") from error
    if len(raw) < piece.stop - piece.start:
        raise DataError(f"{piece.path}: became shorter while it was tokenized. Start again.")
    text = text.removeprefix("\ufeff") if piece.start == 0 else text
    return text.replace("\r\n", "\n")


def _paths(files: Sequence[str | Path]) -> Iterator[Path]:
    """Each file once; those of a folder in order of their names."""
    found: dict[Path, None] = {}
    for path in map(Path, files):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.")
        inside = [p for p in text_files(path) if is_text(p)] if path.is_dir() else [path]
        found.update(dict.fromkeys(p for p in inside if p.stat().st_size))
    if not found:
        raise DataError(f"{', '.join(map(str, files)) or 'no file'}: there is no text to tokenize.")
    yield from found


def _claim(folder: Path, tasks: Sequence[Sequence[Piece]], description: Description) -> None:
    """Note in the folder what is made there; refuse a folder in which something else was begun."""
    times = {p.path: os.stat(p.path).st_mtime_ns for task in tasks for p in task}
    work = {"shards": [[asdict(p) for p in task] for task in tasks], "times": times}
    canonical = json.dumps([work, description[0].__name__, description[1]]).encode("utf-8")
    key = hashlib.sha256(canonical).hexdigest()
    index = folder / INDEX
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = json.loads(index.read_text(encoding="utf-8"))["work"] if index.exists() else None
        if known is None:
            content = json.dumps({"work": key, **work}, indent=1)
            write_atomic(index, content.encode("utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{index}: cannot be used ({error!r}). Choose another folder.") from error
    if known not in (None, key):
        raise DataError(
            f"{folder}: holds shards of other files, of files that have changed since, or of "
            "another tokenizer. Delete the folder, or choose another with --out."
        )


def _is_done(path: Path) -> bool:
    """Whether a shard is there and whole; a damaged one is made again."""
    try:
        verify_shard(path)
    except DataError:
        return False
    return True


_worker_tokenizer: PortableTokenizer


def _start_worker(description: Description) -> None:
    global _worker_tokenizer
    cls, content = description
    _worker_tokenizer = cls.from_dict(content)


def _work(path: Path, pieces: Sequence[Piece]) -> int:
    write_shard(path, encode_task(pieces, _worker_tokenizer))
    return sum(piece.stop - piece.start for piece in pieces)


def _run(
    jobs: Sequence[tuple[Path, list[Piece]]], description: Description, workers: int, progress: bool
) -> None:
    from tqdm import tqdm

    total = sum(piece.stop - piece.start for _, pieces in jobs for piece in pieces)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc="tokenizing", disable=not progress
    ) as bar:
        if workers <= 1:
            _start_worker(description)
            for job in jobs:
                bar.update(_work(*job))
            return
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (description,))
        try:
            for done in as_completed([pool.submit(_work, *job) for job in jobs]):
                bar.update(done.result())
        except BrokenProcessPool as error:
            raise DataError(
                "tokenize: a worker process died (out of memory?). What is finished is kept; "
                "start again with fewer workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
