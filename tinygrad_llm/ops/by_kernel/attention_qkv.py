"""attention_qkv by a kernel: the scores never reach memory."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Key
from tinygrad_llm.ops.attention_qkv import AttentionQKV
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of, why_not
from tinygrad_llm.ops.by_kernel.attention import drawn_dropout


@kernel_version_of(AttentionQKV)
class AttentionQKVKernel(KernelVersion, AttentionQKV):
    """attention_qkv through kernels/attention_kernel/, its gradients included."""

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
        p, key = drawn_dropout(ctx.name, dropout_p, key)
        y, lse = kernels().attention_qkv(qkv, n_head, causal, p, key)
        ctx.options = (n_head, causal, p, key)
        ctx.save(qkv, y, lse)
        return y

    def backward(ctx, dy: Array) -> Any:
        qkv, y, lse = ctx.saved
        return kernels().attention_qkv_backward(
            dy, qkv, y, lse, *ctx.options, deterministic=current.deterministic
        )
