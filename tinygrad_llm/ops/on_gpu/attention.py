"""Kernel twins of attention: the scores never reach memory."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.modes import state
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Key, default_generator
from tinygrad_llm.ops._dispatch import KernelTwin, kernels, twin_of, why_not
from tinygrad_llm.ops.attention import ScaledDotProductAttention
from tinygrad_llm.ops.attention_qkv import AttentionQKV
from tinygrad_llm.ops.dropout import check_probability


def _dropout(op: str, p: float, key: Key | None) -> tuple[float, Key | None]:
    p = check_probability(op, p)
    return p, default_generator().next_key() if p and key is None else key


@twin_of(AttentionQKV)
class AttentionQKVKernel(KernelTwin, AttentionQKV):
    """attention_qkv through kernels/attention_kernel.py and attention_gradients.py."""

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        supports = kernels().attention_qkv.supports
        options = {**kwargs, "key": (0, 0)}  # drawn later, where the caller gave none
        return super().refusal(arrays, kwargs) or why_not(supports(arrays[0], **options))

    def forward(
        ctx,
        qkv: Array,
        n_head: int,
        causal: bool = True,
        dropout_p: float = 0.0,
        key: Key | None = None,
    ) -> Array:
        p, key = _dropout(ctx.name, dropout_p, key)
        y, lse = kernels().attention_qkv(qkv, n_head, causal, p, key)
        ctx.options = (n_head, causal, p, key)
        ctx.save(qkv, y, lse)
        return y

    def backward(ctx, dy: Array) -> Any:
        qkv, y, lse = ctx.saved
        return kernels().attention_qkv_backward(
            dy, qkv, y, lse, *ctx.options, deterministic=state.deterministic
        )


@twin_of(ScaledDotProductAttention)
class AttentionKernel(KernelTwin, ScaledDotProductAttention):
    """scaled_dot_product_attention through kernels/attention_kernel.py and its decode path."""

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        given = {**dict(zip(("causal", "mask"), arrays[3:], strict=False)), **kwargs}
        if given.get("mask") is not None:
            return "the kernel knows the causal mask only; other masks take the array code"
        options = {n: given[n] for n in ("causal", "scale", "dropout_p") if n in given}
        refused = kernels().attention.supports(*arrays[:3], **options, key=(0, 0))
        return super().refusal(arrays, kwargs) or why_not(refused)

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
        p, key = _dropout(ctx.name, dropout_p, key)
        if q.shape[2] == 1 and not p and not ctx.requires_grad:  # decoding: every key is visible
            return kernels().attention_decode(q, k, v, scale=scale)
        y, lse = kernels().attention(q, k, v, causal, scale, p, key)
        ctx.options = (causal, scale, p, key)
        ctx.save(q, k, v, y, lse)
        return y

    def backward(ctx, dy: Array) -> Any:
        q, k, v, y, lse = ctx.saved
        grads = kernels().attention_backward(
            dy, q, k, v, y, lse, *ctx.options, deterministic=state.deterministic
        )
        return (*grads, None, None)[: len(ctx.needs)]
