"""What a loss does with the losses of its rows or elements: their mean, their sum, or nothing."""

from __future__ import annotations

from tinygrad_llm.errors import ConfigError

REDUCTIONS = ("mean", "sum", "none")


def check_reduction(op: str, reduction: str) -> None:
    """Raise a ConfigError unless ``reduction`` is one of `REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        raise ConfigError(f"{op}: reduction must be one of {REDUCTIONS}, got {reduction!r}.")
