"""Messages and their classes, as token ids and class numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinygrad_llm.errors import DataError
from tinygrad_llm.finetuning.collate import truncate
from tinygrad_llm.tokenizers import Tokenizer


@dataclass(frozen=True)
class LabelledTexts:
    """Messages and their class numbers, as token ids.

    Attributes:
        rows: a list of ids for each message, truncated.
        labels: class numbers (N,).
    """

    rows: list[list[int]]
    labels: np.ndarray

    @property
    def lengths(self) -> list[int]:
        """Tokens of each message."""
        return [len(row) for row in self.rows]


def encode_texts(texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> list[list[int]]:
    """Token ids of each text, truncated to ``max_length``; special tokens are ordinary text.

    An empty text becomes the end-of-text token (or token 0), so that there is one to read at.
    """
    empty = [tokenizer.end_of_text_id or 0]
    return [truncate(tokenizer.encode_ordinary(t) or empty, max_length) for t in texts]


def encode_labelled(
    texts: Sequence[str],
    labels: Sequence[str],
    tokenizer: Tokenizer,
    class_names: Sequence[str],
    max_length: int,
) -> LabelledTexts:
    """Texts and the names of their classes as ids and class numbers.

    Raises:
        DataError: no texts, another number of labels, or a label that is no class.
    """
    if not len(texts) or len(texts) != len(labels):
        raise DataError(
            f"encode_labelled: expected as many labels as texts and at least one, got "
            f"{len(texts)} texts and {len(labels)} labels."
        )
    number = {name: i for i, name in enumerate(class_names)}
    unknown = sorted(set(labels) - set(number))
    if unknown:
        raise DataError(
            f"encode_labelled: label {unknown[0]!r} is none of the classes "
            f"{', '.join(class_names)}. Correct the file, or name all its classes."
        )
    classes = np.array([number[label] for label in labels], dtype=np.int64)
    return LabelledTexts(encode_texts(texts, tokenizer, max_length), classes)
