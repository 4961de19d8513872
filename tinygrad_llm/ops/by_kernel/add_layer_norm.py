"""add_layer_norm by kernels/layer_norm_kernel.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.add_layer_norm import AddLayerNorm
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of


@kernel_version_of(AddLayerNorm)
class AddLayerNormKernel(KernelVersion, AddLayerNorm):
    """add_layer_norm: one pass over memory for both."""

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        return super().refusal(given) or kernels().add_layer_norm.supports(**given)

    def forward(
        ctx,
        x: Array,
        residual: Array,
        weight: Array | None = None,
        bias: Array | None = None,
        eps: float = 1e-5,
    ) -> tuple[Array, Array]:
        s, y, mean, rstd = kernels().add_layer_norm.unchecked(x, residual, weight, bias, eps)
        ctx.save(s, weight, mean, rstd)
        return s, y

    def backward(ctx, ds: Array | None, dy: Array | None) -> tuple[Array | None, ...]:
        if dy is None:
            return (ds, ds, None, None)[: len(ctx.needs)]
        s, weight, mean, rstd = ctx.saved
        dx, dweight, dbias = kernels().layer_norm_backward.unchecked(
            dy, s, weight, mean, rstd, ds, sums_dtype=ctx.gradient_dtype(2)
        )
        grads = (dx, dx, dweight, dbias)
        return tuple(g if need else None for g, need in zip(grads, ctx.needs, strict=False))
