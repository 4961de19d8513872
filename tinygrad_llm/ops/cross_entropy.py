"""The loss of a language model: how surprised it is by the token that really came."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import (
    Function,
    Gradients,
    Sample,
    Tensor,
    arguments_of,
    prove,
    register,
    sample,
    true_gradient,
)
from tinygrad_llm.autograd.arrays import TensorLike, array_of
from tinygrad_llm.backend import Array, ArrayModule, to_numpy
from tinygrad_llm.backend.compute import as_rows, empty, rowwise
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.errors import ConfigError, ShapeError
from tinygrad_llm.ops._ids import as_ids
from tinygrad_llm.ops._reduction import check_reduction
from tinygrad_llm.ops.softmax import softmax_forward


@register("cross_entropy", family="loss", kernel="cross_entropy")
class CrossEntropy(Function):
    """loss = mean over rows of -log p[t],   p = softmax(logits),   t = the target

    For one row of logits z, -log p[t] = log(sum_j e^(z_j)) - z_t. The first term's derivative is
    softmax itself, the second's is -1 at the target. With N rows, each has a share of 1 / N:

        dlogits = dy share (p - onehot(t)),      share = 1 / N

    Nothing is divided by p, so a probability of nearly 0 does no harm; this is why the loss
    takes logits. dlogits is computed together with the loss, while softmax is at hand, and kept
    until the backward pass scales it by dy.

    With label smoothing e, the target is not certain: q = (1 - e) onehot(t) + e / V takes the
    place of onehot(t), loss = -sum_j q_j log p_j, and by the same two terms

        dlogits = dy share (p - q)

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
        targets: TensorLike,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Array:
        check_cross_entropy(logits, reduction, label_smoothing)
        ids, counted = flatten_targets(
            "cross_entropy", ctx.xp, logits.shape[:-1], targets, n_classes(logits), ignore_index
        )
        work, ctx.dtype = accumulate_dtype(logits.dtype), logits.dtype
        share = row_shares(ctx.xp, counted, work, reduction)  # (N,)
        losses, dlogits = empty(ctx.xp, ids.shape, work), empty(ctx.xp, logits.shape, work)
        ins, outs = (as_rows(logits), ids, share), (losses, as_rows(dlogits))
        rowwise(ctx.xp, cross_entropy_rows, ins, (label_smoothing,), outs)
        ctx.save(dlogits)
        return losses.reshape(logits.shape[:-1]) if reduction == "none" else losses.sum()

    def backward(ctx, dy: Array) -> Gradients:
        (dlogits,) = ctx.saved
        return (dlogits * dy[..., None]).astype(ctx.dtype, copy=False), None


def cross_entropy_rows(
    xp: ArrayModule,
    logits: Array,  # z (N, V); may be the array dlogits
    targets: Array,  # t (N,) integers; anything where share is 0
    share: Array,  # (N,), how much each row's loss counts; 0 where it is ignored
    smoothing: float,  # e; q = (1 - e) onehot(t) + e / V
    losses: Array,  # (N,), written here
    dlogits: Array,  # (N, V), written here
) -> None:
    """Write losses = share (log sum e^z - sum q z), (N,), and dlogits = share (p - q), (N, V)."""
    rows, counted = xp.arange(len(targets)), share != 0
    targets = xp.where(counted, targets, 0)
    # z - max z,   from which softmax and loss are the same
    dlogits[...] = logits
    z = dlogits
    z -= z.max(axis=-1, keepdims=True)
    # wanted = sum q z
    wanted = z[rows, targets]
    if smoothing:
        wanted = (1 - smoothing) * wanted + smoothing * z.mean(axis=-1)
    # share p = share e^z / sum e^z,   in the place of z
    p = xp.exp(z, out=dlogits)
    total = p.sum(axis=-1)  # (N,)
    p *= (share / total)[:, None]
    # dlogits = share p - share q,   in the place of p
    if smoothing:
        dlogits -= (share * (smoothing / dlogits.shape[-1]))[:, None]
    dlogits[rows, targets] -= share * (1 - smoothing) if smoothing else share
    # losses = share (log sum e^z - sum q z)
    losses[...] = xp.where(counted, share * (xp.log(total) - wanted), xp.zeros_like(share))


