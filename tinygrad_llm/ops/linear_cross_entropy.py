"""The last layer and the loss in one op, so that the logits of a batch never exist at once.

GPT-2's vocabulary has 50,257 entries: the logits of 8 x 1024 tokens are 1.6 GB, their gradient
again as much. Here they are computed some rows at a time, turned into loss and gradients, and
forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import as_rows, empty, fixed, operand, rowwise, sum_rows
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.long_products import long_result, long_sum
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.ops.cross_entropy import (
    cross_entropy_composed,
    cross_entropy_rows,
    flatten_targets,
    row_shares,
)
from tinygrad_llm.ops.linear import check_linear_shapes, linear_forward

LOGITS_AT_ONCE = 256 * 50257  # elements: 51 MB in float32


# x (N, C), weight (V, C), bias (V,), targets (N,), share (N,): what the gradients are made of
Inputs = tuple[Array, Array, Array | None, Array, Array]
N_INPUTS = 5


@register("linear_cross_entropy", family="loss", kernel="linear_cross_entropy")
class LinearCrossEntropy(Function):
    """loss = mean over rows of -log p[t],   p = softmax(x W^T + b),   t = the target

    A row has the share 1 / N of the mean. With logits = x W^T + b, the derivatives of
    `CrossEntropy` and `Linear` one after the other give

        dlogits = share (softmax(logits) - onehot)
        dx = dlogits W          dW = dlogits^T x          db = sum over rows of dlogits

    dlogits depends on nothing that comes later: the loss is the end of the network, and whatever
    scales it scales the gradients alike. So the gradients are computed in the forward pass,
    chunk by chunk while the logits are at hand, and the backward pass multiplies them by dy.
    dW is the sum of the chunks' dlogits^T x.

    Shapes: x (..., C), W (V, C), targets (...), b (V,) or None; a scalar.
    Source: the chunking is that of Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM
    Training", 2024, section 3.2 (FusedLinearCrossEntropy).
    """

    fresh = True

    def forward(
        ctx,
        x: Array,
        weight: Array,
        targets: TensorLike,
        bias: Array | None = None,
        ignore_index: int = -100,
        chunk_rows: int | None = None,
    ) -> Array:
        ctx.chunk_rows = check_linear_cross_entropy(x, weight, bias, chunk_rows)
        ids, counted = flatten_targets(
            "linear_cross_entropy", ctx.xp, x.shape[:-1], targets, len(weight), ignore_index
        )
        ctx.x_shape, ctx.dtype, work = x.shape, x.dtype, accumulate_dtype(x.dtype)
        ctx.wanted = (ctx.needs[0], ctx.needs[1], len(ctx.needs) > 3 and ctx.needs[3])
        # dW may be written into an optimizer's array at once, if nothing is rounded afterwards.
        at_once = ctx.wanted[1] and weight.dtype == work
        ctx.dweight = ctx.early_target(1, work) if at_once else None
        rows, w = as_rows(x).astype(work, copy=False), weight.astype(work, copy=False)
        b = None if bias is None else bias.astype(work, copy=False)
        return ctx.compute((operand(ctx.xp, rows), w, b, ids, row_shares(ctx.xp, counted, work)))

    def backward(ctx, dy: Array) -> Gradients:
        inputs = ctx.saved[:N_INPUTS]
        if len(ctx.saved) == N_INPUTS:  # a second walk: the first has given the gradients away
            ctx.compute(inputs)
        gradients = ctx.saved[N_INPUTS:]
        ctx.save(*inputs)
        dx, dweight, dbias = (None if g is None else ctx.scale(g, dy) for g in gradients)
        dx = None if dx is None else dx.reshape(ctx.x_shape)
        return (dx, dweight, None, dbias)[: len(ctx.needs)]

    def compute(ctx, inputs: Inputs) -> Array:
        """The loss; saves the gradients, and the inputs to compute them again."""
        dweight, ctx.dweight = ctx.dweight, None  # a second walk gets an array of its own
        # Each chunk multiplies by the same weight: for three it is worth the memory to keep it.
        often = len(inputs[0]) > 2 * ctx.chunk_rows
        with fixed(ctx.xp, *inputs[1:2] if often else ()):
            loss, *gradients = linear_cross_entropy_forward(
                ctx.xp, *inputs, ctx.chunk_rows, ctx.wanted, dweight
            )
        if ctx.requires_grad:
            ctx.save(*inputs, *gradients)
        return loss

    def scale(ctx, gradient: Array, dy: Array) -> Array:
        """gradient * dy, in place: nobody else has the array."""
        if ctx.xp is not np or dy != 1:  # reading dy from a GPU would make it wait
            rowwise(ctx.xp, times, (gradient,), (dy,), (gradient,))
        return gradient.astype(ctx.dtype, copy=False)


def linear_cross_entropy_forward(
    xp: ArrayModule,
    x: Array,  # (N, C)
    weight: Array,  # (V, C)
    bias: Array | None,  # (V,)
    targets: Array,  # (N,)
    share: Array,  # (N,), how much each row's loss counts
    chunk_rows: int,
    needs: Sequence[bool],  # whether dx, dW and db are wanted
    dweight: Array | None = None,  # (V, C), where dW is to be written
) -> tuple[Array, Array | None, Array | None, Array | None]:
    """The loss and its gradients dx, dW and db. For each chunk of rows:

    logits  = x W^T + b
    dlogits = share (softmax(logits) - onehot(targets))
    dx = dlogits W              dW += dlogits^T x           db += sum over rows of dlogits
    """
    n, v, dtype = len(x), len(weight), weight.dtype
    dx = empty(xp, x.shape, dtype) if needs[0] else None  # (N, C)
    if needs[1] and dweight is None:
        dweight = empty(xp, weight.shape, dtype)  # (V, C)
    dbias = xp.zeros(v, dtype) if needs[2] else None  # (V,)
    losses = empty(xp, (n,), dtype)
    chunk = empty(xp, (min(chunk_rows, n), v), dtype)  # the only logits
    for start in range(0, max(n, 1), chunk_rows):
        rows = slice(start, min(start + chunk_rows, n))
        logits = linear_forward(xp, x[rows], weight, bias, out=chunk[: rows.stop - start])
        # the losses, and dlogits in the place of the logits
        ins, dlogits = (logits, targets[rows], share[rows]), logits  # (n, V)
        rowwise(xp, cross_entropy_rows, ins, (0.0,), (losses[rows], dlogits))
        factor = operand(xp, dlogits)  # in the precision of products
        if dx is not None:
            long_sum(xp, factor, weight, dx[rows])
        if dweight is not None:
            long_result(xp, factor.T, x[rows], dweight, add=start > 0)
        if dbias is not None:
            dbias += sum_rows(xp, dlogits)
    return losses.sum(), dx, dweight, dbias


def times(xp: ArrayModule, x: Array, factor: Array, y: Array) -> None:
    """y = factor x."""
    xp.multiply(x, factor, out=y)


def linear_cross_entropy_composed(
    x: Tensor,
    weight: Tensor,
    targets: TensorLike,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    chunk_rows: int | None = None,
) -> Tensor:
    """All logits, then the loss."""
    logits = x @ weight.transpose()
    return cross_entropy_composed(logits if bias is None else logits + bias, targets, ignore_index)


def check_linear_cross_entropy(
    x: Array, weight: Array, bias: Array | None, chunk_rows: int | None
) -> int:
    """How many rows a chunk has; an error unless all is of the right type, shape and size."""
    require_float("linear_cross_entropy", x, weight, bias)
    check_linear_shapes("linear_cross_entropy", x, weight, bias)
    if chunk_rows is None:
        return max(1, LOGITS_AT_ONCE // max(1, len(weight)))
    if chunk_rows < 1:
        raise ConfigError(f"linear_cross_entropy: chunk_rows must be at least 1, got {chunk_rows}.")
    return chunk_rows


def _with_shares(ctx: LinearCrossEntropy, dy: Array, share: Array) -> Gradients:
    """The gradients as they are if each row's loss counts with ``share`` (N,)."""
    *inputs, _ = ctx.saved[:N_INPUTS]
    ctx.compute((*inputs, share))
    return true_gradient(ctx, dy)


