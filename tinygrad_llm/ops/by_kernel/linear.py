"""linear by cuBLAS (kernels/products/linear.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function
from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.compute import as_rows
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.linear import Linear


@kernel_version_of(Linear)
class LinearKernel(KernelVersion, Linear):
    """linear through cuBLAS: low precision in, sums in float32, dweight added where it belongs."""

    ran = "cublas"

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        rows = {**given, "x": as_rows(given["x"])}
        return super().refusal(given) or kernels().linear.supports(**rows)

    def forward(ctx, x: Array, weight: Array, bias: Array | None = None) -> Array:
        ctx.x_shape = x.shape
        if ctx.requires_grad:
            ctx.save(x if ctx.needs[1] else None, weight if ctx.needs[0] else None)
        y = kernels().linear.unchecked(as_rows(x), weight, bias)  # (N, out)
        return y.reshape(*x.shape[:-1], len(weight))

    def backward(ctx, dy: Array) -> tuple[Array | None, ...]:
        x, weight = ctx.saved
        rows = None if x is None else as_rows(x)  # (N, in)
        dy = ctx.xp.ascontiguousarray(as_rows(dy))  # (N, out)
        dx = kernels().matmul.unchecked(dy, weight).reshape(ctx.x_shape) if ctx.needs[0] else None
        return (dx, *layer_gradients(ctx, dy, rows, 1))[: len(ctx.needs)]


def layer_gradients(
    ctx: Function, dy: Array, x: Array | None, index: int
) -> tuple[Array | None, Array | None]:
    """Gradients of a layer's weight (argument ``index``) and bias (the next), where wanted.

    Both come from one product of dy (N, out) and x (N, in), in the type in which the optimizer
    sums gradients.
    """
    weight_needs, bias_needs = (*ctx.needs[index : index + 2], False)[:2]
    out, accumulate = ctx.gradient_target(index) if weight_needs else (None, False)
    dbias, dtype = bias_target(ctx, index + 1) if bias_needs else (None, None)
    if weight_needs and bias_needs:
        return kernels().linear_backward_weight.unchecked(dy, x, out, accumulate, dbias, dtype)
    if bias_needs:
        return None, kernels().column_sum.unchecked(dy, dtype)
    if not weight_needs:
        return None, None
    dweight = kernels().matmul.unchecked(dy, x, out, transpose_a=True, accumulate=accumulate)
    return dweight, None


def bias_target(ctx: Function, index: int) -> tuple[Array | None, np.dtype | None]:
    """Where the gradient of a bias may be written, and its type; None and None for any.

    The kernels overwrite it. What is there already is added by the engine.
    """
    target, accumulate = ctx.gradient_target(index)
    return None if accumulate else target, None if target is None else target.dtype
