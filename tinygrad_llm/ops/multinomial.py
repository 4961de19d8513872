"""Drawing indices with given probabilities; a draw carries no gradient."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor import Tensor, make_result
from tinygrad_llm.backend import array_module, to_numpy
from tinygrad_llm.backend.random import Generator, default_generator
from tinygrad_llm.errors import ConfigError, NumericsError, ShapeError


def multinomial(
    weights: Tensor, num_samples: int, replacement: bool = False, generator: Generator | None = None
) -> Tensor:
    """Indices drawn with probabilities proportional to the ``weights`` of each row.

    The draws are made on the CPU, so one seed gives the same ones on every device. Without
    replacement: of exponential times e_i / w_i the smallest come first, and the first one is i
    with probability w_i / sum w, as in a race (Efraimidis and Spirakis, 2006).

    Args:
        weights: (V,) or (B, V), at least 0, not necessarily summing to 1.
        num_samples: how many for each row.
        replacement: whether one index may be drawn several times.
        generator: where the randomness comes from; by default what `tg.manual_seed` seeds.

    Returns:
        int64 tensor (num_samples,) or (B, num_samples).

    Raises:
        ShapeError: not one or two axes.
        NumericsError: a weight is negative, infinite or NaN, or a row has none above 0.
        ConfigError: a row has fewer than ``num_samples`` weights above 0, without replacement.
    """
    if weights.ndim not in (1, 2):
        raise ShapeError(f"multinomial: expected weights (V,) or (B, V), got {weights.shape}.")
    rows = np.atleast_2d(to_numpy(weights.data)).astype(np.float64)
    _check(rows, num_samples, replacement)
    drawing = generator or default_generator()
    if replacement:
        drawn = _by_inversion(rows, num_samples, drawing)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            # inf where a weight is 0, or NaN: both are sorted behind all numbers
            times = -np.log1p(-drawing.uniform(rows.shape)) / rows
        drawn = np.argsort(times, axis=-1, kind="stable")[:, :num_samples]
    drawn = drawn[0] if weights.ndim == 1 else drawn
    return make_result(array_module(weights.data).asarray(drawn), None)


def _by_inversion(rows: np.ndarray, n: int, drawing: Generator) -> np.ndarray:
    """(B, n) indices: the number of partial sums that a uniform number has passed."""
    sums = rows.cumsum(axis=-1)
    at = drawing.uniform((len(rows), n)) * sums[:, -1:]
    return np.stack([np.searchsorted(s, u, side="right") for s, u in zip(sums, at, strict=True)])


def _check(rows: np.ndarray, num_samples: int, replacement: bool) -> None:
    if not np.isfinite(rows).all() or (rows < 0).any():
        raise NumericsError(
            "multinomial: a weight is negative, infinite or NaN; expected probabilities, such as "
            "scores.softmax(-1)."
        )
    positive = int((rows > 0).sum(axis=-1).min(initial=rows.shape[-1]))
    if not positive:
        raise NumericsError("multinomial: a row has no weight above 0, so nothing can be drawn.")
    if num_samples < 1 or (not replacement and num_samples > positive):
        raise ConfigError(
            f"multinomial: num_samples={num_samples} needs as many weights above 0; a row has "
            f"{positive}. Pass replacement=True to draw one several times."
        )


OPS["multinomial"] = multinomial
