"""Dropout, with a mask that is computed twice instead of being kept."""

from __future__ import annotations

from tinygrad_llm.autograd import Function, Tensor, prove, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule, array_module
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.backend.random import Key, default_generator, keep_mask
from tinygrad_llm.errors import ConfigError


@register("dropout", family="regularization", kernel="dropout")
class Dropout(Function):
    """y = x m / (1 - p),   m_i = 1 with probability 1 - p, else 0   (in training; else y = x)

    The division keeps the expected value: E[y] = x. For a given mask it is a product with a
    constant, so the gradient goes through the same mask:

        dx = dy m / (1 - p)

    The mask is a function of the key and of the element's place (`backend.random`). The key
    alone is kept; the backward pass computes the mask again.

    Shapes: x any, y the same.
    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting", 2014, section 10 (the scaling at training time).
    """

    def forward(
        ctx, x: Array, p: float = 0.5, training: bool = True, key: Key | None = None
    ) -> Array:
        p = check_probability("dropout", p)
        ctx.active = training and p > 0
        if not ctx.active:
            return x
        require_float("dropout", x)
        ctx.p, ctx.key = p, key or default_generator().next_key()
        return dropout_forward(ctx.xp, x, p, ctx.key)

    def backward(ctx, dy: Array) -> Array:
        return dropout_forward(ctx.xp, dy, ctx.p, ctx.key) if ctx.active else dy


def dropout_forward(xp: ArrayModule, x: Array, p: float, key: Key) -> Array:
    """x m / (1 - p), where m keeps an element with probability 1 - p; dy m / (1 - p) for dy."""
    if p == 1:
        return xp.zeros_like(x)
    y = x * keep_mask(xp, key, x.shape, p)
    y *= x.dtype.type(1 / (1 - p))
    return y


def dropout_composed(
    x: Tensor, p: float = 0.5, training: bool = True, key: Key | None = None
) -> Tensor:
    """The product with a mask of zeros and 1 / (1 - p)."""
    if not training or p == 0:
        return x
    mask = keep_mask(array_module(x.data), key or default_generator().next_key(), x.shape, p)
    return x * Tensor(mask.astype(x.dtype) / (1 - p))


def check_probability(op: str, p: float) -> float:
    """``p``, if it is a probability.

    Raises:
        ConfigError: it is not in 0 .. 1.
    """
    if not 0 <= p <= 1:
        raise ConfigError(f"{op}: the dropout probability must be in 0 .. 1, got {p!r}.")
    return float(p)


def _another_mask(ctx: Dropout, dy: Array) -> Array:
    return dropout_forward(ctx.xp, dy, ctx.p, (1, 2)) if ctx.active else dy


def _scale_forgotten(ctx: Dropout, dy: Array) -> Array:
    dx = true_gradient(ctx, dy)
    return dx * (1 - ctx.p) if ctx.active else dx


prove(
    "dropout",
    samples=lambda rng: [
        sample(rng.normal(size=(4, 5)), p=0.3, key=(7, 11)),
        sample(rng.normal(size=(3, 3)), p=0.3, training=False, label="evaluation"),
    ],
    wrong={"another mask": _another_mask, "scale forgotten": _scale_forgotten},
    composed=dropout_composed,
)
