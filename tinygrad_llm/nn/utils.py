"""Clipping where PyTorch has it: ``tg.nn.utils.clip_grad_norm_(model.parameters(), 1.0)``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinygrad_llm.backend import Array
from tinygrad_llm.errors import ConfigError, missing_name
from tinygrad_llm.optim import Optimizer, clip_grad_norm
from tinygrad_llm.optim.groups import Parameters

__all__ = ["clip_grad_norm_"]
_LEFT_OUT = {
    "clip_grad_value_": "tg.nn.utils.clip_grad_norm_, which keeps the gradient's direction",
    "rnn": "lists of equal length: tg.finetuning pads batches, tg.nn.left_pad prompts",
}


def clip_grad_norm_(
    parameters: Optimizer | Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float | Array:
    """`optim.clip_grad_norm`: all gradients scaled so that their common norm is ``max_norm``.

    Args:
        parameters: the optimizer (fastest), a Module, or parameters.
        max_norm: the limit.
        norm_type: only 2.
        error_if_nonfinite: raise when the norm is NaN or infinite.

    Returns:
        the norm before clipping.

    Raises:
        ConfigError: max_norm is not positive, or another norm is asked for.
        NumericsError: the norm is not finite, and ``error_if_nonfinite`` is set.
    """
    if norm_type != 2:
        raise ConfigError(f"clip_grad_norm_: norm_type must be 2, got {norm_type!r}.")
    return clip_grad_norm(parameters, max_norm, error_if_nonfinite)


if not TYPE_CHECKING:  # a type checker goes on finding misspelt names

    def __getattr__(name):
        raise missing_name("tg.nn.utils", name, _LEFT_OUT, __all__)
