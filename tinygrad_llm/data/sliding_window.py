"""From documents to windows of tokens: what a language model is trained on.

A window of T tokens gives T examples at once: at each position the model sees the tokens so far
and predicts the next one. So the targets are the inputs moved by one (the book, section 2.6).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from tinygrad_llm.data.documents import Document
from tinygrad_llm.errors import ConfigError, DataError

Ids = np.ndarray


class TextEncoder(Protocol):
    """What is needed of a tokenizer here."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def end_of_text_id(self) -> int | None: ...

    def encode_ordinary(self, text: str) -> list[int]: ...


class TokenSource(Protocol):
    """A long sequence of token ids: an array, a memory-mapped file, or `shards.TokenShards`."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: slice, /) -> Any: ...


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest unsigned type that holds every id: uint16 up to 65,536 tokens, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


def encode_documents(documents: Iterable[Document | str], tokenizer: TextEncoder) -> Ids:
    """The ids of all documents in a row, with ``<|endoftext|>`` between them.

    Spellings of special tokens within a document are read as ordinary text. A tokenizer without
    ``<|endoftext|>`` joins the documents directly.

    Returns:
        array (n_tokens,) of `token_dtype`.

    Raises:
        DataError: no document, or no token in them.
        TokenizerError: a character or word that the tokenizer does not know.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    between = [] if tokenizer.end_of_text_id is None else [tokenizer.end_of_text_id]
    parts: list[np.ndarray] = []
    for document in documents:
        text = document if isinstance(document, str) else document.text
        if parts and between:
            parts.append(np.array(between, dtype))
        parts.append(np.array(tokenizer.encode_ordinary(text), dtype))
    ids = np.concatenate(parts) if parts else np.empty(0, dtype)
    if not len(ids):
        raise DataError("encode_documents: there is no token in the documents. Give some text.")
    return ids


def split_ids(ids: TokenSource, validation_fraction: float = 0.1, context_length: int = 1) -> tuple:
    """Training and validation tokens: the last part is held out, in one piece.

    One piece, since windows drawn at random would overlap and leak into each other.

    Args:
        ids: array (n_tokens,) or `shards.TokenShards`.
        validation_fraction: part held out, from 0 (nothing: the second view is empty) up to 1.
        context_length: each part must hold at least one window of this length and its target,
            the validation part only if it is to hold anything.

    Returns:
        two views of ``ids``; nothing is copied.

    Raises:
        ConfigError: the fraction is negative, or 1 and more.
        DataError: a part would be too short.
    """
    if not 0.0 <= validation_fraction < 1.0:
        raise ConfigError(
            f"validation_fraction: expected from 0 up to 1, got {validation_fraction}."
        )
    cut = len(ids) - round(len(ids) * validation_fraction)
    view = getattr(ids, "part", None)  # a slice of TokenShards would be read into memory
    train, validation = (view(0, cut), view(cut, len(ids))) if view else (ids[:cut], ids[cut:])
    parts = {"training": train, "validation": validation}
    for name, part in parts.items():
        if len(part) <= context_length and (name == "training" or validation_fraction):
            raise DataError(
                f"split: the {name} part has {len(part)} of {len(ids)} tokens, but a window needs "
                f"{context_length + 1}. Give more text, a shorter --context-length, or another "
                "--validation-fraction: 0 trains on all of the text, without validation."
            )
    return train, validation


class TokenDataset:
    """Windows of a long sequence of tokens.

    Args:
        ids: (n_tokens,) integers: array, memory map or `shards.TokenShards`.
        context_length: T, tokens in a window.
        stride: distance between the starts of two windows. By default T: each token is a target
            once. Smaller: windows overlap.

    Raises:
        ConfigError: context length or stride below 1.
        DataError: fewer than T + 1 tokens, or ids that are not a row of integers.
    """

    def __init__(self, ids: TokenSource, context_length: int, stride: int | None = None) -> None:
        stride = context_length if stride is None else stride
        for name, value in (("context_length", context_length), ("stride", stride)):
            if value < 1:
                raise ConfigError(f"{name}: expected at least 1, got {value}.")
        shape, dtype = getattr(ids, "shape", None), getattr(ids, "dtype", None)
        if shape is None or len(shape) != 1 or dtype is None or np.dtype(dtype).kind not in "iu":
            raise DataError(
                f"TokenDataset: ids must be a row of integers, got {type(ids).__name__} with "
                f"shape {shape} and dtype {dtype}. Encode text with encode_documents()."
            )
        if len(ids) <= context_length:
            raise DataError(
                f"TokenDataset: the text has {len(ids)} tokens, shorter than a window of "
                f"{context_length} with its next token. Give more text, or a shorter "
                "context length."
            )
        self.ids = ids
        self.context_length = context_length
        self.stride = stride

    @property
    def n_starts(self) -> int:
        """How many positions a window can start at: more than `len`, which goes in strides."""
        return len(self.ids) - self.context_length

    def __len__(self) -> int:
        return (self.n_starts - 1) // self.stride + 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of one window, two int64 arrays (T,)."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return self.window(index * self.stride)

    def window(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of the window that begins at a token, two int64 arrays (T,)."""
        tokens = np.asarray(self.ids[start : start + self.context_length + 1]).astype(np.int64)
        return tokens[:-1], tokens[1:]