def _mean_per_chunk(ctx: LinearCrossEntropy, dy: Array) -> Gradients:
    """Mistake: the mean of the chunks' means, in which a row of a short chunk counts for more."""
    share, n = ctx.saved[4], ctx.chunk_rows
    chunks = [share[i : i + n] != 0 for i in range(0, len(share), n)]
    means = [counted / max(int(counted.sum()), 1) / len(chunks) for counted in chunks]
    return _with_shares(ctx, dy, ctx.xp.concatenate(means))


def _last_chunk_lost(ctx: LinearCrossEntropy, dy: Array) -> Gradients:
    share, n = ctx.saved[4].copy(), ctx.chunk_rows
    share[(len(share) - 1) // n * n :] = 0
    return _with_shares(ctx, dy, share)


def _samples(rng: np.random.Generator) -> list[Sample]:
    n = rng.normal
    targets = np.array([[1, 4, -100], [0, 0, 2]])
    return [
        sample(
            n(size=(5, 3)),
            n(size=(4, 3)),
            np.array([0, 3, 3, 1, 2]),
            chunk_rows=2,
            label="uneven chunks",
        ),
        sample(n(size=(2, 3, 4)), n(size=(5, 4)), targets, label="ignored target"),
        sample(
            n(size=(2, 3, 4)), n(size=(5, 4)), targets, n(size=(5,)), chunk_rows=1, label="bias"
        ),
    ]


prove(
    "linear_cross_entropy",
    samples=_samples,
    wrong={"mean taken per chunk": _mean_per_chunk, "the last chunk lost": _last_chunk_lost},
    composed=linear_cross_entropy_composed,
)
