"""layer_norm by kernels/layer_norm_kernel.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.layer_norm import LayerNorm


@kernel_version_of(LayerNorm)
class LayerNormKernel(KernelVersion, LayerNorm):
    """layer_norm, keeping the statistics of each row."""

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        return super().refusal(given) or kernels().layer_norm.supports(**given)

    def forward(
        ctx, x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
    ) -> Array:
        y, mean, rstd = kernels().layer_norm.unchecked(x, weight, bias, eps)
        ctx.save(x, weight, mean, rstd)
        return y

    def backward(ctx, dy: Array) -> tuple[Array | None, ...]:
        x, weight, mean, rstd = ctx.saved
        grads = kernels().layer_norm_backward.unchecked(
            dy, x, weight, mean, rstd, sums_dtype=ctx.gradient_dtype(1)
        )
        return tuple(g if need else None for g, need in zip(grads, ctx.needs, strict=False))
