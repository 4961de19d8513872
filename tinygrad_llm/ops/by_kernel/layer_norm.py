"""layer_norm and add_layer_norm by kernels/layer_norm_kernel.py."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.add_layer_norm import AddLayerNorm
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of, why_not
from tinygrad_llm.ops.layer_norm import LayerNorm, check_affine


@kernel_version_of(LayerNorm)
class LayerNormKernel(KernelVersion, LayerNorm):
    """layer_norm through kernels/layer_norm_kernel.py."""

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        return super().refusal(arrays, kwargs) or why_not(
            kernels().layer_norm.supports(*arrays, **kwargs)
        )

    def forward(ctx, x: Array, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Array:
        check_affine(ctx.name, x, weight, bias)
        y, mean, rstd = kernels().layer_norm(x, weight, bias, eps)
        ctx.save(x, weight, mean, rstd)
        return y

    def backward(ctx, dy: Array) -> Any:
        x, weight, mean, rstd = ctx.saved
        grads = kernels().layer_norm_backward(
            dy, x, weight, mean, rstd, sums_dtype=ctx.gradient_dtype(1)
        )
        return tuple(g if need else None for g, need in zip(grads, ctx.needs, strict=False))


@kernel_version_of(AddLayerNorm)
class AddLayerNormKernel(KernelVersion, AddLayerNorm):
    """add_layer_norm through kernels/layer_norm_kernel.py: one pass over memory for both."""

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        return super().refusal(arrays, kwargs) or why_not(
            kernels().add_layer_norm.supports(*arrays, **kwargs)
        )

    def forward(
        ctx, x: Array, residual: Array, weight: Any = None, bias: Any = None, eps: float = 1e-5
    ) -> tuple[Array, Array]:
        s, y, mean, rstd = kernels().add_layer_norm(x, residual, weight, bias, eps)
        ctx.save(s, weight, mean, rstd)
        return s, y

    def backward(ctx, ds: Array | None, dy: Array | None) -> Any:
        if dy is None:
            return (ds, ds, None, None)[: len(ctx.needs)]
        s, weight, mean, rstd = ctx.saved
        dx, dw, db = kernels().layer_norm_backward(
            dy, s, weight, mean, rstd, ds, sums_dtype=ctx.gradient_dtype(2)
        )
        grads = (dx, dx, dw, db)
        return tuple(g if need else None for g, need in zip(grads, ctx.needs, strict=False))
