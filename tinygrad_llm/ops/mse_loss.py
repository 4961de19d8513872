"""The squared error, the loss of a regression."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, prove, register, sample
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import cast_back, of_one_dtype, require_float
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops._reduction import check_reduction


@register("mse_loss", family="loss")
class MSELoss(Function):
    """loss = mean of (x - t)^2 over all N elements

    Each element acts on one term alone, whose derivative is 2 (x - t):

        dx = dy 2 (x - t) / N           dt = -dx

    Without the division for reduction "sum"; for "none" dy has the shape of x.

    The shapes must be equal: (N, 1) and (N,) would be broadcast to N^2 differences, which is
    never meant. Numbers of 16 bits are squared and added up as float32.

    Shapes: x, t equal; a scalar, or the shape of x for reduction "none".
    Source: Goodfellow, Bengio & Courville, "Deep Learning", 2016, section 5.1.4.
    """

    fresh = True

    def forward(ctx, x: Array, target: Array, reduction: str = "mean") -> Array:
        check_reduction("mse_loss", reduction)
        if x.shape != target.shape:
            raise ShapeError(
                f"mse_loss: expected a target of shape {x.shape}, got {target.shape}. Reshape "
                "one of them, such as with .reshape(-1)."
            )
        ctx.dtypes = x.dtype, target.dtype
        x, target = of_one_dtype((x, target))
        require_float("mse_loss", x)
        error = x.astype(accumulate_dtype(x.dtype), copy=False) - target
        ctx.save(error)
        ctx.share = 1 / x.size if reduction == "mean" and x.size else 1
        losses = error * error
        if reduction == "none":
            return losses.astype(x.dtype, copy=False)
        loss = losses.mean() if reduction == "mean" else losses.sum()
        return loss.astype(x.dtype, copy=False)

    def backward(ctx, dy: Array) -> tuple[Array, Array]:
        (error,) = ctx.saved
        dx = error * (dy * (2 * ctx.share))
        dx, dt = cast_back((dx, -dx), ctx.dtypes)
        return dx, dt


def mse_loss_composed(x: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """The formula in small ops."""
    losses = (x - target) * (x - target)
    if reduction == "none":
        return losses
    return losses.mean() if reduction == "mean" else losses.sum()


def _samples(rng: np.random.Generator) -> list[Sample]:
    def pair() -> tuple[Array, Array]:
        return rng.normal(size=(3, 4)), rng.normal(size=(3, 4))

    return [
        sample(*pair()),
        sample(*pair(), reduction="sum", label="sum"),
        sample(*pair(), reduction="none", label="one loss per element"),
        sample(rng.normal(size=()), rng.normal(size=()), label="scalar"),
    ]


def _factor_lost(ctx: MSELoss, dy: Array) -> tuple[Array, Array]:
    """Mistake: (x - t)^2 differentiated to x - t."""
    (error,) = ctx.saved
    dx = error * dy * ctx.share
    return dx, -dx


def _target_forgotten(ctx: MSELoss, dy: Array) -> tuple[Array, Array]:
    """Mistake: the target taken as a constant."""
    (error,) = ctx.saved
    dx = error * (dy * (2 * ctx.share))
    return dx, ctx.xp.zeros_like(dx)


prove(
    "mse_loss",
    samples=_samples,
    wrong={"factor 2 lost": _factor_lost, "target's gradient forgotten": _target_forgotten},
    composed=mse_loss_composed,
)
