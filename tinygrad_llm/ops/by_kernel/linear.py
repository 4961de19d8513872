"""linear by cuBLAS (kernels/products/)."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd import Function
from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.compute import as_rows
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of, why_not
from tinygrad_llm.ops.linear import Linear, check_linear_shapes


@kernel_version_of(Linear)
class LinearKernel(KernelVersion, Linear):
    """linear through cuBLAS: low precision in, sums in float32, dW added where it belongs."""

    ran = "cublas"

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        x, *others = arrays
        return super().refusal(arrays, kwargs) or why_not(
            kernels().linear.supports(as_rows(x), *others)
        )

    def forward(ctx, x: Array, weight: Array, bias: Array | None = None) -> Array:
        check_linear_shapes(ctx.name, x, weight, bias)
        ctx.x_shape = x.shape
        if ctx.requires_grad:
            ctx.save(x if ctx.needs[1] else None, weight if ctx.needs[0] else None)
        y = kernels().linear(as_rows(x), weight, bias)  # (N, out)
        return y.reshape(*x.shape[:-1], len(weight))

    def backward(ctx, dy: Array) -> Any:
        x, weight = ctx.saved
        rows = None if x is None else as_rows(x)  # (N, in)
        dy = ctx.xp.ascontiguousarray(as_rows(dy))  # (N, out)
        dx = kernels().matmul(dy, weight).reshape(ctx.x_shape) if ctx.needs[0] else None
        return (dx, *layer_gradients(ctx, dy, rows, 1))[: len(ctx.needs)]


def layer_gradients(ctx: Function, dy: Array, x: Array | None, index: int) -> tuple[Any, Any]:
    """Gradients of a layer's weight (argument ``index``) and bias (the next), where wanted.

    Both come from one product of dy (N, out) and x (N, in), in the type in which the optimizer
    sums gradients.
    """
    weight_needs, bias_needs = (*ctx.needs[index : index + 2], False)[:2]
    out, accumulate = ctx.gradient_target(index) if weight_needs else (None, False)
    db, dtype = bias_target(ctx, index + 1) if bias_needs else (None, None)
    if weight_needs and bias_needs:
        return kernels().linear_backward_weight(dy, x, out, accumulate, db, dtype)
    if bias_needs:
        return None, kernels().column_sum(dy, dtype)
    if not weight_needs:
        return None, None
    return kernels().matmul(dy, x, out=out, transpose_a=True, accumulate=accumulate), None


def bias_target(ctx: Function, index: int) -> tuple[Array | None, Any]:
    """Where the gradient of a bias may be written, and its type; None and None for any.

    The kernels overwrite it. What is there already is added by the engine.
    """
    target, accumulate = ctx.gradient_target(index)
    return None if accumulate else target, None if target is None else target.dtype
