"""Checks of constructor arguments, shared by the layers."""

from __future__ import annotations

import numbers

from tinygrad_llm.errors import ConfigError

_LARGEST = 2**63 - 1
_MOST_HEADS_TRIED = 1000  # for advice on a file's sizes, which may be any


def check_size(owner: str, name: str, value: object) -> int:
    """The value as an int.

    Raises:
        ConfigError: it is not a positive integer, or not one that NumPy can count to.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ConfigError(f"{owner}: {name} must be a positive integer, got {value!r:.80}.")
    size = int(value)
    if size > _LARGEST:
        raise ConfigError(f"{owner}: {name} must be less than 2^63, which no array reaches.")
    return size


def check_dropout(owner: str, name: str, value: object) -> float:
    """The probability as a float; with 1 nothing would be left to learn from.

    Raises:
        ConfigError: it is not a number of [0, 1).
    """
    if not isinstance(value, numbers.Real) or not 0 <= value < 1:  # type: ignore[operator]
        raise ConfigError(f"{owner}: {name} must be at least 0 and less than 1, got {value!r:.80}.")
    return float(value)


def check_heads(owner: str, n_embd: int, n_head: int) -> None:
    """Raise a ConfigError unless the width can be cut into equal heads."""
    if n_embd % n_head:
        highest = min(n_embd, 2 * n_head, _MOST_HEADS_TRIED)
        near = [h for h in range(1, highest + 1) if n_embd % h == 0]
        raise ConfigError(
            f"{owner}: n_embd must be a multiple of n_head, got n_embd={n_embd} and "
            f"n_head={n_head}. For this n_embd, n_head can be {', '.join(map(str, near))}."
        )
