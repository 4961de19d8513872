"""Scaled dot-product attention, forward and backward, a block of query rows at a time.

The (T, S) matrix of probabilities is the only large thing in attention. It is never kept: the
forward pass keeps one number per row, the logarithm of the softmax's denominator, from which the
backward pass computes the probabilities again. In causal attention a block looks at no more
keys than its last row may see, so that half of the work is not done at all.
"""

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
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import Array, ArrayModule, array_module
from tinygrad_llm.backend.compute import empty, empty_like, matmul_of_block, row_dot, row_sum
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.backend.random import Key
from tinygrad_llm.ops._attention_blocks import (
    BLOCK_ROWS,
    Settings,
    blocks,
    default_scale,
    drop,
    headwise,
    make_settings,
    masked_scores,
)
from tinygrad_llm.ops._attention_inputs import (
    as_mask,
    check_shapes,
    repeated_mask,
    with_two_batch_axes,
)
from tinygrad_llm.ops._shape import unbroadcast
from tinygrad_llm.ops.dropout import dropout_composed


@register("scaled_dot_product_attention", family="attention", kernel="attention")
class ScaledDotProductAttention(Function):
    """y = probs v,   probs = softmax(scores),   scores = q k^T / sqrt D   (in each batch, head)

    1 / sqrt D is the default scale. Backwards through the three steps, with the rules of matmul
    and softmax (delta is one number for each row i of the scores):

        dv = probs^T dy                                     dprobs = dy v^T
        dscores_ij = probs_ij (dprobs_ij - delta_i)         delta_i = sum_j probs_ij dprobs_ij
        dq = scale dscores k                                dk = scale dscores^T q

    A mask of numbers is added to the scores, so its gradient is dscores, summed over the axes
    along which it was repeated (learned biases of relative positions are such masks).

    Nothing of size (T, S) is kept. delta needs no probs, since y_i = sum_j probs_ij v_j, and
    probs come back from the logarithm of each row's softmax denominator, which is kept:

        delta_i  = sum_j probs_ij (dy_i . v_j) = dy_i . y_i
        logsum_i = log sum_j e^(scores_ij)                  probs_ij = e^(scores_ij - logsum_i)

    Dropout multiplies probs by m on the way to y: then dv = (probs m)^T dy, and dprobs is
    multiplied by the same m. Hidden keys have scores of -inf and probs of 0. A row that sees no
    key gives 0 and has gradient 0.

    Shapes: q (..., T, D), k (..., S, D), v (..., S, D); y (..., T, D). mask broadcasts to
    (..., T, S): boolean, True where a query sees a key (as in PyTorch), or numbers to be added.
    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.1; the backward pass
    by logsum and delta: Dao et al., "FlashAttention", 2022, section 3.1 and appendix B.
    """

    fresh = True
    mask_like: tuple[tuple[int, ...], np.dtype] | None = None  # of a mask that wants its gradient

    def forward(
        ctx,
        q: Array,
        k: Array,
        v: Array,
        causal: bool = False,
        mask: TensorLike | None = None,
        dropout_p: float = 0.0,
        scale: float | None = None,
        key: Key | None = None,
    ) -> Array:
        require_float(ctx.name, q, k, v)
        check_shapes(q, k, v, causal)
        ctx.shapes, ctx.dtype, work = (q.shape, k.shape), q.dtype, accumulate_dtype(q.dtype)
        mask = as_mask(ctx.xp, mask)
        if mask is not None and True in ctx.needs[4:]:
            ctx.mask_like = mask.shape, mask.dtype
        mask = repeated_mask(ctx.xp, mask, (*q.shape[:-1], k.shape[-2]))
        q, k, v = (with_two_batch_axes(x.astype(work, copy=False)) for x in (q, k, v))
        ctx.settings = make_settings(ctx.name, ctx.xp, q, scale, causal, mask, dropout_p, key)
        y, logsum = empty_like(ctx.xp, q), empty(ctx.xp, q.shape[:-1], work)
        headwise(ctx.xp, attention_forward, (q, k, v), ctx.settings, (y, logsum))
        if ctx.requires_grad:
            ctx.save(q, k, v, y, logsum, mask)
        return y.astype(ctx.dtype, copy=False).reshape(ctx.shapes[0])

    def backward(ctx, dy: Array) -> Gradients:
        q, k, v, y, logsum, _ = ctx.saved
        dy = with_two_batch_axes(dy.astype(q.dtype, copy=False))
        dq, dk, dv = (empty_like(ctx.xp, x) for x in (q, k, v))
        all_dscores = ctx.xp.zeros((*logsum.shape, k.shape[-2]), q.dtype) if ctx.mask_like else None
        ins, outs = (q, k, v, y, logsum, dy), (dq, dk, dv, all_dscores)
        headwise(ctx.xp, attention_backward, ins, ctx.settings, outs)
        q_shape, k_shape = ctx.shapes
        dq, dk, dv = (
            g.astype(ctx.dtype, copy=False).reshape(shape)
            for g, shape in ((dq, q_shape), (dk, k_shape), (dv, k_shape))
        )
        if all_dscores is None or ctx.mask_like is None:
            return (dq, dk, dv, None, None)[: len(ctx.needs)]
        all_dscores = all_dscores.reshape(*q_shape[:-1], k_shape[-2])
        return dq, dk, dv, None, unbroadcast(all_dscores, *ctx.mask_like)