def cross_entropy_composed(
    logits: Tensor,
    targets: TensorLike,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(logits)[target], averaged, in small ops."""
    v, wanted = logits.shape[-1], to_numpy(array_of("cross_entropy", targets))
    ids = wanted.reshape(-1)
    counted = ids != ignore_index
    q = np.zeros((ids.size, v), logits.dtype)
    q[counted] = label_smoothing / v
    q[counted, ids[counted]] += 1 - label_smoothing
    chosen = logits.reshape(-1, v).log_softmax() * Tensor(-q, device=logits.device)
    losses = chosen.sum(axis=-1)
    if reduction == "none":
        return losses.reshape(wanted.shape)
    return losses.sum() / max(int(counted.sum()), 1) if reduction == "mean" else losses.sum()


def flatten_targets(
    op: str,
    xp: ArrayModule,
    shape: tuple[int, ...],
    targets: TensorLike,
    n_classes: int,
    ignore: int,
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


def n_classes(logits: Array) -> int:
    """V of logits (..., V); a number alone has no class."""
    return logits.shape[-1] if logits.ndim else 0


def row_shares(xp: ArrayModule, counted: Array, dtype: np.dtype, reduction: str = "mean") -> Array:
    """How much each row's loss counts (N,): 1, or 1 / N in a mean; 0 where not counted."""
    shares = counted.astype(dtype)
    return (
        shares / xp.asarray(xp.maximum(counted.sum(), 1), dtype) if reduction == "mean" else shares
    )


def check_cross_entropy(logits: Array, reduction: str, label_smoothing: float) -> None:
    """Raise an error unless the logits are floats, and the settings known ones."""
    check_reduction("cross_entropy", reduction)
    if not 0 <= label_smoothing <= 1:
        raise ConfigError(
            f"cross_entropy: label_smoothing must be in 0 .. 1, got {label_smoothing!r}."
        )
    require_float("cross_entropy", logits)


def _one_hot_forgotten(ctx: CrossEntropy, dy: Array) -> Gradients:
    call = arguments_of(ctx)
    counted = ctx.xp.asarray(call["targets"]) != call["ignore_index"]
    share = row_shares(ctx.xp, counted, dy.dtype, call["reduction"])
    return (dy * share)[..., None] * softmax_forward(ctx.xp, call["logits"]), None


def _sum_instead_of_mean(ctx: CrossEntropy, dy: Array) -> Gradients:
    CrossEntropy.forward(ctx, **{**arguments_of(ctx), "reduction": "sum"})
    return true_gradient(ctx, dy)


def _samples(rng: np.random.Generator) -> list[Sample]:
    targets = np.array([[1, 4, -100], [0, 0, 2]])
    return [
        sample(rng.normal(size=(4, 5)), np.array([0, 3, 3, 4])),
        sample(rng.normal(size=(2, 3, 5)), targets, label="ignored target"),
        sample(rng.normal(size=(2, 3, 5)), targets, reduction="sum", label="sum"),
        sample(rng.normal(size=(2, 3, 5)), targets, reduction="none", label="one loss per row"),
        sample(rng.normal(size=(2, 3, 5)), targets, label_smoothing=0.1, label="smoothed targets"),
        sample(rng.normal(size=(2, 3)) + 800, np.array([2, 1]), label="large logits"),
    ]


prove(
    "cross_entropy",
    samples=_samples,
    wrong={"one-hot forgotten": _one_hot_forgotten, "sum instead of mean": _sum_instead_of_mean},
    composed=cross_entropy_composed,
)
