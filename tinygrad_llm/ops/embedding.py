"""Looking up the vector of each token id."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, Gradients, Tensor, prove, register, sample
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import Array, ArrayModule, to_numpy
from tinygrad_llm.backend.compute import add_at, as_rows, empty
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops._ids import as_ids


@register("embedding", family="layers", kernel="embedding")
class Embedding(Function):
    """y[n] = W[ids[n]]

    A row of W that was looked up several times acts on several outputs, and gets the sum of
    their gradients; a row that was not looked up gets zero:

        dW[v] = sum of dy[n] over all n with ids[n] = v

    Shapes: ids (...), W (V, C); y (..., C). The ids have no derivative.
    Source: Bengio et al., "A Neural Probabilistic Language Model", 2003, section 2.
    """

    fresh = True

    def forward(ctx, ids: TensorLike, weight: Array) -> Array:
        if weight.ndim != 2:
            raise ShapeError(f"embedding: weight must be (V, C), got shape {weight.shape}.")
        ids = as_ids("embedding", ctx.xp, ids, weight.shape[0])
        ctx.table_shape = weight.shape
        ctx.save(ids)
        return embedding_forward(ctx.xp, ids, weight)

    def backward(ctx, dy: Array) -> Gradients:
        (ids,) = ctx.saved
        dweight, accumulate = ctx.gradient_target(1)
        if dweight is None:
            dweight = ctx.xp.zeros(ctx.table_shape, dy.dtype)
        elif not accumulate:
            dweight.fill(0)
        embedding_backward(ctx.xp, as_rows(dy), ids.reshape(-1), dweight)
        return None, dweight


def embedding_forward(xp: ArrayModule, ids: Array, weight: Array) -> Array:
    """Rows ``ids`` (...) of weight (V, C), as (..., C)."""
    if xp is not np:
        return xp.take(weight, ids, axis=0)
    y = empty(xp, (*ids.shape, weight.shape[1]), weight.dtype)
    return np.take(weight, ids, axis=0, out=y, mode="clip")  # the range was checked


def embedding_backward(xp: ArrayModule, dy: Array, ids: Array, dweight: Array) -> None:
    """Add each row of dy (N, C) to row ``ids[n]`` of dweight (V, C); ids may repeat.

    NumPy: the rows are sorted by id, so that the rows of one id stand together and are summed
    in one go, always in the same order.
    """
    if xp is not np:
        add_at(xp, dweight, ids, dy.astype(dweight.dtype, copy=False))
        return
    if not ids.size:
        return
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    rows = dy[order].astype(accumulate_dtype(dy.dtype), copy=False)  # (N, C)
    sums = np.add.reduceat(rows, first, axis=0)
    dweight[ordered[first]] += sums.astype(dweight.dtype, copy=False)


def embedding_composed(ids: Array, weight: Tensor) -> Tensor:
    """The product of one-hot rows with the table: why a lookup is a linear layer."""
    ids = to_numpy(ids)
    one_hot = np.zeros((ids.size, weight.shape[0]), weight.dtype)
    one_hot[np.arange(ids.size), ids.reshape(-1)] = 1  # (N, V)
    return (Tensor(one_hot, device=weight.device) @ weight).reshape(*ids.shape, weight.shape[1])


def _last_one_wins(ctx: Embedding, dy: Array) -> Gradients:
    (ids,) = ctx.saved
    dweight = ctx.xp.zeros(ctx.table_shape, dy.dtype)
    dweight[ids.reshape(-1)] = dy.reshape(-1, dy.shape[-1])
    return None, dweight


prove(
    "embedding",
    samples=lambda rng: [
        sample(np.array([[1, 0, 1], [3, 1, 1]]), rng.normal(size=(5, 4)), label="repeated ids"),
        sample([2, 2, 0], rng.normal(size=(3, 7)), label="a list of ids"),
    ],
    wrong={"repeated ids overwrite each other": _last_one_wins},
    composed=embedding_composed,
)
