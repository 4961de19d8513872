"""dropout by kernels/dropout_kernel.py."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Key, default_generator
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.dropout import Dropout, check_probability


@kernel_version_of(Dropout)
class DropoutKernel(KernelVersion, Dropout):
    """dropout through kernels/dropout_kernel.py: the same bits as `backend.random`."""

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        if kwargs.get("p", 0.5) >= 1:
            return "p = 1 leaves nothing to compute"
        return super().refusal(arrays, kwargs)

    def forward(
        ctx, x: Array, p: float = 0.5, training: bool = True, key: Key | None = None
    ) -> Array:
        ctx.p = check_probability("dropout", p)
        ctx.active = training and p > 0
        if not ctx.active:
            return x
        ctx.key = default_generator().next_key() if key is None else key
        return kernels().dropout(x, p, ctx.key)

    def backward(ctx, dy: Array) -> Any:
        return kernels().dropout_backward(dy, ctx.p, ctx.key) if ctx.active else dy
