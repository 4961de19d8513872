"""A folder of shards: who may begin it, and what it is to hold, so that work can go on there."""

from __future__ import annotations

import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from tinygrad_llm.backend import strict_json
from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.backend.lock import FileLock
from tinygrad_llm.data.shards import INDEX, SUFFIX
from tinygrad_llm.data.sliding_window import TextEncoder
from tinygrad_llm.data.text_pieces import Piece, blocks
from tinygrad_llm.errors import DataError, TokenizerError


class PortableTokenizer(TextEncoder, Protocol):
    """What is needed of a tokenizer to hand it to other processes and to save it."""

    def to_dict(self) -> dict[str, object]: ...

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], /) -> PortableTokenizer: ...

    def save(self, folder: str | Path, /) -> Path: ...


@dataclass(frozen=True)
class Learned:
    """A tokenizer that is yet to be learned from the texts.

    Attributes:
        asked: what it is to be, such as ``"bpe of 8192 tokens"``.
        learn: makes it from texts.
        load: opens it in the folder where `PortableTokenizer.save` put it.
        most_bytes: how much of the texts is enough; None for all.
    """

    asked: str
    learn: Callable[[Iterator[str]], PortableTokenizer]
    load: Callable[[Path], PortableTokenizer]
    most_bytes: int | None = None


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """No other process makes shards in the folder; what one left that was killed is removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".tokenize.lock")
        if not lock.acquire():
            raise DataError(f"{folder}: another process makes shards there. Wait for it.")
    except OSError as error:
        raise DataError(f"{folder}: cannot be used ({error.strerror}). Choose another.") from error
    try:
        for name in (INDEX, f"shard_??????{SUFFIX}"):
            for leftover in folder.glob(f".{name}.*.tmp"):
                with suppress(OSError):
                    leftover.unlink()
        yield
    finally:
        lock.release()


def prepare(
    folder: Path, tasks: Sequence[Sequence[Piece]], tokenizer: PortableTokenizer | Learned
) -> PortableTokenizer:
    """Put the tokenizer into the folder, and then the index that says what is made there.

    So a folder with an index has the tokenizer of its shards, and one that was stopped before
    starts over.

    Raises:
        DataError: something else was begun in the folder.
    """
    known = _known(folder)
    work = _work_of(tasks, tokenizer)
    if known and any(known[name] != work[name] for name in ("texts", "tokenizer")):
        if known["texts"] != work["texts"]:
            what = "holds shards of other files or sizes, or of files that have changed since"
        else:
            what = f"was begun with another tokenizer, {known['tokenizer']}"
        raise DataError(f"{folder}: {what}. Delete the folder, or choose another with --out.")
    if isinstance(tokenizer, Learned):
        tokenizer = (_kept(folder, tokenizer) if known else None) or tokenizer.learn(
            _texts(tasks, tokenizer.most_bytes)
        )
    tokenizer.save(folder)
    if not known:
        _write_index(folder, work)
    return tokenizer


def _kept(folder: Path, tokenizer: Learned) -> PortableTokenizer | None:
    """The tokenizer that an earlier call learned; a damaged one is learned again, to the same."""
    try:
        return tokenizer.load(folder)
    except TokenizerError:
        return None


def _work_of(
    tasks: Sequence[Sequence[Piece]], tokenizer: PortableTokenizer | Learned
) -> dict[str, object]:
    """What is made, as the index has it: the texts by their checksums, wherever they stand."""
    if isinstance(tokenizer, Learned):
        asked = f"{tokenizer.asked} (learned)"
    else:
        asked = f"{type(tokenizer).__name__} {_digest(tokenizer.to_dict())[:16]}"
    contents = [[(p.sha256, p.stop - p.start, p.last) for p in task] for task in tasks]
    shards = [[asdict(piece) for piece in task] for task in tasks]
    return {"texts": _digest(contents), "tokenizer": asked, "shards": shards}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode("utf-8")).hexdigest()


def _known(folder: Path) -> dict[str, Any] | None:
    """What an earlier call began in the folder: nothing without an index, or without a shard."""
    index = folder / INDEX
    begun = any(folder.glob(f"*{SUFFIX}"))
    try:
        if not index.exists() and begun:
            raise DataError(f"{folder}: holds shards, but no {INDEX}. Choose another with --out.")
        if not begun:
            index.unlink(missing_ok=True)
            return None
        known = strict_json.loads(index.read_text(encoding="utf-8"))
        return {name: known[name] for name in ("texts", "tokenizer")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{index}: cannot be used ({error!r}): it is damaged, or of another "
            "version. Choose another folder."
        ) from error


def _write_index(folder: Path, work: Mapping[str, object]) -> None:
    index = folder / INDEX
    try:
        write_atomic(index, json.dumps(work, indent=1).encode("utf-8"))
    except OSError as error:
        raise DataError(f"{index}: cannot be written ({error.strerror}).") from error


def _texts(tasks: Sequence[Sequence[Piece]], most_bytes: int | None) -> Iterator[str]:
    """The texts of all pieces, up to the block in which ``most_bytes`` is reached."""
    left = sys.maxsize if most_bytes is None else most_bytes
    for piece in itertools.chain.from_iterable(tasks):
        for text in blocks(piece):
            if left <= 0:
                return
            yield text
            left -= len(text.encode("utf-8"))
