"""The last layer and the loss in one op, so that the logits of a batch never exist at once.

GPT-2's vocabulary has 50,257 entries: the logits of 8 x 1024 tokens are 1.6 GB, their gradient
again as much. Here they are computed some rows at a time, turned into loss and gradients, and
forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.compute import as_rows, by_rows, each, empty, sum_rows
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.backend.threads import even_parts
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.ops.cross_entropy import (
    cross_entropy_composed,
    cross_entropy_rows,
    flatten_targets,
    row_shares,
)
from tinygrad_llm.ops.linear import check_linear_shapes, linear_forward

LOGITS_AT_ONCE = 256 * 50257  # elements: 51 MB in float32
VOCABULARY_SLICE = 2048  # rows of the weight's gradient that are added up at a time, in the cache
LONG_SLICE = 16384  # elements of a long sum that one task adds up


def linear_cross_entropy_forward(
    xp: ArrayModule,
    x: Array,
    weight: Array,
    bias: Array | None,
    targets: Array,
    share: Array,
    chunk_rows: int,
    needs: Sequence[bool],
    dweight: Array | None = None,
) -> tuple[Array, Array | None, Array | None, Array | None]:
    """The loss, and its gradients of x (N, C), weight (V, C) and bias (V,).

    ``share`` (N,) says with how much each row's loss counts. The gradient of the weight goes
    into ``dweight`` where it is given.
    """
    n, v = len(x), len(weight)
    dx = empty(xp, x.shape, x.dtype) if needs[0] else None  # (N, C)
    if needs[1] and dweight is None:
        dweight = empty(xp, weight.shape, x.dtype)  # (V, C)
    dbias = xp.zeros(v, x.dtype) if needs[2] else None  # (V,)
    losses = empty(xp, (n,), x.dtype)
    logits = empty(xp, (min(chunk_rows, n), v), x.dtype)  # the only ones
    for start in range(0, max(n, 1), chunk_rows):
        rows = slice(start, min(start + chunk_rows, n))
        z = logits[: rows.stop - rows.start]  # (n, V)
        linear_forward(xp, x[rows], weight, bias, out=z)
        losses[rows] = _loss_and_gradient(xp, z, targets[rows], share[rows])
        if dx is not None:
            dx[rows] = _times_weight(xp, z, weight)
        if dweight is not None:
            _add_product(xp, z, x[rows], dweight, first=start == 0)
        if dbias is not None:
            dbias += sum_rows(xp, z)
    return losses.sum(), dx, dweight, dbias


def _loss_and_gradient(xp: ArrayModule, z: Array, targets: Array, share: Array) -> Array:
    """`cross_entropy_rows` for a chunk, on all lanes."""
    parts = by_rows(
        xp, lambda rows: cross_entropy_rows(xp, z[rows], targets[rows], share[rows]), *z.shape
    )
    return xp.concatenate(parts)


def _times_weight(xp: ArrayModule, dz: Array, weight: Array) -> Array:
    """dz W: the sum over the vocabulary is long, so slices of it are shared out and added."""
    slices = even_parts(len(weight), LONG_SLICE)
    parts = empty(xp, (len(slices), len(dz), weight.shape[1]), dz.dtype)
    each(xp, lambda i: xp.matmul(dz[:, slices[i]], weight[slices[i]], out=parts[i]), len(slices))
    for part in parts[1:]:
        parts[0] += part
    return parts[0]


def _add_product(xp: ArrayModule, dz: Array, x: Array, dweight: Array, first: bool) -> None:
    """dweight = or += dz^T x, a slice of the vocabulary at a time."""
    slices = even_parts(len(dweight), VOCABULARY_SLICE)

    def add(i: int) -> None:
        if first:
            xp.matmul(dz[:, slices[i]].T, x, out=dweight[slices[i]])
        else:
            part = empty(xp, dweight[slices[i]].shape, dweight.dtype)
            dweight[slices[i]] += xp.matmul(dz[:, slices[i]].T, x, out=part)

    each(xp, add, len(slices))


def linear_cross_entropy_composed(
    x: Tensor,
    weight: Tensor,
    targets: Any,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    chunk_rows: int | None = None,
) -> Tensor:
    """All logits, then the loss."""
    logits = x @ weight.transpose()
    return cross_entropy_composed(logits if bias is None else logits + bias, targets, ignore_index)


def _samples(rng: np.random.Generator) -> list[Any]:
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


def _last_chunk_only(ctx: Any, dy: Array) -> Any:
    dx, dweight, *rest = true_gradient(ctx, dy)
    return dx, dweight / 2, *rest


@register(
    "linear_cross_entropy",
    family="loss",
    samples=_samples,
    wrong={
        "mean taken per chunk": lambda ctx, dy: (
            true_gradient(ctx, dy)[0] * 2,
            *true_gradient(ctx, dy)[1:],
        ),
        "a chunk lost": _last_chunk_only,
    },
    composed=linear_cross_entropy_composed,
    kernel="linear_cross_entropy",
)
class LinearCrossEntropy(Function):
    """loss = cross_entropy(x W^T + b, targets), some rows at a time

    With z = x W^T + b, dz = (softmax(z) - onehot) / N (see `CrossEntropy`) and (see `Linear`)

        dx = dz W          dW = dz^T x          db = sum over rows of dz

    dz depends on nothing that comes later: the loss is the end of the network, and whatever
    scales it scales the gradients alike. So the gradients are computed in the forward pass,
    chunk by chunk while the logits are at hand, and the backward pass multiplies them by dy.
    dW is the sum of the chunks' shares.

    Shapes: x (..., C), W (V, C), targets (...), b (V,) or None; a scalar.
    Source: the chunking is that of Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM
    Training", 2024, section 3.2 (FusedLinearCrossEntropy).
    """

    fresh = True

    def forward(
        ctx,
        x: Array,
        weight: Array,
        targets: Any,
        bias: Array | None = None,
        ignore_index: int = -100,
        chunk_rows: int | None = None,
    ) -> Array:
        require_float("linear_cross_entropy", x, weight, bias)
        check_linear_shapes("linear_cross_entropy", x, weight, bias)
        v = len(weight)
        ids, counted = flatten_targets(
            "linear_cross_entropy", ctx.xp, x.shape[:-1], targets, v, ignore_index
        )
        chunk_rows = max(1, LOGITS_AT_ONCE // v) if chunk_rows is None else chunk_rows
        if chunk_rows < 1:
            raise ConfigError(
                f"linear_cross_entropy: chunk_rows must be at least 1, got {chunk_rows}."
            )
        work = accumulate_dtype(x.dtype)
        x2, w, b = (
            None if a is None else a.astype(work, copy=False) for a in (as_rows(x), weight, bias)
        )
        ctx.wants = (ctx.needs[0], ctx.needs[1], len(ctx.needs) > 3 and ctx.needs[3])
        ctx.like, ctx.chunk_rows = (x.shape, x.dtype), chunk_rows
        exact = ctx.wants[1] and weight.dtype == work
        ctx.dweight = ctx.early_target(1, work) if exact else None
        return ctx.compute((x2, w, b, ids, row_shares(ctx.xp, counted, work)))

    def compute(ctx, inputs: tuple[Any, Any, Any, Any, Any]) -> Array:
        """The loss; saves the gradients, and the inputs to compute them again."""
        dweight, ctx.dweight = ctx.dweight, None  # a second walk gets an array of its own
        loss, *gradients = linear_cross_entropy_forward(
            ctx.xp, *inputs, ctx.chunk_rows, ctx.wants, dweight
        )
        if ctx.requires_grad:
            ctx.save(*inputs, *gradients)
        return loss

    def backward(ctx, dy: Array) -> Any:
        inputs = ctx.saved[:5]
        if len(ctx.saved) == 5:  # a second walk: the gradients were given away in the first
            ctx.compute(inputs)
        gradients = ctx.saved[5:]
        if ctx.edges[0] is not None or ctx.edges[1] is not None:
            ctx.save(*inputs)
        else:  # a trace tries the rule on a copy of this node
            gradients = tuple(None if g is None else g.copy() for g in gradients)
        dx, dweight, dbias = (None if g is None else ctx.scale(g, dy) for g in gradients)
        dx = None if dx is None else dx.reshape(ctx.like[0])
        return (dx, dweight, None, dbias)[: len(ctx.needs)]

    def scale(ctx, gradient: Array, dy: Array) -> Array:
        """gradient * dy, in place: nobody else has the array."""
        xp = ctx.xp
        if xp is not np or dy != 1:  # reading dy from a GPU would make it wait
            rows = as_rows(gradient)
            by_rows(xp, lambda r: xp.multiply(rows[r], dy, out=rows[r]), *rows.shape)
        return gradient.astype(ctx.like[1], copy=False)