def attention_forward(
    xp: ArrayModule, q: Array, k: Array, v: Array, s: Settings, y: Array, logsum: Array
) -> None:
    """Write y (B, H, T, D) and logsum (B, H, T), a block of rows at a time.

    q is (B, H, T, D), k and v are (B, H, S, D). With the largest score of a row taken out:

        total  = sum_j e^(scores_j - top)               top    = max_j scores_j
        y      = sum_j e^(scores_j - top) v_j / total   logsum = top + log total
    """
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    if not n_keys:
        y[...] = logsum[...] = 0
        return
    for rows, seen in blocks(n_queries, n_keys, s.causal):
        scores = masked_scores(xp, q[..., rows, :] * s.scale, k, rows, seen, s)  # (B, H, t, n)
        top = scores.max(axis=-1, keepdims=True)  # (B, H, t, 1)
        if s.mask is not None:  # a row may see nothing
            top = xp.where(top == -xp.inf, xp.zeros_like(top), top)
        # total probs = e^(scores - top),   in the place of the scores
        scores -= top
        probs = xp.exp(scores, out=scores)
        total = row_sum(xp, probs)
        if s.mask is not None:
            total = xp.where(total == 0, xp.ones_like(total), total)
        logsum[..., rows] = (top + xp.log(total))[..., 0]
        # y = probs v,   divided by the total last: D numbers of a row, not n
        drop(xp, probs, rows, n_queries, n_keys, s)
        matmul_of_block(xp, probs, v[..., seen, :], out=y[..., rows, :])
        y[..., rows, :] /= total


def attention_backward(
    xp: ArrayModule,
    q: Array,  # (B, H, T, D)
    k: Array,  # (B, H, S, D)
    v: Array,  # (B, H, S, D)
    y: Array,  # (B, H, T, D)
    logsum: Array,  # (B, H, T)
    dy: Array,  # (B, H, T, D)
    s: Settings,
    dq: Array,  # (B, H, T, D), written here, as are those that follow
    dk: Array,  # (B, H, S, D)
    dv: Array,  # (B, H, S, D)
    all_dscores: Array | None,  # (B, H, T, S), zeros before; None where no mask learns
) -> None:
    """Write dq, dk and dv, each of the shape of q, k or v, a block of rows at a time.

    dk and dv are sums over the blocks:

        probs   = e^(scores - logsum)           delta = dy . y
        dscores = probs (dy v^T - delta)
        dq = scale dscores k            dk += dscores^T (scale q)           dv += probs^T dy
    """
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    if not n_queries:  # no query looked at the keys
        dk[...] = dv[...] = 0
        return
    last_first = reversed(list(blocks(n_queries, n_keys, s.causal)))  # the last sees all keys
    for number, (rows, seen) in enumerate(last_first):
        scaled_q, dy_rows = q[..., rows, :] * s.scale, dy[..., rows, :]
        # probs = e^(scores - logsum),   in the place of the scores
        scores = masked_scores(xp, scaled_q, k, rows, seen, s)  # (B, H, t, n)
        scores -= logsum[..., rows, None]
        probs = xp.exp(scores, out=scores)
        # dprobs = dy v^T
        dprobs = matmul_of_block(
            xp, dy_rows, v[..., seen, :].swapaxes(-1, -2), out=empty_like(xp, probs)
        )
        drop(xp, dprobs, rows, n_queries, n_keys, s)
        # dscores = probs (dprobs - delta),   in the place of dprobs
        delta = row_dot(xp, dy_rows, y[..., rows, :])  # (B, H, t, 1)
        dprobs -= delta
        dprobs *= probs
        dscores = dprobs
        if all_dscores is not None:
            all_dscores[..., rows, seen] = dscores
        # dq = scale dscores k
        matmul_of_block(xp, dscores, k[..., seen, :], out=dq[..., rows, :])
        dq[..., rows, :] *= s.scale
        # dk += dscores^T (scale q),   dv += probs^T dy;   the first block writes, the others add
        drop(xp, probs, rows, n_queries, n_keys, s)
        for total, left, right in ((dk, dscores, scaled_q), (dv, probs, dy_rows)):
            if number == 0:
                matmul_of_block(xp, left.swapaxes(-1, -2), right, out=total)
            else:
                total[..., seen, :] += matmul_of_block(xp, left.swapaxes(-1, -2), right)


