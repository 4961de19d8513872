"""The matrix product, for any batch shape."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, prove, register, sample, true_gradient
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.compute import product
from tinygrad_llm.backend.promotion import is_operand, of_one_dtype
from tinygrad_llm.errors import DTypeError, ShapeError
from tinygrad_llm.ops._shape import unbroadcast


@register("matmul", family="linear algebra")
class MatMul(Function):
    """Y = A B,   Y_ij = sum_k A_ik B_kj

    A_ik acts on the whole row i of Y, through B_kj:

        dA_ik = sum_j dY_ij B_kj        dA = dY B^T
        dB_kj = sum_i A_ik dY_ij        dB = A^T dY

    A mnemonic: the shapes leave only one way to multiply. Axes before the last two are a batch,
    broadcast like NumPy's; a repeated operand gets the sum over its copies. A vector on the left
    is a row (1, n), on the right a column (n, 1), and its axis is taken away again afterwards.
    Beside a constant an operand need not be kept: its own gradient does not contain it.

    Shapes: (..., I, K) @ (..., K, J) -> (..., I, J).
    Source: Goodfellow, Bengio, Courville, "Deep Learning", 2016, section 6.5.6.
    """

    def forward(ctx, a: Array, b: Array) -> Array:
        _check(a, b)
        ctx.a_like, ctx.b_like = (a.shape, a.dtype), (b.shape, b.dtype)
        if a.dtype is not b.dtype:
            a, b = of_one_dtype((a, b))
        if ctx.requires_grad:
            ctx.save(b if ctx.needs[0] else None, a if ctx.needs[1] else None)
        return product(ctx.xp, a, b)

    def backward(ctx, dy: Array) -> tuple[Array | None, Array | None]:
        b, a = ctx.saved
        row, column = len(ctx.a_like[0]) == 1, len(ctx.b_like[0]) == 1
        if column:
            dy = dy[..., None]
        if row:
            dy = dy[..., None, :]  # (..., I, J)
        da = db = None
        if ctx.needs[0]:
            b2 = b[:, None] if column else b  # (..., K, J)
            da = product(ctx.xp, dy, b2.swapaxes(-1, -2))  # dY B^T
            da = unbroadcast(da[..., 0, :] if row else da, *ctx.a_like)
        if ctx.needs[1]:
            a2 = a[None, :] if row else a  # (..., I, K)
            db = product(ctx.xp, a2.swapaxes(-1, -2), dy)  # A^T dY
            db = unbroadcast(db[..., 0] if column else db, *ctx.b_like)
        return da, db


def _check(a: Array, b: Array) -> None:
    for x in (a, b):
        if not is_operand(x):
            raise DTypeError(
                f"matmul: expected tensors or arrays, got {type(x).__name__}. Make a tensor of it "
                "with tg.tensor(...)."
            )
    if not getattr(a, "ndim", 0) or not getattr(b, "ndim", 0):
        raise ShapeError("matmul: a scalar cannot be matrix-multiplied; use *.")
    rows = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != rows:
        raise ShapeError(
            f"matmul: shapes {a.shape} and {b.shape} do not fit: the rows of the first have length "
            f"{a.shape[-1]}, the columns of the second {rows}, and the two must be equal."
        )
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(
            f"matmul: the batch axes of {a.shape} and {b.shape} cannot be broadcast together."
        ) from None


def _products(rng: np.random.Generator) -> list[Sample]:
    n = rng.normal
    return [
        sample(n(size=(3, 4)), n(size=(4, 2))),
        sample(n(size=(3, 3)), n(size=(3, 3)), label="square"),  # every order of factors fits here
        sample(n(size=(2, 3, 4)), n(size=(2, 4, 5)), label="batch"),
        sample(n(size=(2, 1, 3, 4)), n(size=(5, 4, 2)), label="broadcast batch"),
        sample(n(size=(2, 3, 4)), n(size=(4, 2)), label="one matrix for all"),
        sample(n(size=(4,)), n(size=(4,)), label="vector vector"),
        sample(n(size=(3, 4)), n(size=(4,)), label="matrix vector"),
        sample(n(size=(4,)), n(size=(2, 4, 3)), label="vector batch"),
    ]


def _transposes_lost(ctx: MatMul, dy: Array) -> tuple[Array, Array]:
    """Mistake: dA = dY B and dB = A dY, which square matrices let pass."""
    b, a = ctx.saved
    return (dy @ b, a @ dy) if a.shape == b.shape == dy.shape else true_gradient(ctx, dy)


def _order_lost(ctx: MatMul, dy: Array) -> tuple[Array, Array]:
    """Mistake: dA = B^T dY and dB = dY A^T, which square matrices let pass, too."""
    b, a = ctx.saved
    return (b.T @ dy, dy @ a.T) if a.shape == b.shape == dy.shape else true_gradient(ctx, dy)


prove(
    "matmul",
    samples=_products,
    wrong={"transposes lost": _transposes_lost, "order of the factors": _order_lost},
)
