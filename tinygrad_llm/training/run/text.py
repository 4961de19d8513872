"""From the settings to tokens: tokenizer, training part, validation part."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinygrad_llm import tokenizers
from tinygrad_llm.data import corpora
from tinygrad_llm.data.documents import Document
from tinygrad_llm.data.shards import SUFFIX, TokenShards, read_header
from tinygrad_llm.data.sliding_window import TokenSource, encode_documents, split_ids
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer, Tokenizer, WordTokenizer
from tinygrad_llm.tokenizers.special_tokens import END_OF_TEXT, UNKNOWN
from tinygrad_llm.training.settings.config import TrainConfig


@dataclass(frozen=True)
class TokenText:
    """A tokenized text in two parts.

    Attributes:
        name: short, for file names and titles.
        tokenizer: made the ids.
        train, validation: token ids, arrays or memory-mapped shards (n_tokens,).
        described: what it is, in a line for people.
        fingerprint: a checksum of the ids: the same text gives the same.
        stride: distance between the training windows; None for the context length, so that each
            token is a target once. A text that is shorter than a batch has windows everywhere.
    """

    name: str
    tokenizer: Tokenizer
    train: TokenSource
    validation: TokenSource
    described: str
    fingerprint: str
    stride: int | None = None


def load_text(config: TrainConfig, tokenizer: Tokenizer | None = None) -> TokenText:
    """Load, tokenize and split the text of a run.

    Args:
        config: the settings "data", "tokenizer", and what belongs to them.
        tokenizer: one that exists already (a resumed run's); None makes or loads it.

    Raises:
        DataError: the text is missing, not UTF-8, or too short.
        TokenizerError: the tokenizer cannot be made or cannot express the text.
    """
    folder = Path(config.data[0])
    if len(config.data) == 1 and folder.is_dir() and any(folder.glob(f"*{SUFFIX}")):
        return _load_shards(config, folder, is_new=tokenizer is None)
    documents = corpora.load(list(config.data))
    tokenizer = tokenizer or make_tokenizer(config, documents)
    ids = encode_documents(documents, tokenizer)
    parts = _parts(ids, tokenizer, config)
    characters = sum(len(document.text) for document in documents)
    plural = "" if len(documents) == 1 else "s"
    described = (
        f"{' '.join(config.data)}: {len(documents)} document{plural}, {characters:,} characters, "
        f"{len(ids):,} tokens ({characters / len(ids):.2f} characters each), {parts.note}"
        f"{_unknown_share(ids, tokenizer)}"
    )
    return TokenText(
        short_name(config.data),
        tokenizer,
        parts.train,
        parts.validation,
        described,
        checksum(ids),
        parts.stride,
    )


def _load_shards(config: TrainConfig, folder: Path, is_new: bool) -> TokenText:
    """Shards stay on the disk: only the windows in use are read."""
    if is_new:
        _refuse_vocab_size(config, f"that of the shards in {folder}")
    shards = TokenShards(folder)
    tokenizer = tokenizers.load(folder)
    parts = _parts(shards, tokenizer, config)
    described = (
        f"{folder}: {len(shards.paths)} shards, {len(shards):,} tokens of the shards' own "
        f"{type(tokenizer).__name__}, {parts.note}"
    )
    digest = hashlib.sha256(b"".join(read_header(path).sha256 for path in shards.paths))
    return TokenText(
        folder.name,
        tokenizer,
        parts.train,
        parts.validation,
        described,
        digest.hexdigest(),
        parts.stride,
    )


@dataclass(frozen=True)
class _Parts:
    """The fields of `TokenText` that a split decides, and a note about them for people."""

    train: TokenSource
    validation: TokenSource
    stride: int | None
    note: str


def _parts(ids: TokenSource, tokenizer: Tokenizer, config: TrainConfig) -> _Parts:
    """Cut a text in two. A training part that is too short for a batch becomes a ring."""
    fraction, context = config.validation_fraction, config.context_length
    train, validation = split_ids(ids, fraction, context if fraction else 0)
    note = f"{len(validation):,} of them for validation"
    if not _is_short(len(ids), config):
        return _Parts(train, validation, None, note)
    end = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    once = np.append(end, train[:]).astype(train.dtype)
    rounds = -(-config.batch_size // len(once))
    ring = np.resize(once, rounds * len(once) + context)  # a window begins at each of its tokens
    note += f"; shorter than a batch ({_tokens_of_a_batch(config):,} tokens), so it is repeated"
    return _Parts(ring, validation, 1, note)


def _is_short(n_tokens: int, config: TrainConfig) -> bool:
    """Whether the training part of a text is too short for a batch, so that it is repeated."""
    return n_tokens - round(n_tokens * config.validation_fraction) < _tokens_of_a_batch(config)


def _tokens_of_a_batch(config: TrainConfig) -> int:
    """B windows of T tokens, and the token that follows the last one."""
    return config.batch_size * config.context_length + 1


def _unknown_share(ids: np.ndarray, tokenizer: Tokenizer) -> str:
    """A note about the words that a tokenizer of other texts does not know."""
    unknown = tokenizer.special_tokens.get(UNKNOWN)
    count = 0 if unknown is None else int((ids == unknown).sum())
    return f"; {count:,} are unknown to the tokenizer: {UNKNOWN}" if count else ""


def make_tokenizer(config: TrainConfig, documents: Sequence[Document]) -> Tokenizer:
    """The tokenizer that the settings name: learned from the documents, or loaded.

    Raises:
        ConfigError: neither a kind of tokenizer nor a folder; or a vocabulary size was chosen for
            a tokenizer that has one of its own.
        TokenizerError: it cannot be loaded or learned.
    """
    texts = [document.text for document in documents]
    has_ends = len(texts) > 1 or _is_short(sum(map(len, texts)), config)  # a token a character
    special = (END_OF_TEXT,) if has_ends else ()
    if config.tokenizer != "bpe":
        _refuse_vocab_size(config, config.tokenizer)
    if config.tokenizer == "char":
        return CharTokenizer.train(texts, special)
    if config.tokenizer == "word":
        return WordTokenizer.train(texts)
    if config.tokenizer == "bpe":
        return BPETokenizer.train(texts, config.vocab_size, (END_OF_TEXT,))
    if config.tokenizer == "gpt2":
        return tokenizers.gpt2()
    if Path(config.tokenizer).exists():
        return tokenizers.load(config.tokenizer)
    raise ConfigError(
        f"tokenizer: expected bpe, char, word, gpt2 or a folder with a saved tokenizer, got "
        f"{config.tokenizer!r}."
    )


def _refuse_vocab_size(config: TrainConfig, tokenizer: str) -> None:
    """Refuse a chosen size that changes nothing; ``init_from`` has compared it with the model's."""
    if config.vocab_size != TrainConfig.vocab_size and not config.init_from:
        raise ConfigError(
            f"vocab_size: {config.vocab_size} was chosen, but the tokenizer, {tokenizer}, has a "
            "size of its own. Leave it out, or learn a bpe tokenizer from text files."
        )


def short_name(data: Sequence[str]) -> str:
    """A name for files and titles: ``("texts/a.txt", "b.txt")`` -> ``"a-and-1-more"``."""
    first = Path(os.path.abspath(data[0])).stem or "text"  # of "." or "..": the folder's name
    return first if len(data) == 1 else f"{first}-and-{len(data) - 1}-more"


def checksum(ids: np.ndarray) -> str:
    """SHA-256 of the ids as 32-bit integers."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<u4").data).hexdigest()


def check_same_text(saved: str, text: TokenText) -> None:
    """Refuse to go on with another text than the run began with.

    Raises:
        CheckpointError: it is another one.
    """
    if saved != text.fingerprint:
        raise CheckpointError(
            f"--resume: the text is not the one this run began with ({text.described}). Its files "
            "have changed, or, for pydoc and stdlib, the version of Python. Restore them, or begin "
            "a new run in another folder with --out."
        )
