"""Files to token shards, on all cores, in pieces, and able to go on after a stop.

The work is cut into tasks before it begins, and each task writes one shard. So a shard that is
there is finished, whatever happened to the process, and another run makes only the missing ones.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_llm.backend.threads import num_threads
from tinygrad_llm.data.shard_folder import Learned, PortableTokenizer, alone_in, prepare
from tinygrad_llm.data.shards import (
    SUFFIX,
    check_tag,
    planned_tags,
    read_header,
    verify_shard,
    write_shard,
)
from tinygrad_llm.data.sliding_window import token_dtype
from tinygrad_llm.data.text_pieces import Piece, blocks, paths_of, plan
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.starting import WORKER_OF

Description = tuple[type[PortableTokenizer], dict[str, object]]


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
    tokenizer: PortableTokenizer | Learned,
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
        tokenizer: any of `tinygrad_llm.tokenizers`, or how one is `Learned` from the texts.
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
    tasks = list(plan(paths_of(files, without=folder), shard_bytes))
    with alone_in(folder):
        tokenizer = prepare(folder, tasks, tokenizer)
        tags = planned_tags(folder)
        missing = [n for n, tag in enumerate(tags) if not _is_done(shard_path(folder, n), tag)]
        jobs = [(shard_path(folder, n), tasks[n], tags[n]) for n in missing]
        description = (type(tokenizer), tokenizer.to_dict())
        _run(jobs, description, min(workers, len(jobs)), progress)
    counts = [read_header(shard_path(folder, n)).count for n in range(len(tasks))]
    documents = sum(piece.last for task in tasks for piece in task)
    return Tokenized(folder, len(tasks), sum(counts), documents, len(tasks) - len(missing))


def shard_path(folder: Path, number: int) -> Path:
    """The file of shard ``number``."""
    return folder / f"shard_{number:06d}{SUFFIX}"


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
        parts.extend(np.array(tokenizer.encode_ordinary(text), dtype) for text in blocks(piece))
        parts.append(np.array(end if piece.last else [], dtype))
    return np.concatenate(parts)


def _is_done(path: Path, tag: int) -> bool:
    """Whether a shard is there, whole, and of what it is to be of; else it is made again."""
    try:
        verify_shard(path)
        check_tag(path, tag)
    except DataError:
        return False
    return True


class _Worker(SpawnProcess):
    """A process whose name tells `starting` whose worker it is."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = f"{WORKER_OF}{os.getpid()}"


class _Workers(SpawnContext):
    Process = _Worker


_worker_tokenizer: PortableTokenizer


def _start_worker(description: Description) -> None:
    if (parent := parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _use(description)


def _end_with(parent: BaseProcess) -> None:
    """End this process when its parent does, also where `starting` cannot look for it."""
    parent.join()
    os._exit(1)


def _use(description: Description) -> None:
    global _worker_tokenizer
    cls, content = description
    _worker_tokenizer = cls.from_dict(content)


def _work(path: Path, pieces: Sequence[Piece], tag: int) -> int:
    write_shard(path, encode_task(pieces, _worker_tokenizer), tag)
    return sum(piece.stop - piece.start for piece in pieces)


def _run(
    jobs: Sequence[tuple[Path, list[Piece], int]],
    description: Description,
    workers: int,
    progress: bool,
) -> None:
    from tqdm import tqdm

    total = sum(piece.stop - piece.start for _, pieces, _ in jobs for piece in pieces)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc="tokenizing", disable=not progress
    ) as bar:
        if workers <= 1:
            _use(description)
            for job in jobs:
                bar.update(_work(*job))
            return
        pool = ProcessPoolExecutor(workers, _Workers(), _start_worker, (description,))
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