def attention_composed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    mask: TensorLike | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    key: Key | None = None,
) -> Tensor:
    """softmax(q k^T / sqrt D) v in small ops: the whole (T, S) matrix at once."""
    t, n = q.shape[-2], k.shape[-2]
    x = (q @ k.swapaxes(-1, -2)) * (scale or default_scale(q))  # (..., T, S)
    if causal:
        x = x.masked_fill(~np.tri(t, n, n - t, dtype=bool), -np.inf)
    if mask is not None:
        mask = mask if isinstance(mask, Tensor) else Tensor(array_module(x.data).asarray(mask))
        x = x.masked_fill(~mask.data, -np.inf) if mask.dtype == bool else x + mask
    return dropout_composed(x.softmax(axis=-1), dropout_p, key=key) @ v


def _scale_forgotten(ctx: ScaledDotProductAttention, dy: Array) -> Gradients:
    dq, dk, *others = true_gradient(ctx, dy)
    return dq / ctx.settings.scale, dk / ctx.settings.scale, *others


def _delta_forgotten(ctx: ScaledDotProductAttention, dy: Array) -> Gradients:
    q, k, v, y, *others = ctx.saved
    ctx.save(q, k, v, y * 0, *others)  # dscores = probs dprobs, as if softmax were elementwise
    return true_gradient(ctx, dy)


def _samples(rng: np.random.Generator) -> list[Sample]:
    def qkv(t: int, s: int) -> list[np.ndarray]:
        return [rng.normal(size=(2, 3, n, 4)) for n in (t, s, s)]

    padding = np.array([[True, True, False, True, True]] * 3)
    padding[1] = False  # a query that sees nothing
    return [
        sample(*qkv(5, 5), causal=True, label="causal"),
        sample(*qkv(3, 5), label="fewer queries than keys"),
        sample(*qkv(3, 5), causal=True, scale=0.3, label="causal, cached keys"),
        sample(*qkv(3, 5), mask=padding, label="mask, one row hidden"),
        sample(*qkv(4, 4), mask=rng.normal(size=(4, 4)), causal=True, label="added mask"),
        sample(*qkv(3, 5), False, rng.normal(size=(3, 1, 5)), label="learned mask"),
        sample(*qkv(4, 4), causal=True, dropout_p=0.4, key=(5, 9), label="dropout"),
        sample(*(rng.normal(size=(6, 4)) for _ in range(3)), label="no batch"),
        sample(
            *(rng.normal(size=(BLOCK_ROWS + 2, 1)) for _ in range(3)),
            causal=True,
            label="two blocks of queries",
        ),
    ]


prove(
    "scaled_dot_product_attention",
    samples=_samples,
    wrong={"scale forgotten": _scale_forgotten, "softmax's sum forgotten": _delta_forgotten},
    composed=attention_composed,
)
