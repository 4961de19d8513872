"""The loss of a language model: how surprised it is by the token that really came."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule, to_numpy
from tinygrad_llm.backend.compute import as_rows, by_rows, empty
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.errors import ConfigError, ShapeError
from tinygrad_llm.ops._ids import as_ids
from tinygrad_llm.ops._reduction import check_reduction


def cross_entropy_rows(
    xp: ArrayModule, logits: Array, targets: Array, share: Array, smoothing: float = 0.0
) -> Array:
    """Loss of each row, and its gradient in place of the logits.

    Args:
        logits: (N, V), overwritten with share (softmax(logits) - q).
        targets: (N,) integers; anything where share is 0.
        share: (N,), with how much each row's loss counts.
        smoothing: e; q is (1 - e) onehot(targets) + e / V.

    Returns:
        share * loss, (N,)
    """
    rows = xp.arange(len(targets))
    counted = share != 0
    targets = xp.where(counted, targets, 0)
    top = logits.max(axis=-1, keepdims=True)  # (N, 1)
    logits -= top
    picked = logits[rows, targets]
    if smoothing:
        picked = (1 - smoothing) * picked + smoothing * logits.mean(axis=-1)
    xp.exp(logits, out=logits)
    total = logits.sum(axis=-1)  # (N,)
    logits *= (share / total)[:, None]
    if smoothing:
        logits -= (share * (smoothing / logits.shape[-1]))[:, None]
    logits[rows, targets] -= share * (1 - smoothing) if smoothing else share
    return xp.where(counted, share * (xp.log(total) - picked), xp.zeros_like(share))


def flatten_targets(
    op: str, xp: ArrayModule, shape: tuple[int, ...], targets: Any, n_classes: int, ignore: int
) -> tuple[Array, Array]:
    """Targets as (N,) integers, and which of them are counted.

    Raises:
        ShapeError: not one target for each row of ``shape``, or no class to choose.
        IndexRangeError: a class that does not exist.
    """
    if not n_classes:
        raise ShapeError(
            f"{op}: expected scores of at least one class along the last axis, got none."
        )
    ids = as_ids(op, xp, targets, n_classes, ignore)
    if ids.shape != shape:
        raise ShapeError(
            f"{op}: expected one target for each row, shape {shape}, got {ids.shape}. The classes "
            "are the last axis."
        )
    ids = ids.reshape(-1)
    return ids, ids != ignore


def row_shares(xp: ArrayModule, counted: Array, dtype: Any, reduction: str = "mean") -> Array:
    """How much each row's loss counts (N,): 1, or 1 / N in a mean; 0 where not counted."""
    n = xp.maximum(counted.sum(), 1) if reduction == "mean" else 1
    return counted.astype(dtype) / xp.asarray(n, dtype)


def cross_entropy_composed(
    logits: Tensor,
    targets: Any,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(logits)[target], averaged, in small ops."""
    v, targets = logits.shape[-1], to_numpy(targets)
    ids = targets.reshape(-1)
    counted = ids != ignore_index
    q = np.zeros((ids.size, v), logits.dtype)
    q[counted] = label_smoothing / v
    q[counted, ids[counted]] += 1 - label_smoothing
    chosen = logits.reshape(-1, v).log_softmax() * Tensor(-q, device=logits.device)
    losses = chosen.sum(axis=-1)
    if reduction == "none":
        return losses.reshape(targets.shape)
    return losses.sum() / max(int(counted.sum()), 1) if reduction == "mean" else losses.sum()


def samples(rng: np.random.Generator) -> list[Any]:
    """Two and three axes, ignored targets, the three reductions, large logits."""
    targets = np.array([[1, 4, -100], [0, 0, 2]])
    return [
        sample(rng.normal(size=(4, 5)), np.array([0, 3, 3, 4])),
        sample(rng.normal(size=(2, 3, 5)), targets, label="ignored target"),
        sample(rng.normal(size=(2, 3, 5)), targets, reduction="sum", label="sum"),
        sample(rng.normal(size=(2, 3, 5)), targets, reduction="none", label="one loss per row"),
        sample(rng.normal(size=(2, 3, 5)), targets, label_smoothing=0.1, label="smoothed targets"),
        sample(rng.normal(size=(2, 3)) + 800, np.array([2, 1]), label="large logits"),
    ]


def _one_hot_forgotten(ctx: Any, dy: Array) -> Any:
    dlogits = true_gradient(ctx, dy)[0].copy()
    return ctx.xp.maximum(dlogits, 0), None  # only the target's entry is negative


@register(
    "cross_entropy",
    family="loss",
    samples=samples,
    wrong={
        "one-hot forgotten": _one_hot_forgotten,
        "sum instead of mean": lambda ctx, dy: (true_gradient(ctx, dy)[0] * 3, None),
    },
    composed=cross_entropy_composed,
    kernel="cross_entropy",
)
class CrossEntropy(Function):
    """loss = mean over rows of -log p[t],   p = softmax(logits),   t = the target

    For one row, -log p[t] = log(sum_j e^(z_j)) - z_t. The first term's derivative is softmax
    itself, the second's is -1 at the target:

        dz = dy (p - onehot(t)) / N

    Nothing is divided by p, so a probability of nearly 0 does no harm; this is why the loss
    takes logits. dz is computed together with the loss, while softmax is at hand, and kept until
    the backward pass scales it by dy.

    With label smoothing e, the target is not certain: q = (1 - e) onehot(t) + e / V takes the
    place of onehot(t). loss = -sum_j q_j log p_j, and by the same two terms dz = dy (p - q) / N.

    N counts the rows whose target is not ``ignore_index``; the others have loss 0 and gradient 0.
    With all rows ignored the loss is 0 (PyTorch gives NaN).

    Shapes: logits (..., V), targets (...) integers; a scalar, or (...) for reduction "none".
    Source: Goodfellow, Bengio & Courville, "Deep Learning", 2016, section 6.2.2.3; smoothing:
    Szegedy et al., "Rethinking the Inception architecture", 2016, section 7.
    """

    fresh = True

    def forward(
        ctx,
        logits: Array,
        targets: Any,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Array:
        check_reduction("cross_entropy", reduction)
        if not 0 <= label_smoothing <= 1:
            raise ConfigError(
                f"cross_entropy: label_smoothing must be in 0 .. 1, got {label_smoothing!r}."
            )
        xp, v = ctx.xp, logits.shape[-1] if logits.ndim else 0
        ids, counted = flatten_targets(
            "cross_entropy", xp, logits.shape[:-1], targets, v, ignore_index
        )
        require_float("cross_entropy", logits)
        work = accumulate_dtype(logits.dtype)
        share = row_shares(xp, counted, work, reduction)
        losses, dlogits = empty(xp, share.shape, work), empty(xp, logits.shape, work)
        logits2, dlogits2 = as_rows(logits), as_rows(dlogits)  # (N, V)

        def block(rows: slice) -> None:
            dlogits2[rows] = logits2[rows]
            losses[rows] = cross_entropy_rows(
                xp, dlogits2[rows], ids[rows], share[rows], label_smoothing
            )

        by_rows(xp, block, *dlogits2.shape)
        ctx.dtype = logits.dtype
        ctx.save(dlogits)
        return losses.reshape(logits.shape[:-1]) if reduction == "none" else losses.sum()

    def backward(ctx, dy: Array) -> Any:
        (dlogits,) = ctx.saved
        return (dlogits * dy[..., None]).astype(ctx.dtype, copy=False), None
