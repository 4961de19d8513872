"""scaled_dot_product_attention by a kernel: the scores never reach memory."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Key, default_generator
from tinygrad_llm.ops.attention import ScaledDotProductAttention
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of, why_not
from tinygrad_llm.ops.dropout import check_probability


@kernel_version_of(ScaledDotProductAttention)
class AttentionKernel(KernelVersion, ScaledDotProductAttention):
    """scaled_dot_product_attention through kernels/attention_kernel/ and its decode path."""

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
        p, key = drawn_dropout(ctx.name, dropout_p, key)
        if q.shape[2] == 1 and not p and not ctx.requires_grad:  # decoding: every key is visible
            return kernels().attention_decode(q, k, v, scale=scale)
        y, lse = kernels().attention(q, k, v, causal, scale, p, key)
        ctx.options = (causal, scale, p, key)
        ctx.save(q, k, v, y, lse)
        return y

    def backward(ctx, dy: Array) -> Any:
        q, k, v, y, lse = ctx.saved
        grads = kernels().attention_backward(
            dy, q, k, v, y, lse, *ctx.options, deterministic=current.deterministic
        )
        return (*grads, None, None)[: len(ctx.needs)]


def drawn_dropout(op: str, p: float, key: Key | None) -> tuple[float, Key | None]:
    p = check_probability(op, p)
    return p, default_generator().next_key() if p and key is None else key
