"""Kernel twins of what works on rows or elements: layer_norm, softmax, gelu, dropout."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Key, default_generator
from tinygrad_llm.ops._dispatch import KernelTwin, kernels, twin_of, why_not
from tinygrad_llm.ops.dropout import Dropout, check_probability
from tinygrad_llm.ops.gelu import Gelu
from tinygrad_llm.ops.layer_norm import AddLayerNorm, LayerNorm, check_affine
from tinygrad_llm.ops.softmax import Softmax


@twin_of(LayerNorm)
class LayerNormKernel(KernelTwin, LayerNorm):
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


@twin_of(AddLayerNorm)
class AddLayerNormKernel(KernelTwin, AddLayerNorm):
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


@twin_of(Softmax)
class SoftmaxKernel(KernelTwin, Softmax):
    """softmax over the last axis through kernels/softmax_kernel.py."""

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        x = arrays[0]
        if kwargs.get("axis", -1) not in (-1, x.ndim - 1):
            return "the kernel works along the last axis"
        return super().refusal(arrays, kwargs) or why_not(kernels().softmax.supports(x))

    def forward(ctx, x: Array, axis: int = -1) -> Array:
        y = kernels().softmax(x)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Any:
        (y,) = ctx.saved
        return kernels().softmax_backward(dy, y)


@twin_of(Gelu)
class GeluKernel(KernelTwin, Gelu):
    """gelu through kernels/gelu_kernel.py, without a bias."""

    def forward(ctx, x: Array, approximate: str = "tanh") -> Array:
        ctx.approximate = approximate
        ctx.save(x)
        return kernels().bias_gelu(x, None, approximate)

    def backward(ctx, dy: Array) -> Any:
        (x,) = ctx.saved
        return kernels().bias_gelu_backward(dy, x, None, ctx.approximate)[0]


@twin_of(Dropout)
class DropoutKernel(KernelTwin, Dropout):
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
