"""Scaled dot-product attention, forward and backward, a block of query rows at a time.

The (T, S) matrix of probabilities is the only large thing in attention. It is never kept: the
forward pass keeps one number per row, the logarithm of the softmax's denominator, from which the
backward pass computes the probabilities again. In causal attention a block looks at no more
keys than its last row may see, so that half of the work is not done at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample, true_gradient
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.random import Key, default_generator, drop_threshold, hash_counters
from tinygrad_llm.errors import DTypeError, ShapeError
from tinygrad_llm.ops.dropout import check_probability, dropout_composed

BLOCK_ROWS = 128


@dataclass(frozen=True)
class Settings:
    """What besides q, k and v determines the result.

    Attributes:
        scale: factor of the scores, usually 1 / sqrt(D).
        causal: query i sees keys 0 .. i + S - T only.
        mask: None, or True where a query sees a key, or numbers to add; (..., T, S).
        dropout_p: probability of dropping a probability.
        key: of the random bits.
        first_row: C-order number of the first (..., T) row, where a part of a batch is computed.
    """

    scale: float
    causal: bool = False
    mask: Array | None = None
    dropout_p: float = 0.0
    key: Key = (0, 0)
    first_row: int = 0


def attention_forward(
    xp: ArrayModule, q: Array, k: Array, v: Array, s: Settings, out: Array
) -> Array:
    """Write attention of q (..., T, D), k and v (..., S, D) to ``out`` (..., T, D).

    Returns:
        logsum (..., T): the logarithm of each row's softmax denominator; 0 where a row sees
        no key, whose output is 0.
    """
    logsum = xp.empty(q.shape[:-1], q.dtype)  # (..., T)
    for rows, seen in blocks(q.shape[-2], k.shape[-2], s.causal):
        p = scores(xp, q, k, rows, seen, s)  # (..., t, n)
        top = p.max(axis=-1, keepdims=True)
        top = xp.where(top == -xp.inf, xp.zeros_like(top), top)
        p -= top
        xp.exp(p, out=p)
        total = p.sum(axis=-1, keepdims=True)  # (..., t, 1)
        total = xp.where(total == 0, xp.ones_like(total), total)
        logsum[..., rows] = (top + xp.log(total))[..., 0]
        p /= total
        drop(xp, p, rows, k.shape[-2], q.shape[-2], s)
        out[..., rows, :] = xp.matmul(p, v[..., seen, :])
    return logsum


def attention_backward(
    xp: ArrayModule, dy: Array, q: Array, k: Array, v: Array, y: Array, logsum: Array,
    s: Settings, dq: Array, dk: Array, dv: Array,
) -> None:  # fmt: skip
    """Write the gradients of q, k and v to ``dq``, ``dk`` and ``dv``."""
    delta = (dy * y).sum(axis=-1, keepdims=True)  # (..., T, 1)
    dk[...] = 0
    dv[...] = 0
    for rows, seen in blocks(q.shape[-2], k.shape[-2], s.causal):
        p = scores(xp, q, k, rows, seen, s)
        p -= logsum[..., rows, None]
        xp.exp(p, out=p)  # (..., t, n), the probabilities again
        dy_rows = dy[..., rows, :]
        ds = xp.matmul(dy_rows, v[..., seen, :].swapaxes(-1, -2))  # (..., t, n)
        drop(xp, ds, rows, k.shape[-2], q.shape[-2], s)
        ds -= delta[..., rows, :]
        ds *= p
        ds *= s.scale
        dq[..., rows, :] = xp.matmul(ds, k[..., seen, :])
        dk[..., seen, :] += xp.matmul(ds.swapaxes(-1, -2), q[..., rows, :])
        drop(xp, p, rows, k.shape[-2], q.shape[-2], s)
        dv[..., seen, :] += xp.matmul(p.swapaxes(-1, -2), dy_rows)


def blocks(n_queries: int, n_keys: int, causal: bool) -> Iterator[tuple[slice, slice]]:
    """Blocks of query rows, each with the keys that some row of it sees."""
    for start in range(0, n_queries, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, n_queries)
        yield slice(start, stop), slice(0, stop + n_keys - n_queries if causal else n_keys)


def scores(xp: ArrayModule, q: Array, k: Array, rows: slice, seen: slice, s: Settings) -> Array:
    """scale q k^T for some rows (..., t, n), with -inf where a query may not look."""
    x = xp.matmul(q[..., rows, :] * s.scale, k[..., seen, :].swapaxes(-1, -2))
    n_rows = rows.stop - rows.start
    if s.causal:  # all but the last n_rows columns are visible to every row of the block
        hidden = ~xp.tri(n_rows, dtype=bool)
        x[..., seen.stop - n_rows :][..., hidden] = -xp.inf
    if s.mask is not None:
        part = s.mask[..., rows, seen]
        if part.dtype == bool:
            x = xp.where(part, x, x.dtype.type(-xp.inf))
        else:
            x += part
    return x


def drop(xp: ArrayModule, x: Array, rows: slice, n_keys: int, n_queries: int, s: Settings) -> None:
    """Dropout on a block (..., t, n), in place; counters as for the whole (..., T, S) array."""
    if not s.dropout_p:
        return
    if s.dropout_p == 1:
        x[...] = 0
        return
    n_batch = math.prod(x.shape[:-2])
    row = xp.arange(n_batch, dtype=xp.int64)[:, None] * n_queries + xp.arange(rows.start, rows.stop)
    counter = (row + s.first_row)[..., None] * n_keys + xp.arange(x.shape[-1])  # (batch, t, n)
    bits = hash_counters(xp, counter.astype(xp.uint32), s.key)
    x *= (bits >= xp.uint32(drop_threshold(s.dropout_p))).reshape(x.shape)
    x *= x.dtype.type(1 / (1 - s.dropout_p))


def attention_composed(
    q: Tensor, k: Tensor, v: Tensor, causal: bool = False, mask: Any = None,
    dropout_p: float = 0.0, scale: float | None = None, key: Key | None = None,
) -> Tensor:  # fmt: skip
    """softmax(q k^T / sqrt D) v in small ops: the whole (T, S) matrix at once."""
    t, n = q.shape[-2], k.shape[-2]
    x = (q @ k.swapaxes(-1, -2)) * (scale or 1 / math.sqrt(q.shape[-1]))  # (..., T, S)
    if causal:
        x = x.masked_fill(~np.tri(t, n, n - t, dtype=bool), -np.inf)
    if mask is not None:
        mask = np.asarray(mask)
        x = x.masked_fill(~mask, -np.inf) if mask.dtype == bool else x + Tensor(mask)
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
        sample(*qkv(4, 4), causal=True, dropout_p=0.4, key=(5, 9), label="dropout"),
        sample(*(rng.normal(size=(6, 4)) for _ in range(3)), label="no batch"),
    ]


def _scale_forgotten(ctx: Any, dy: Array) -> Any:
    dq, dk, dv = true_gradient(ctx, dy)
    return dq / ctx.settings.scale, dk, dv


def _softmax_elementwise(ctx: Any, dy: Array) -> Any:
    q, k, v, y, logsum = ctx.saved
    ctx.saved = q, k, v, y * 0, logsum  # delta becomes 0: the sum in softmax's rule is lost
    return true_gradient(ctx, dy)


@register(
    "scaled_dot_product_attention",
    family="attention",
    samples=_samples,
    wrong={
        "scale forgotten": _scale_forgotten,
        "softmax's sum forgotten": _softmax_elementwise,
    },
    composed=attention_composed,
    kernel="attention",
)
class ScaledDotProductAttention(Function):
    """y = P v,   P = softmax(x),   x = scale q k^T,   scale = 1 / sqrt D   (in each batch, head)

    Backwards through the three steps, with the rules of matmul and softmax:

        dv = P^T dy                         dP = dy v^T
        dx_ij = P_ij (dP_ij - delta_i)      delta_i = sum_j P_ij dP_ij
        dq = scale dx k                     dk = scale dx^T q

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

    def forward(
        ctx, q: Array, k: Array, v: Array, causal: bool = False, mask: Any = None,
        dropout_p: float = 0.0, scale: float | None = None, key: Key | None = None,
    ) -> Array:  # fmt: skip
        _check_shapes(q, k, v, causal)
        p = check_probability("scaled_dot_product_attention", dropout_p)
        if p and key is None:
            key = default_generator().next_key()
        ctx.settings = Settings(
            scale=1 / math.sqrt(q.shape[-1]) if scale is None else float(scale), causal=causal,
            mask=_as_mask(ctx.xp, mask, (*q.shape[:-1], k.shape[-2])),
            dropout_p=p, key=key or (0, 0),
        )  # fmt: skip
        ctx.dtype = q.dtype
        q, k, v = (x.astype(accumulate_dtype(x.dtype), copy=False) for x in (q, k, v))
        y = ctx.xp.empty(q.shape, q.dtype)
        logsum = attention_forward(ctx.xp, q, k, v, ctx.settings, y)
        if ctx.requires_grad:
            ctx.save(q, k, v, y, logsum)
        return y.astype(ctx.dtype, copy=False)

    def backward(ctx, dy: Array) -> Any:
        q, k, v, y, logsum = ctx.saved
        gradients = [ctx.xp.empty(x.shape, x.dtype) for x in (q, k, v)]
        dy = dy.astype(q.dtype, copy=False)
        attention_backward(ctx.xp, dy, q, k, v, y, logsum, ctx.settings, *gradients)
        return tuple(g.astype(ctx.dtype, copy=False) for g in gradients)


