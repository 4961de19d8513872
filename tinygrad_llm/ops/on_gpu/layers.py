"""Kernel twins of the layers with parameters: linear through cuBLAS, embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops._dispatch import KernelTwin, kernels, twin_of, why_not
from tinygrad_llm.ops._ids import as_ids
from tinygrad_llm.ops.embedding import Embedding
from tinygrad_llm.ops.linear import Linear, check_linear_shapes


@twin_of(Linear)
class LinearKernel(KernelTwin, Linear):
    """linear through cuBLAS: low precision in, sums in float32, dW added where it belongs."""

    ran = "cublas"

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        x, weight = arrays[:2]
        if x.dtype != weight.dtype:
            return f"x is {x.dtype} and weight is {weight.dtype}"
        rows = x.reshape(-1, x.shape[-1])
        return super().refusal(arrays, kwargs) or why_not(
            kernels().matmul.supports(rows, weight, transpose_b=True)
        )

    def forward(ctx, x: Array, weight: Array, bias: Array | None = None) -> Array:
        check_linear_shapes(ctx.name, x, weight, bias)
        ctx.save(x, weight)
        rows = x.reshape(-1, x.shape[-1])  # (N, in)
        y = None if bias is None or ctx.xp is np else kernels().linear_with_bias(rows, weight, bias)
        if y is None:
            y = kernels().matmul(rows, weight, transpose_b=True)  # (N, out)
            if bias is not None:
                y += bias
        return y.reshape(*x.shape[:-1], weight.shape[0])

    def backward(ctx, dy: Array) -> Any:
        x, weight = ctx.saved
        matmul, needs = kernels().matmul, ctx.needs
        dy = ctx.xp.ascontiguousarray(dy.reshape(-1, dy.shape[-1]))  # (N, out)
        dx = matmul(dy, weight).reshape(x.shape) if needs[0] else None
        dw = db = None
        if needs[1]:
            out, accumulate = ctx.gradient_target(1)
            rows = x.reshape(-1, x.shape[-1])  # (N, in)
            dw = matmul(dy, rows, out=out, transpose_a=True, accumulate=accumulate)
        if len(needs) > 2 and needs[2]:
            target, _ = ctx.gradient_target(2)  # float32 where the optimizer sums gradients so
            db = kernels().column_sum(dy, dy.dtype if target is None else target.dtype)
        return (dx, dw, db)[: len(needs)]


@twin_of(Embedding)
class EmbeddingKernel(KernelTwin, Embedding):
    """embedding through kernels/embedding_kernel.py; its backward sorts, so the bits repeat."""

    @classmethod
    def choose(cls, plain: type[Function], arrays: list[Any], kwargs: dict[str, Any]) -> Any:
        return super().choose(plain, arrays[::-1], kwargs)  # where the table lies, not the ids

    def forward(ctx, ids: Any, weight: Array) -> Array:
        if weight.ndim != 2:
            raise ShapeError(f"embedding: weight must be (V, C), got shape {weight.shape}.")
        ids = as_ids("embedding", ctx.xp, ids, weight.shape[0])
        ctx.table = weight.shape[0], weight.dtype
        ctx.save(ids)
        return kernels().embedding(ids, weight)

    def backward(ctx, dy: Array) -> Any:
        (ids,) = ctx.saved
        rows, dtype = ctx.table
        out, accumulate = ctx.gradient_target(1)
        if out is not None and not accumulate:
            out.fill(0)
        dw = kernels().embedding_backward(dy, ids, rows, out=out)
        return None, dw if dw.dtype == dtype or out is not None else dw.astype(dtype)
