"""Cutting a list of examples into training, validation and test parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from tinygrad_llm.errors import ConfigError, DataError

T = TypeVar("T")
Range = tuple[int, int]


def shuffled(items: Sequence[T], seed: int) -> list[T]:
    """The items in an order that the seed alone decides, on every machine."""
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed: expected an integer of at least 0, got {seed!r}.")
    keys = np.random.Philox(np.random.SeedSequence(seed)).random_raw(len(items))
    return [items[i] for i in np.argsort(keys, kind="stable")]


def split_sizes(n: int, train: float, validation: float, what: str) -> tuple[Range, Range, Range]:
    """Where each of the three parts of ``n`` examples begins and ends.

    Raises:
        ConfigError: fractions that are not positive or leave nothing for the test part.
        DataError: so few examples that a part would be empty.
    """
    if not (train > 0 and validation > 0 and train + validation < 1):
        raise ConfigError(
            f"split: train {train} and validation {validation} must be positive, and leave "
            "something for the test part (their sum below 1)."
        )
    first = int(n * train)
    second = first + int(n * validation)
    if not 0 < first < second < n:
        raise DataError(
            f"split: {n} {what} are too few for parts of {train:.0%}, {validation:.0%} and the "
            "rest. Give more examples or other fractions."
        )
    return (0, first), (first, second), (second, n)