def _check_shapes(q: Array, k: Array, v: Array, causal: bool) -> None:
    op = "scaled_dot_product_attention"
    fits = (
        q.ndim >= 2 and k.shape == v.shape and q.ndim == k.ndim
        and q.shape[:-2] == k.shape[:-2] and q.shape[-1] == k.shape[-1]
    )  # fmt: skip
    if not fits:
        raise ShapeError(
            f"{op}: q {q.shape}, k {k.shape} and v {v.shape} do not fit. Expected "
            "q (B, H, T, D) and k, v (B, H, S, D)."
        )
    if causal and k.shape[-2] < q.shape[-2]:
        raise ShapeError(
            f"{op}: causal needs at least as many keys as queries, got {k.shape[-2]} keys for "
            f"{q.shape[-2]} queries."
        )


def _as_mask(xp: ArrayModule, mask: Any, shape: tuple[int, ...]) -> Array | None:
    """The mask as a view of the scores' ``shape``."""
    if mask is None:
        return None
    mask = xp.asarray(mask.data if isinstance(mask, Tensor) else mask)
    if mask.dtype.kind in "iu":
        raise DTypeError(
            "scaled_dot_product_attention: mask must be boolean (True where a query sees a key) "
            f"or floating-point numbers to add, got {mask.dtype}. Use mask != 0."
        )
    try:
        return xp.broadcast_to(mask, shape)
    except ValueError:
        raise ShapeError(
            f"scaled_dot_product_attention: mask of shape {mask.shape} does not broadcast to the "
            f"scores' shape {shape}."
        ) from None
