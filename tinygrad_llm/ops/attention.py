"""Scaled dot-product attention, forward and backward, a block of query rows at a time.

The (T, S) matrix of probabilities is the only large thing in attention. It is never kept: the
forward pass keeps one number per row, the logarithm of the softmax's denominator, from which the
backward pass computes the probabilities again. In causal attention a block looks at no more
keys than its last row may see, so that half of the work is not done at all.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule, array_module
from tinygrad_llm.backend.compute import each, empty, row_dot, row_sum
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.backend.random import Key
from tinygrad_llm.ops._attention_blocks import (
    BLOCK_ROWS,
    Settings,
    blocks,
    drop,
    head_groups,
    make_settings,
    scores,
)
from tinygrad_llm.ops._attention_inputs import as_mask, check_shapes, with_two_batch_axes
from tinygrad_llm.ops._shape import unbroadcast
from tinygrad_llm.ops.dropout import dropout_composed


def default_scale(q: Any) -> float:
    """1 / sqrt(D) for q (..., D), which keeps scores of a normal q and k at variance 1."""
    return 1 / math.sqrt(max(q.shape[-1], 1))


def attention_forward(
    xp: ArrayModule, q: Array, k: Array, v: Array, s: Settings, y: Array
) -> Array:
    """Write attention of q (B, H, T, D), k and v (B, H, S, D) to ``y`` (B, H, T, D).

    Returns:
        logsum (B, H, T): the logarithm of each row's softmax denominator; 0 where a row sees
        no key, whose output is 0.
    """
    logsum = empty(xp, q.shape[:-1], q.dtype)  # (B, H, T)
    if not k.shape[-2]:
        y[...] = logsum[...] = 0
        return logsum
    groups = head_groups(xp, q.shape, k.shape[-2])

    def group(i: int) -> None:
        g = groups[i]
        _forward(xp, q[g], k[g], v[g], s.part(g), y[g], logsum[g])

    each(xp, group, len(groups))
    return logsum


def _forward(
    xp: ArrayModule, q: Array, k: Array, v: Array, s: Settings, y: Array, logsum: Array
) -> None:
    for rows, seen in blocks(q.shape[-2], k.shape[-2], s.causal):
        p = scores(xp, q[..., rows, :] * s.scale, k, rows, seen, s)  # (b, h, t, n)
        top = p.max(axis=-1, keepdims=True)
        if s.mask is not None:  # a row may see nothing
            top = xp.where(top == -xp.inf, xp.zeros_like(top), top)
        p -= top
        xp.exp(p, out=p)
        total = row_sum(xp, p)  # (b, h, t, 1)
        if s.mask is not None:
            total = xp.where(total == 0, xp.ones_like(total), total)
        logsum[..., rows] = (top + xp.log(total))[..., 0]
        drop(xp, p, rows, q.shape[-2], k.shape[-2], s)
        xp.matmul(p, v[..., seen, :], out=y[..., rows, :])
        y[..., rows, :] /= total


def attention_backward(
    xp: ArrayModule,
    dy: Array,
    q: Array,
    k: Array,
    v: Array,
    y: Array,
    logsum: Array,
    s: Settings,
    dq: Array,
    dk: Array,
    dv: Array,
    dx: Array | None = None,
) -> None:
    """Write the gradients of q, k and v to ``dq``, ``dk`` and ``dv``.

    That of the scores goes to ``dx`` (B, H, T, S), zeros before, where it is given.
    """
    if not q.shape[-2]:  # nobody looked at the keys
        dk[...] = dv[...] = 0
        return
    groups = head_groups(xp, q.shape, k.shape[-2])

    def group(i: int) -> None:
        g = groups[i]
        own_dx = None if dx is None else dx[g]
        _backward(
            xp, dy[g], q[g], k[g], v[g], y[g], logsum[g], s.part(g), dq[g], dk[g], dv[g], own_dx
        )

    each(xp, group, len(groups))


def _backward(
    xp: ArrayModule,
    dy: Array,
    q: Array,
    k: Array,
    v: Array,
    y: Array,
    logsum: Array,
    s: Settings,
    dq: Array,
    dk: Array,
    dv: Array,
    all_dx: Array | None,
) -> None:
    n_queries, n_keys = q.shape[-2], k.shape[-2]
    last_first = reversed(list(blocks(n_queries, n_keys, s.causal)))  # the last sees all keys
    for number, (rows, seen) in enumerate(last_first):
        scaled_q, dy_rows = q[..., rows, :] * s.scale, dy[..., rows, :]
        p = scores(xp, scaled_q, k, rows, seen, s)
        p -= logsum[..., rows, None]
        xp.exp(p, out=p)  # (b, h, t, n), the probabilities again
        dx = empty(xp, p.shape, p.dtype)
        xp.matmul(dy_rows, v[..., seen, :].swapaxes(-1, -2), out=dx)
        drop(xp, dx, rows, n_queries, n_keys, s)
        dx -= row_dot(xp, dy_rows, y[..., rows, :])  # delta
        dx *= p
        if all_dx is not None:
            all_dx[..., rows, seen] = dx
        xp.matmul(dx, k[..., seen, :], out=dq[..., rows, :])
        dq[..., rows, :] *= s.scale
        drop(xp, p, rows, n_queries, n_keys, s)
        for target, left, right in ((dk, dx, scaled_q), (dv, p, dy_rows)):
            if number == 0:
                xp.matmul(left.swapaxes(-1, -2), right, out=target)
            else:
                target[..., seen, :] += xp.matmul(left.swapaxes(-1, -2), right)


def attention_composed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    mask: Any = None,
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


def _samples(rng: np.random.Generator) -> list[Any]:
    def qkv(t: int, s: int) -> list[Any]:
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


def _scale_forgotten(ctx: Any, dy: Array) -> Any:
    dq, *others = true_gradient(ctx, dy)
    return dq / ctx.settings.scale, *others


def _softmax_elementwise(ctx: Any, dy: Array) -> Any:
    q, k, v, y, *others = ctx.saved
    ctx.saved = q, k, v, y * 0, *others  # delta becomes 0: the sum in softmax's rule is lost
    return true_gradient(ctx, dy)


@register(
    "scaled_dot_product_attention",
    family="attention",
    samples=_samples,
    wrong={"scale forgotten": _scale_forgotten, "softmax's sum forgotten": _softmax_elementwise},
    composed=attention_composed,
    kernel="attention",
)
class ScaledDotProductAttention(Function):
    """y = P v,   P = softmax(x),   x = scale q k^T,   scale = 1 / sqrt D   (in each batch, head)

    Backwards through the three steps, with the rules of matmul and softmax:

        dv = P^T dy                         dP = dy v^T
        dx_ij = P_ij (dP_ij - delta_i)      delta_i = sum_j P_ij dP_ij
        dq = scale dx k                     dk = scale dx^T q

    A mask of numbers is added to x, so its gradient is dx, summed over the axes along which the
    mask was repeated (learned biases of relative positions are such masks).

    delta needs no P: sum_j P_ij (dy_i . v_j) = dy_i . (sum_j P_ij v_j) = dy_i . y_i. And P
    itself comes back from logsum_i = log sum_j e^(x_ij), kept from the forward pass, as
    P_ij = e^(x_ij - logsum_i): so nothing of size (T, S) is kept. Dropout multiplies P by m on
    the way to y: then dv = (P m)^T dy, and dP is multiplied by the same m.

    Hidden keys have x = -inf and P = 0. A row that sees no key gives 0 and has gradient 0.

    Shapes: q (..., T, D), k (..., S, D), v (..., S, D); y (..., T, D). mask broadcasts to
    (..., T, S): boolean, True where a query sees a key (as in PyTorch), or numbers to be added.
    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.1; the backward pass
    by logsum and delta: Dao et al., "FlashAttention", 2022, section 3.1 and appendix B.
    """

    fresh = True
    mask_like: Any = None  # shape and type of a mask that wants its gradient

    def forward(
        ctx,
        q: Array,
        k: Array,
        v: Array,
        causal: bool = False,
        mask: Any = None,
        dropout_p: float = 0.0,
        scale: float | None = None,
        key: Key | None = None,
    ) -> Array:
        require_float(ctx.name, q, k, v)
        check_shapes(q, k, v, causal)
        xp, ctx.shapes, ctx.dtype = ctx.xp, (q.shape, k.shape), q.dtype
        work = accumulate_dtype(q.dtype)
        if len(ctx.needs) > 4 and ctx.needs[4]:
            ctx.mask_like = mask.shape, mask.dtype
        mask = as_mask(xp, mask, (*q.shape[:-1], k.shape[-2]))
        q, k, v = (with_two_batch_axes(x.astype(work, copy=False)) for x in (q, k, v))
        ctx.settings = make_settings(
            ctx.name,
            xp,
            q.shape,
            default_scale(q) if scale is None else float(scale),
            causal,
            None if mask is None else with_two_batch_axes(mask),
            dropout_p,
            key,
        )
        y = empty(xp, q.shape, q.dtype)
        logsum = attention_forward(xp, q, k, v, ctx.settings, y)
        if ctx.requires_grad:
            ctx.save(q, k, v, y, logsum, mask)
        return y.astype(ctx.dtype, copy=False).reshape(ctx.shapes[0])

    def backward(ctx, dy: Array) -> Any:
        q, k, v, y, logsum, _ = ctx.saved
        dq, dk, dv = (empty(ctx.xp, x.shape, x.dtype) for x in (q, k, v))
        dx = ctx.xp.zeros((*logsum.shape, k.shape[-2]), q.dtype) if ctx.mask_like else None
        dy = with_two_batch_axes(dy.astype(q.dtype, copy=False))
        attention_backward(ctx.xp, dy, q, k, v, y, logsum, ctx.settings, dq, dk, dv, dx)
        q_shape, k_shape = ctx.shapes
        grads = [
            g.astype(ctx.dtype, copy=False).reshape(shape)
            for g, shape in ((dq, q_shape), (dk, k_shape), (dv, k_shape))
        ]
        if dx is None:
            return (*grads, None, None)[: len(ctx.needs)]
        dx = dx.reshape(*q_shape[:-1], k_shape[-2])
        return (*grads, None, unbroadcast(dx, *ctx.mask_like))
