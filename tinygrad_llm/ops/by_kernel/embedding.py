"""embedding by kernels/embedding_kernel.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops._ids import as_ids
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.embedding import Embedding


@kernel_version_of(Embedding)
class EmbeddingKernel(KernelVersion, Embedding):
    """embedding through kernels/embedding_kernel.py; its backward sorts, so the bits repeat."""

    @classmethod
    def place(cls, given: Mapping[str, Any]) -> Array:
        return given["weight"]  # the ids may be a list, or lie in host memory

    def forward(ctx, ids: Any, weight: Array) -> Array:
        if weight.ndim != 2:
            raise ShapeError(f"embedding: weight must be (V, C), got shape {weight.shape}.")
        ids = as_ids("embedding", ctx.xp, ids, weight.shape[0])
        ctx.table = weight.shape[0], weight.dtype
        ctx.save(ids)
        return kernels().embedding(ids, weight)

    def backward(ctx, dy: Array) -> tuple[None, Array]:
        (ids,) = ctx.saved
        rows, dtype = ctx.table
        out, accumulate = ctx.gradient_target(1)
        if out is not None and not accumulate:
            out.fill(0)
        in_order = current.deterministic or (out is not None and out.dtype != "float32")
        dweight = kernels().embedding_backward.unchecked(dy, ids, rows, in_order, out=out)
        return None, dweight if out is not None else dweight.astype(dtype, copy=False)
