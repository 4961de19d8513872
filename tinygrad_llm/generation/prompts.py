"""Prompts as users give them: one or several, of equal or different lengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygrad_llm.autograd.arrays import TensorLike, array_of, is_tensor
from tinygrad_llm.backend import is_array, to_numpy
from tinygrad_llm.errors import GenerationError


@dataclass(frozen=True)
class Prompts:
    """Prompts as lists of ids, and how they were given.

    Attributes:
        rows: the ids of each.
        single: one prompt was given by itself, without a batch axis.
        ragged: they were given as a list of different lengths.
    """

    rows: list[list[int]]
    single: bool
    ragged: bool

    def arrange(self, texts: list[list[int]]) -> np.ndarray | list[np.ndarray]:
        """Texts in the form that the prompts had; shorter ones filled up with their last token."""
        if self.ragged:
            return [np.array(text, np.int64) for text in texts]
        longest = max(len(text) for text in texts)
        filled = np.array([text + text[-1:] * (longest - len(text)) for text in texts], np.int64)
        return filled[0] if self.single else filled


def as_prompts(ids: TensorLike) -> Prompts:
    """Check and convert what a user gave.

    Args:
        ids: integers (B, T) or (T,), as array, nested list or Tensor; or a list of prompts.

    Raises:
        GenerationError: no prompt, an empty one, or something else than integers.
    """
    if is_tensor(ids) or is_array(ids):
        array = _numpy(ids)
        if array.ndim not in (1, 2):
            raise GenerationError(
                f"generate: ids must have shape (B, T) or (T,), got {array.shape}."
            )
        rows = [array] if array.ndim == 1 else list(array)
        return Prompts([_row(row) for row in rows or [[]]], array.ndim == 1, False)
    if isinstance(ids, (str, bytes)) or not hasattr(ids, "__iter__"):
        raise GenerationError(
            f"generate: ids must be integers, got {type(ids).__name__}. Encode a text first: "
            "tokenizer.encode(text)."
        )
    given = list(ids)
    if not given or not hasattr(given[0], "__iter__"):
        return Prompts([_row(given)], True, False)
    found = [_row(row) for row in given]
    return Prompts(found, False, len({len(row) for row in found}) > 1)


def _numpy(ids: TensorLike) -> np.ndarray:
    return to_numpy(array_of("generate", ids))


def _row(ids: TensorLike) -> list[int]:
    array = _numpy(ids)
    if array.size == 0:
        raise GenerationError(
            "generate: a prompt is empty. Give at least one token, such as the end-of-text id "
            "(tokenizer.end_of_text_id) to start a new text."
        )
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise GenerationError(
            f"generate: a prompt must be a list of integers, got {array.dtype} of shape "
            f"{array.shape}."
        )
    return array.tolist()
