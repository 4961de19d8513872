"""Clipping of the gradient's norm."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.backend import Array, array_module
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.errors import ConfigError, NumericsError
from tinygrad_llm.optim.blocks import for_blocks
from tinygrad_llm.optim.by_kernel import clip_by_kernel
from tinygrad_llm.optim.groups import Parameters, gradient_of, named
from tinygrad_llm.optim.optimizer import Optimizer


def clip_grad_norm(
    source: Optimizer | Parameters, max_norm: float, error_if_nonfinite: bool = False
) -> float | Array:
    """Scale all gradients by one number so that their common norm is at most ``max_norm``.

        norm = sqrt(sum of g^2 over all elements of all gradients)
        g    = g min(1, max_norm / (norm + 1e-6))

    Args:
        source: the optimizer (fastest: its gradients stand in one array), a Module, or parameters.
        max_norm: the limit; ``float("inf")`` only measures.
        error_if_nonfinite: raise when the norm is NaN or infinite. Otherwise the gradients are
            left as they are then, and the caller decides; PyTorch spreads the NaN to all of them.

    Returns:
        the norm before clipping: a float; on a GPU an array () there, so that nothing waits.

    Source: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks",
    2013, algorithm 1; the 1e-6 is PyTorch's.

    Raises:
        ConfigError: max_norm is not positive.
        GradientError: a gradient was assigned that is no array of its parameter's shape.
        NumericsError: the norm is not finite, and ``error_if_nonfinite`` is set.
    """
    if not max_norm > 0:
        raise ConfigError(f"clip_grad_norm: max_norm must be greater than 0, got {max_norm!r}.")
    gradients = _gradients(source)
    if not gradients:
        return 0.0
    by_kernel = clip_by_kernel(gradients, max_norm)
    norm = _clip(gradients, max_norm) if by_kernel is None else by_kernel
    if error_if_nonfinite and not np.isfinite(float(norm)):
        raise NumericsError(
            f"clip_grad_norm: the norm of the gradients is {float(norm)}. Run the step inside "
            "tg.detect_anomaly() to find the first op at fault, or lower the learning rate."
        )
    return norm


def _clip(gradients: list[Array], max_norm: float) -> float | Array:
    norm = gradient_norm(gradients)
    if not isinstance(norm, float):
        xp = array_module(norm)
        factor = xp.minimum(max_norm / (norm + 1e-6), 1)
        _scale(gradients, xp.where(factor > 0, factor, 1))  # 0 or NaN: the norm is not finite
    elif max_norm < norm < float("inf"):
        _scale(gradients, max_norm / (norm + 1e-6))
    return norm


def gradient_norm(gradients: list[Array]) -> float | Array:
    """sqrt(sum of all squares), summed in float64: a float, or an array () on a GPU."""
    total = sum(_sum_of_squares(gradient.reshape(-1)) for gradient in gradients)
    xp = array_module(gradients[0])
    return float(total) ** 0.5 if xp is np else xp.sqrt(total)


def _sum_of_squares(gradient: Array) -> Array | float:
    xp = array_module(gradient)
    wide = accumulate_dtype(gradient.dtype)

    def sum_block(i: int, j: int) -> Array:
        block = gradient[i:j].astype(wide, copy=False)
        with np.errstate(over="ignore"):
            squares = xp.dot(block, block).astype(np.float64)
        if xp is np and not np.isfinite(squares):  # too large for float32, if no NaN or infinity
            block = block.astype(np.float64)
            squares = np.dot(block, block)
        return squares

    return sum(for_blocks(xp, 0, gradient.size, sum_block))


def _scale(gradients: list[Array], factor: float | Array) -> None:
    for gradient in gradients:
        flat = gradient.reshape(-1)

        def scale_block(i: int, j: int, flat: Array = flat) -> None:
            flat[i:j] *= factor

        for_blocks(array_module(flat), 0, flat.size, scale_block)


def _gradients(source: Optimizer | Parameters) -> list[Array]:
    if isinstance(source, Optimizer):
        return source.gradients()
    found = {id(p): gradient_of(name, p) for name, p in named("clip_grad_norm", source, 0)}
    return [grad for grad in found.values() if grad is not None]
