"""The loss of a language model: how surprised it is by the token that really came."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.errors import ConfigError, ShapeError
from tinygrad_llm.ops._ids import as_ids

REDUCTIONS = ("mean", "sum", "none")


def cross_entropy_forward(
    xp: ArrayModule, logits: Array, targets: Array, counted: Array
) -> tuple[Array, Array]:
    """Loss of each row (N,), zero where not counted, and softmax(logits) (N, V)."""
    top = logits.max(axis=-1, keepdims=True)  # (N, 1)
    p = xp.exp(logits - top)  # (N, V)
    total = p.sum(axis=-1, keepdims=True)  # (N, 1)
    p /= total
    safe = xp.where(counted, targets, 0)[:, None]  # (N, 1)
    loss = xp.log(total) + top - xp.take_along_axis(logits, safe, axis=-1)
    return xp.where(counted, loss[:, 0], xp.zeros_like(loss[:, 0])), p


def cross_entropy_backward(
    xp: ArrayModule, weight: Array, p: Array, targets: Array, counted: Array
) -> Array:
    """dlogits (N, V) = weight (p - onehot); ``weight`` (N,) is dy of each row's loss."""
    weight = xp.where(counted, weight, xp.zeros_like(weight))  # (N,)
    dlogits = p * weight[:, None]
    rows = xp.arange(len(targets))
    dlogits[rows, xp.where(counted, targets, 0)] -= weight
    return dlogits


def flatten_targets(
    op: str, xp: ArrayModule, shape: tuple[int, ...], targets: Any, n_classes: int, ignore: int
) -> tuple[Array, Array]:
    """Targets as (N,) integers, and which of them are counted.

    Raises:
        ShapeError: not one target for each row of ``shape``.
        IndexRangeError: a class that does not exist.
    """
    ids = as_ids(op, xp, targets, n_classes, ignore)
    if ids.shape != shape:
        raise ShapeError(
            f"{op}: expected one target for each row, shape {shape}, got {ids.shape}. The classes "
            "are the last axis."
        )
    ids = ids.reshape(-1)
    return ids, ids != ignore


def cross_entropy_composed(
    logits: Tensor, targets: Any, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log softmax(logits)[target], averaged, in small ops."""
    v = logits.shape[-1]
    ids = np.asarray(targets).reshape(-1)
    counted = ids != ignore_index
    one_hot = np.zeros((ids.size, v), logits.dtype)
    one_hot[counted, ids[counted]] = -1
    losses = (logits.reshape(-1, v).log_softmax() * Tensor(one_hot)).sum(axis=-1)
    if reduction == "none":
        return losses.reshape(np.shape(targets))
    return losses.sum() / max(int(counted.sum()), 1) if reduction == "mean" else losses.sum()


def samples(rng: np.random.Generator) -> list[Any]:
    """Two and three axes, ignored targets, the three reductions, large logits."""
    targets = np.array([[1, 4, -100], [0, 0, 2]])
    return [
        sample(rng.normal(size=(4, 5)), np.array([0, 3, 3, 4])),
        sample(rng.normal(size=(2, 3, 5)), targets, label="ignored target"),
        sample(rng.normal(size=(2, 3, 5)), targets, reduction="sum", label="sum"),
        sample(rng.normal(size=(2, 3, 5)), targets, reduction="none", label="one loss per row"),
        sample(rng.normal(size=(2, 3)) + 800, np.array([2, 1]), label="large logits"),
    ]


def _one_hot_forgotten(ctx: Any, dy: Array) -> Any:
    p = ctx.saved[0]
    return (p * ctx.row_weight(dy)[:, None]).reshape(ctx.shape), None


@register(
    "cross_entropy",
    family="loss",
    samples=samples,
    wrong={
        "one-hot forgotten": _one_hot_forgotten,
        "softmax differentiated twice": lambda ctx, dy: (
            true_gradient(ctx, dy)[0] * ctx.saved[0].reshape(ctx.shape), None),
    },
    composed=cross_entropy_composed,
    kernel="cross_entropy",
)  # fmt: skip
class CrossEntropy(Function):
    """loss = mean over rows of -log p[t],   p = softmax(logits),   t = the target

    For one row, -log p[t] = log(sum_j e^(z_j)) - z_t. The first term's derivative is softmax
    itself, the second's is -1 at the target:

        dz = dy (p - onehot(t)) / N

    Nothing is divided by p, so a probability of nearly 0 does no harm; this is why the loss
    takes logits. N counts the rows whose target is not ``ignore_index``; the others have loss 0
    and gradient 0. With all rows ignored the loss is 0 (PyTorch gives NaN).

    Shapes: logits (..., V), targets (...) integers; a scalar, or (...) for reduction "none".
    Source: Goodfellow, Bengio & Courville, "Deep Learning", 2016, section 6.2.2.3.
    """

    fresh = True

    def forward(
        ctx, logits: Array, targets: Any, ignore_index: int = -100, reduction: str = "mean"
    ) -> Array:
        if reduction not in REDUCTIONS:
            raise ConfigError(
                f"cross_entropy: reduction must be one of {REDUCTIONS}, got {reduction!r}."
            )
        xp, ctx.shape, ctx.reduction = ctx.xp, logits.shape, reduction
        v = logits.shape[-1]
        ids, counted = flatten_targets(
            "cross_entropy", xp, logits.shape[:-1], targets, v, ignore_index
        )
        rows = logits.reshape(-1, v).astype(accumulate_dtype(logits.dtype), copy=False)  # (N, V)
        losses, p = cross_entropy_forward(xp, rows, ids, counted)
        ctx.count = xp.maximum(counted.sum(), 1).astype(losses.dtype)
        ctx.dtype = logits.dtype
        ctx.save(p, ids, counted)
        if reduction == "none":
            return losses.reshape(logits.shape[:-1])
        return losses.sum() / ctx.count if reduction == "mean" else losses.sum()

    def backward(ctx, dy: Array) -> Any:
        p, ids, counted = ctx.saved
        dlogits = cross_entropy_backward(ctx.xp, ctx.row_weight(dy), p, ids, counted)
        return dlogits.astype(ctx.dtype, copy=False).reshape(ctx.shape), None

    def row_weight(ctx, dy: Array) -> Array:
        """The gradient of each row's own loss (N,)."""
        if ctx.reduction == "mean":
            dy = dy / ctx.count
        return ctx.xp.broadcast_to(dy.reshape(-1), ctx.saved[1].shape)
