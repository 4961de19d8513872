"""The affine map y = x W^T + b, the layer that holds nearly all of a GPT's parameters."""

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
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import as_rows, empty, matmul, matmul_all, operand, sum_rows
from tinygrad_llm.backend.promotion import cast_back, of_one_dtype
from tinygrad_llm.errors import ShapeError


@register("linear", family="layers")
class Linear(Function):
    """y = x W^T + b

    Written out: y[n, o] = sum over i of x[n, i] W[o, i] + b[o]. So

        dy[n, o] / dx[n, i] = W[o, i]      ->   dx = dy W        (sum over o)
        dy[n, o] / dW[o, i] = x[n, i]      ->   dW = dy^T x      (sum over n)
        dy[n, o] / db[o]    = 1            ->   db = sum over n of dy

    Each gradient is again a matrix product: the backward pass costs twice the forward pass.
    Under a frozen W (LoRA) x need not be kept, nor W where x is a constant.

    Shapes: x (..., in), W (out, in), b (out,) or None; y (..., out). All leading axes are rows.
    Source: Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors",
    1986; the layout (out, in) is PyTorch's.
    """

    fresh = True

    def forward(ctx, x: Array, weight: Array, bias: Array | None = None) -> Array:
        check_linear_shapes("linear", x, weight, bias)
        ctx.x_shape = x.shape
        ctx.dtypes = [None if a is None else a.dtype for a in (x, weight, bias)]
        if x.dtype is not weight.dtype:
            x, weight = of_one_dtype((x, weight))
        rows = operand(ctx.xp, as_rows(x))  # (N, in), in the precision of products
        if ctx.requires_grad:
            ctx.save(rows if ctx.needs[1] else None, weight if ctx.needs[0] else None)
        y = linear_forward(ctx.xp, rows, weight, bias)
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def backward(ctx, dy: Array) -> Gradients:
        rows, weight = ctx.saved
        places = ctx.empty_target(1), ctx.empty_target(2)  # an optimizer's, for dW and db
        bias_needs = True in ctx.needs[2:]
        dx, dw, db = linear_backward(ctx.xp, as_rows(dy), rows, weight, bias_needs, *places)
        dx = None if dx is None else dx.reshape(ctx.x_shape)
        # One gradient per argument (bias may be absent), in the argument's type.
        return cast_back((dx, dw, db), ctx.dtypes, (None, *places))[: len(ctx.needs)]


def linear_forward(
    xp: ArrayModule, x: Array, weight: Array, bias: Array | None, out: Array | None = None
) -> Array:
    """y = x W^T + b for rows x (N, in), weight (out, in), bias (out,)."""
    y = empty(xp, (len(x), len(weight)), xp.result_type(x, weight)) if out is None else out
    if bias is None:
        return matmul(xp, x, weight.T, y)

    def add_bias(rows: slice, columns: slice) -> None:
        y[rows, columns] += bias[columns]

    return matmul(xp, x, weight.T, y, finish=add_bias)


def linear_backward(
    xp: ArrayModule,
    dy: Array,  # (N, out)
    x: Array | None,  # (N, in); None where dW is not wanted
    weight: Array | None,  # (out, in); None where dx is not wanted
    bias_needs: bool,
    dw: Array | None = None,  # (out, in), where dW is to be written
    db: Array | None = None,  # (out,), where db is to be written
) -> tuple[Array | None, Array | None, Array | None]:
    """dx (N, in), dW (out, in) and db (out,), or None in the place of one not wanted."""
    dx = None
    products = []
    factor = operand(xp, dy)  # (N, out), in the precision of products
    if weight is not None:  # dx = dy W
        dx = empty(xp, (len(dy), weight.shape[1]), xp.result_type(dy, weight))  # (N, in)
        products.append((factor, weight, dx))
    if x is not None:  # dW = dy^T x
        dw = empty(xp, (dy.shape[1], x.shape[1]), xp.result_type(dy, x)) if dw is None else dw
        products.append((factor.T, x, dw))
    sums = []
    if bias_needs:  # db = sum over n of dy
        db = empty(xp, dy.shape[1:], dy.dtype) if db is None else db
        sums.append(lambda: sum_rows(xp, dy, db))
    matmul_all(xp, products, beside=sums)
    return dx, dw, db


def linear_composed(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A matrix product and a sum."""
    y = x @ weight.transpose()
    return y if bias is None else y + bias


def check_linear_shapes(op: str, x: Array, weight: Array, bias: Array | None) -> None:
    """Raise a ShapeError unless x (..., in), weight (out, in) and bias (out,) fit together."""
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"{op}: x of shape {x.shape} and weight of shape {weight.shape} do not fit. Expected "
            "x (..., in) and weight (out, in) with equal `in`."
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(
            f"{op}: bias must have shape {weight.shape[:1]}, one number per output, "
            f"got {bias.shape}."
        )


def _mean_over_rows(ctx: Linear, dy: Array) -> Gradients:
    """Mistake: the rows share W and b, and their gradients are averaged in place of added."""
    dx, dw, db = true_gradient(ctx, dy)
    n = dy.size // dy.shape[-1]
    return dx, dw / n, None if db is None else db / n


def _bias_of_the_last_row(ctx: Linear, dy: Array) -> Gradients:
    """Mistake: each row's gradient of b overwrites the one before."""
    dx, dw, db = true_gradient(ctx, dy)
    return dx, dw, None if db is None else dy.reshape(-1, dy.shape[-1])[-1]


def _samples(rng: np.random.Generator) -> list[Sample]:
    return [
        sample(rng.normal(size=(2, 3, 5)), rng.normal(size=(4, 5)), rng.normal(size=(4,))),
        sample(rng.normal(size=(7, 3)), rng.normal(size=(6, 3)), None, label="no bias"),
        sample(
            rng.normal(size=(3,)), rng.normal(size=(1, 3)), rng.normal(size=(1,)), label="one row"
        ),
    ]


prove(
    "linear",
    samples=_samples,
    wrong={"mean over rows": _mean_over_rows, "bias of the last row": _bias_of_the_last_row},
    composed=linear_composed,
)
