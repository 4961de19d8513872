"""linear_cross_entropy by kernels/linear_cross_entropy_kernel.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.autograd.padding import with_padding
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.cross_entropy import flatten_targets
from tinygrad_llm.ops.linear import check_linear_shapes
from tinygrad_llm.ops.linear_cross_entropy import LinearCrossEntropy

LOGITS_BYTES = 1 << 30  # each chunk adds to dweight once: few large ones move fewer bytes


def rows_at_once(n_rows: int, row_bytes: int) -> int:
    """Rows of logits in a chunk: all chunks of nearly the same size, as few as memory allows."""
    most = max(LOGITS_BYTES // row_bytes, 128)
    chunks = max(1, -(-n_rows // most))
    return -(-n_rows // (chunks * 128)) * 128


@kernel_version_of(LinearCrossEntropy)
class LinearCrossEntropyKernel(KernelVersion, LinearCrossEntropy):
    """linear_cross_entropy through kernels/linear_cross_entropy_kernel.py and cuBLAS.

    The weight's gradient is added up in float32. Where the optimizer sums gradients so, it is made
    there, and never rounded to the weight's type.
    """

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        if given["x"].dtype.name == "float16":  # dlogits / N, before the loss scale comes in
            return "gradients of a mean are too small for float16; the array code takes float32"
        return super().refusal(given)

    def forward(
        ctx,
        x: Array,
        weight: Array,
        targets: Any,
        bias: Array | None = None,
        ignore_index: int = -100,
        chunk_rows: int | None = None,
    ) -> Array:
        check_linear_shapes(ctx.name, x, weight, bias)
        v, c = weight.shape
        ids, counted = flatten_targets(ctx.name, ctx.xp, x.shape[:-1], targets, v, ignore_index)
        ctx.wanted = (ctx.needs[0], ctx.needs[1], len(ctx.needs) > 3 and ctx.needs[3])
        ctx.x_shape, ctx.weight_dtype, ctx.ignore_index = x.shape, weight.dtype, ignore_index
        ctx.chunk_rows = chunk_rows or max(1, rows_at_once(ids.size, v * x.itemsize))
        ctx.dweight = ctx.early_target(1, "float32") if ctx.wanted[1] else None
        return ctx.compute((x.reshape(-1, c), weight, bias, ids, counted))

    def compute(ctx, inputs: tuple[Any, Any, Any, Any, Any]) -> Array:
        """The loss; saves the gradients, and the inputs to compute them again."""
        x, weight, bias, ids, counted = inputs
        v, table, room = len(weight), with_padding(weight), None  # (V', C) with V' >= V
        if ctx.requires_grad:
            dweight, ctx.dweight = ctx.dweight, None  # (V, C)
            room = (
                ctx.xp.empty(table.shape, "float32") if dweight is None else with_padding(dweight)
            )
            dweight = room[:v] if dweight is None else dweight
            rows = min(len(table), len(room))
            table, room = table[:rows], room[:rows]
        loss, dx, _, dbias = kernels().linear_cross_entropy(
            x,
            table,
            ids,
            bias,
            ctx.ignore_index,
            ctx.chunk_rows,
            needs_gradient=ctx.requires_grad,
            classes=v,
            dweight=room,
        )
        if ctx.requires_grad:
            gradients = zip((dx, dweight, dbias), ctx.wanted, strict=True)
            ctx.save(*inputs, *(g if wanted else None for g, wanted in gradients))
        return ctx.xp.where(counted.any(), loss, ctx.xp.zeros_like(loss))

    def backward(ctx, dy: Array) -> tuple[Array | None, ...]:
        dx, dweight, *rest = super().backward(dy)
        if dweight is not None and ctx.gradient_dtype(1) is None:  # nobody sums in float32
            dweight = dweight.astype(ctx.weight_dtype, copy=False)
        return dx, dweight, *rest

    def scale(ctx, gradient: Array, dy: Array) -> Array:
        """gradient * dy, in place and rounded once: dy is float32, the gradient may be 16-bit."""
        return kernels().scale_in_place(gradient, ctx.xp.asarray(dy, "float32").reshape(1))
