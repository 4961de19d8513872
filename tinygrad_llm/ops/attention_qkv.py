"""Causal self-attention on the packed q, k, v as one linear layer gives them: GPT's own form."""

from __future__ import annotations

from tinygrad_llm.autograd import Function, Tensor, prove, register, sample, true_gradient
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.compute import empty, empty_like
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float
from tinygrad_llm.backend.random import Key
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops._attention_blocks import headwise, make_settings
from tinygrad_llm.ops.attention import attention_backward, attention_composed, attention_forward


@register("attention_qkv", family="attention", kernel="attention")
class AttentionQKV(Function):
    """y = probs v,   probs = softmax(q k^T / sqrt D)   (in each head, of one packed [q k v])

    Head h owns columns h D .. (h+1) D - 1 of each of q, k and v. Splitting and joining move
    numbers and compute nothing, so the derivative is that of `ScaledDotProductAttention`, read
    from and written to the same places:

        dqkv = [dq dk dv]

    Instead of moving anything, the heads are strided views of the packed arrays.

    Shapes: qkv (B, T, 3C) with C = H D; y (B, T, C).
    Source: Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2; the packing is
    that of GPT-2's c_attn.
    """

    fresh = True

    def forward(
        ctx,
        qkv: Array,
        n_head: int,
        causal: bool = True,
        dropout_p: float = 0.0,
        key: Key | None = None,
    ) -> Array:
        check_qkv(qkv, n_head)
        b, t, width = qkv.shape
        ctx.n_head, ctx.dtype = n_head, qkv.dtype
        qkv = qkv.astype(accumulate_dtype(qkv.dtype), copy=False)
        q, k, v = heads(qkv, 3, n_head)  # each (B, H, T, D)
        ctx.settings = make_settings("attention_qkv", ctx.xp, q, None, causal, None, dropout_p, key)
        y = empty(ctx.xp, (b, t, width // 3), qkv.dtype)
        logsum = empty(ctx.xp, q.shape[:3], qkv.dtype)
        headwise(ctx.xp, attention_forward, (q, k, v), ctx.settings, (*heads(y, 1, n_head), logsum))
        if ctx.requires_grad:
            ctx.save(qkv, y, logsum)
        return y.astype(ctx.dtype, copy=False)

    def backward(ctx, dy: Array) -> Array:
        qkv, y, logsum = ctx.saved
        dqkv = empty_like(ctx.xp, qkv)
        q, k, v = heads(qkv, 3, ctx.n_head)
        dq, dk, dv = heads(dqkv, 3, ctx.n_head)
        (y4,), (dy4,) = (heads(a.astype(qkv.dtype, copy=False), 1, ctx.n_head) for a in (y, dy))
        ins = (q, k, v, y4, logsum, dy4)  # each (B, H, T, D), logsum (B, H, T)
        headwise(ctx.xp, attention_backward, ins, ctx.settings, (dq, dk, dv, None))
        return dqkv.astype(ctx.dtype, copy=False)


def heads(packed: Array, n_parts: int, n_head: int) -> list[Array]:
    """The ``n_parts`` parts of packed (B, T, n_parts C), each as a view (B, H, T, D)."""
    b, t, width = packed.shape
    parts = packed.reshape(b, t, n_parts, n_head, width // (n_parts * n_head))
    return [parts[:, :, i].swapaxes(1, 2) for i in range(n_parts)]


def attention_qkv_composed(
    qkv: Tensor, n_head: int, causal: bool = True, dropout_p: float = 0.0, key: Key | None = None
) -> Tensor:
    """Split, attend, put the heads back side by side: in small ops."""
    b, t, width = qkv.shape
    parts = qkv.reshape(b, t, 3, n_head, width // 3 // n_head).transpose(2, 0, 3, 1, 4)
    y = attention_composed(parts[0], parts[1], parts[2], causal, dropout_p=dropout_p, key=key)
    return y.transpose(0, 2, 1, 3).reshape(b, t, width // 3)


def check_qkv(qkv: Array, n_head: int) -> None:
    """Raise an error unless qkv are floats (B, T, 3 C) that n_head heads share evenly."""
    require_float("attention_qkv", qkv)
    if qkv.ndim != 3 or n_head < 1 or qkv.shape[-1] % (3 * n_head):
        raise ShapeError(
            f"attention_qkv: qkv must be (B, T, 3 C) with C divisible by n_head={n_head}, "
            f"got {qkv.shape}."
        )


def _k_and_v_exchanged(ctx: AttentionQKV, dy: Array) -> Array:
    dqkv = true_gradient(ctx, dy)
    c = dqkv.shape[-1] // 3
    return ctx.xp.concatenate([dqkv[..., :c], dqkv[..., 2 * c :], dqkv[..., c : 2 * c]], axis=-1)


prove(
    "attention_qkv",
    samples=lambda rng: [
        sample(rng.normal(size=(2, 5, 24)), n_head=2, label="causal"),
        sample(rng.normal(size=(1, 4, 9)), n_head=3, causal=False, label="heads of size 1"),
        sample(rng.normal(size=(2, 3, 12)), n_head=1, dropout_p=0.4, key=(3, 4), label="dropout"),
    ],
    wrong={"k and v exchanged": _k_and_v_exchanged},
    composed=attention_qkv_composed,
)
