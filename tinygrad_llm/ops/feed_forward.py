"""Two linear layers with a GELU between them as one op, for hardware that computes them so."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import (
    Function,
    Gradients,
    Sample,
    Tensor,
    prove,
    register,
    sample,
    true_gradient,
)
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.compute import as_rows, empty_like, operand, parallel_ufunc, rowwise
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops.gelu import gelu_composed, gelu_tanh_forward
from tinygrad_llm.ops.linear import check_linear_shapes, linear_backward, linear_forward


@register("feed_forward", family="layers")
class FeedForward(Function):
    """y = gelu(x W1^T + b1) W2^T + b2

    With names for what stands between, by the forms of `Linear` and `Gelu`:

        z = x W1^T + b1         a = gelu(z)         y = a W2^T + b2

    Backwards through the outer layer, the GELU (slope by slope) and the inner layer:

        dW2 = dy^T a        db2 = sum over rows of dy       da = dy W2
        dz  = da gelu'(z)
        dW1 = dz^T x        db1 = sum over rows of dz       dx = dz W1

    So the forward pass is two products, and the backward pass is four. What stands beside them
    (two biases, GELU, its slope, two sums over rows) works on numbers that a product has just
    computed or just reads. On a GPU each is done there, which saves as many passes over memory.

    Shapes: x (..., C), W1 (H, C), b1 (H,), W2 (O, H), b2 (O,); y (..., O), with O = C in GPT.
    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.3; with GELU: Radford et
    al., "Improving Language Understanding by Generative Pre-Training", 2018, section 4.1.
    """

    fresh = True

    def forward(ctx, x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
        check_feed_forward_shapes(x, w1, b1, w2, b2)
        require_float("feed_forward", x, w1, b1, w2, b2)
        rows = operand(ctx.xp, as_rows(x))  # (N, C), in the precision of products
        z = linear_forward(ctx.xp, rows, w1, b1)  # (N, H)
        a, slope = empty_like(ctx.xp, z), empty_like(ctx.xp, z)
        rowwise(ctx.xp, gelu_tanh_forward, (z,), (), (a, slope))
        a = operand(ctx.xp, a)  # (N, H)
        y = linear_forward(ctx.xp, a, w2, b2)  # (N, O)
        if ctx.requires_grad:
            ctx.x_shape = x.shape
            ctx.keep(rows, w1, a, w2, slope)
        return y.reshape(*x.shape[:-1], len(w2))

    def backward(ctx, dy: Array) -> Gradients:
        rows, w1, a, w2, slope = ctx.saved
        to = [ctx.empty_target(i) for i in range(1, 5)]
        # dW2 = dy^T a,   db2 = sum dy,   da = dy W2
        da, dw2, db2 = linear_backward(ctx.xp, as_rows(dy), a, w2, ctx.needs[4], *to[2:])
        if da is None:
            return None, None, None, dw2, db2
        # dz = da gelu'(z)
        dz = parallel_ufunc(ctx.xp.multiply, da, slope)  # (N, H)
        # dW1 = dz^T x,   db1 = sum dz,   dx = dz W1
        dx, dw1, db1 = linear_backward(ctx.xp, dz, rows, w1, ctx.needs[2], *to[:2])
        return None if dx is None else dx.reshape(ctx.x_shape), dw1, db1, dw2, db2

    def keep(ctx, rows: Array, w1: Array, a: Array, w2: Array, slope: Array) -> None:
        """Save what the wanted gradients contain: see the formulas above."""
        x_needs, w1_needs, b1_needs, w2_needs, _ = ctx.needs
        inner = x_needs or w1_needs or b1_needs  # the gradient passes through the outer layer
        kept = (rows, w1_needs), (w1, x_needs), (a, w2_needs), (w2, inner), (slope, inner)
        ctx.save(*(array if wanted else None for array, wanted in kept))


def feed_forward_composed(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """The three steps one after the other."""
    return gelu_composed(x @ w1.transpose() + b1) @ w2.transpose() + b2


def check_feed_forward_shapes(x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> None:
    """Raise a ShapeError unless x (..., C), w1 (H, C), b1 (H,), w2 (O, H) and b2 (O,) fit."""
    if b1 is None or b2 is None:
        raise ShapeError(
            "feed_forward: b1 and b2 must be arrays, got None. Without biases call linear, gelu "
            "and linear."
        )
    check_linear_shapes("feed_forward", x, w1, b1)
    if w2.ndim != 2 or w2.shape[1] != len(w1) or b2.shape != w2.shape[:1]:
        raise ShapeError(
            f"feed_forward: w2 must be (O, H) and b2 (O,) with the H of w1 {w1.shape}, got "
            f"{w2.shape} and {b2.shape}."
        )


def _slope_forgotten(ctx: FeedForward, dy: Array) -> Gradients:
    *others, slope = ctx.saved
    ctx.save(*others, slope * 0 + 1)
    return true_gradient(ctx, dy)


def _inner_bias_before_gelu(ctx: FeedForward, dy: Array) -> Gradients:
    """Mistake: db1 is the sum of the gradient that arrives at a, not of the one at z."""
    w2 = ctx.saved[3]
    dx, dw1, _, dw2, db2 = true_gradient(ctx, dy)
    return dx, dw1, (dy @ w2).reshape(-1, w2.shape[1]).sum(axis=0), dw2, db2


def _samples(rng: np.random.Generator) -> list[Sample]:
    normal = rng.normal
    return [
        sample(
            normal(size=(2, 3, 4)),
            normal(size=(6, 4)),
            normal(size=(6,)),
            normal(size=(4, 6)),
            normal(size=(4,)),
        ),
        sample(
            normal(size=(5, 3)),
            normal(size=(2, 3)),
            normal(size=(2,)),
            normal(size=(1, 2)),
            normal(size=(1,)),
            label="narrower",
        ),
        sample(
            normal(size=(3,)),
            normal(size=(8, 3)),
            normal(size=(8,)),
            normal(size=(3, 8)),
            normal(size=(3,)),
            label="one row",
        ),
    ]


prove(
    "feed_forward",
    samples=_samples,
    wrong={
        "GELU's slope forgotten": _slope_forgotten,
        "inner bias taken before the slope": _inner_bias_before_gelu,
    },
    composed=feed_forward_composed,
)
