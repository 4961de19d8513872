"""Kernel twins of the losses."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.backend import Array
from tinygrad_llm.ops._dispatch import KernelTwin, kernels, twin_of
from tinygrad_llm.ops.cross_entropy import CrossEntropy, flatten_targets
from tinygrad_llm.ops.linear import check_linear_shapes
from tinygrad_llm.ops.linear_cross_entropy import LinearCrossEntropy


@twin_of(CrossEntropy)
class CrossEntropyKernel(KernelTwin, CrossEntropy):
    """cross_entropy through kernels/cross_entropy_kernel.py."""

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        if kwargs.get("reduction", "mean") == "none":
            return "the kernel reduces; losses of single rows take the array code"
        return super().refusal(arrays, kwargs)

    def forward(
        ctx, logits: Array, targets: Any, ignore_index: int = -100, reduction: str = "mean"
    ) -> Array:
        xp, v = ctx.xp, logits.shape[-1]
        ids, counted = flatten_targets(
            ctx.name, xp, logits.shape[:-1], targets, v, ignore_index
        )
        losses, lse = kernels().cross_entropy(logits.reshape(-1, v), ids, ignore_index)
        ctx.count = xp.maximum(counted.sum(), 1).astype("float32") if reduction == "mean" else 1
        ctx.ignore_index = ignore_index
        ctx.save(logits, ids, lse)
        return (losses.sum() / ctx.count).astype("float32")

    def backward(ctx, dy: Array) -> Any:
        logits, ids, lse = ctx.saved
        rows = logits.reshape(-1, logits.shape[-1])
        dloss = ctx.xp.asarray(dy / ctx.count, dtype="float32").reshape(1)
        dlogits = kernels().cross_entropy_backward(rows, ids, lse, dloss, ctx.ignore_index)
        return (dlogits.reshape(logits.shape), None)[: len(ctx.needs)]


LOGITS_BYTES = 1 << 30  # each chunk adds to dW once: few large ones move fewer bytes


def rows_at_once(n_rows: int, row_bytes: int) -> int:
    """Rows of logits in a chunk: all chunks of nearly the same size, as few as memory allows."""
    most = max(LOGITS_BYTES // row_bytes, 128)
    chunks = max(1, -(-n_rows // most))
    return -(-n_rows // (chunks * 128)) * 128


@twin_of(LinearCrossEntropy)
class LinearCrossEntropyKernel(KernelTwin, LinearCrossEntropy):
    """linear_cross_entropy through kernels/linear_cross_entropy_kernel.py and cuBLAS."""

    @classmethod
    def refusal(cls, arrays: list[Any], kwargs: dict[str, Any]) -> str | None:
        if arrays[0].dtype.name == "float16":  # dlogits / N, before the loss scale comes in
            return "gradients of a mean are too small for float16; the array code takes float32"
        return super().refusal(arrays, kwargs)

    def forward(
        ctx, x: Array, weight: Array, targets: Any, bias: Array | None = None,
        ignore_index: int = -100, chunk_rows: int | None = None,
    ) -> Array:  # fmt: skip
        check_linear_shapes(ctx.name, x, weight, bias)
        v, c = weight.shape
        ids, counted = flatten_targets(
            ctx.name, ctx.xp, x.shape[:-1], targets, v, ignore_index
        )
        chunk_rows = chunk_rows or max(1, rows_at_once(ids.size, v * x.itemsize))
        loss, dx, dw, db = kernels().linear_cross_entropy(
            x.reshape(-1, c), weight, ids, bias, ignore_index, chunk_rows,
            needs_gradient=ctx.requires_grad,
        )  # fmt: skip
        ctx.shape = x.shape
        ctx.save(dx, dw, db)
        return ctx.xp.where(counted.any(), loss, ctx.xp.zeros_like(loss))

    def backward(ctx, dy: Array) -> Any:
        dx, dw, db = ctx.saved
        dx, db = (_scaled(ctx.xp, g, dy) for g in (dx, db))
        target, accumulate = ctx.gradient_target(1)
        dw = _scaled(ctx.xp, dw, dy, None if accumulate else target)
        grads = (dx if dx is None else dx.reshape(ctx.shape), dw, None, db)
        return tuple(g if need else None for g, need in zip(grads, ctx.needs, strict=False))


def _scaled(xp: Any, g: Array | None, dy: Array, out: Array | None = None) -> Array | None:
    """g dy, rounded once, in ``out`` or a new array: dy is float32, and g may be 16-bit."""
    if g is None:
        return None
    return xp.multiply(g, dy, out=xp.empty_like(g) if out is None else out, casting="unsafe")
