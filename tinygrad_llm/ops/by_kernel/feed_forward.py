"""feed_forward by cuBLAS (kernels/products/linear.py): six products, nothing beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.compute import as_rows
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.by_kernel.linear import bias_target, layer_gradients
from tinygrad_llm.ops.feed_forward import FeedForward, check_feed_forward_shapes


@kernel_version_of(FeedForward)
class FeedForwardKernel(KernelVersion, FeedForward):
    """feed_forward through kernels/products/linear.py: biases, GELU and sums ride along."""

    ran = "cublas"

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        x, w2 = given["x"], given["w2"]
        if x.dtype != w2.dtype:
            return f"x is {x.dtype} and the second weight is {w2.dtype}"
        first_layer = as_rows(x), given["w1"], given["b1"]
        return super().refusal(given) or kernels().linear.supports(*first_layer)

    def forward(ctx, x: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Array:
        check_feed_forward_shapes(x, w1, b1, w2, b2)
        rows, ctx.x_shape = as_rows(x), x.shape  # (N, C)
        z, a = kernels().linear_gelu.unchecked(rows, w1, b1)  # (N, H)
        if ctx.requires_grad:
            ctx.keep(rows, w1, a, w2, z)
        return kernels().linear.unchecked(a, w2, b2).reshape(*x.shape[:-1], len(w2))

    def backward(ctx, dy: Array) -> tuple[Array | None, ...]:
        rows, w1, a, w2, z = ctx.saved
        x_needs, w1_needs, b1_needs = ctx.needs[:3]
        dy = ctx.xp.ascontiguousarray(as_rows(dy))  # (N, O)
        dw2, db2 = layer_gradients(ctx, dy, a, 3)
        if not (x_needs or w1_needs or b1_needs):
            return None, None, None, dw2, db2
        db1, dtype = bias_target(ctx, 2) if b1_needs else (None, None)
        dz, db1 = kernels().linear_gelu_backward.unchecked(dy, w2, z, db1, dtype)  # (N, H), (H,)
        dw1 = dx = None
        if w1_needs:
            out, accumulate = ctx.gradient_target(1)
            dw1 = kernels().matmul.unchecked(dz, rows, out, transpose_a=True, accumulate=accumulate)
        if x_needs:
            dx = kernels().matmul.unchecked(dz, w1).reshape(ctx.x_shape)
        return dx, dw1, db1 if b1_needs else None, dw2, db2
