"""attention_qkv by a kernel: the scores never reach memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Key
from tinygrad_llm.ops.attention_qkv import AttentionQKV
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.by_kernel.dropout import drawn_dropout, drops_all


@kernel_version_of(AttentionQKV)
class AttentionQKVKernel(KernelVersion, AttentionQKV):
    """attention_qkv, which reads and writes packed projections where they lie."""

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        return (
            super().refusal(given)
            or drops_all(given.get("dropout_p", 0.0))
            or kernels().attention_qkv.supports(given["qkv"], given["n_head"])
        )

    def forward(
        ctx,
        qkv: Array,
        n_head: int,
        causal: bool = True,
        dropout_p: float = 0.0,
        key: Key | None = None,
    ) -> Array:
        p, key = drawn_dropout(ctx.name, dropout_p, key)
        y, logsum = kernels().attention_qkv.unchecked(qkv, n_head, causal, p, key)
        ctx.options = (n_head, causal, p, key)
        ctx.save(qkv, y, logsum)
        return y

    def backward(ctx, dy: Array) -> Array:
        qkv, y, logsum = ctx.saved
        return kernels().attention_qkv_backward.unchecked(
            dy, qkv, y, logsum, *ctx.options, deterministic=current.deterministic
        )
