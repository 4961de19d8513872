"""cross_entropy by kernels/cross_entropy_kernel.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.cross_entropy import CrossEntropy, flatten_targets


@kernel_version_of(CrossEntropy)
class CrossEntropyKernel(KernelVersion, CrossEntropy):
    """cross_entropy of certain targets, summed or averaged."""

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        if given.get("reduction", "mean") == "none":
            return "the kernel reduces; losses of single rows take the array code"
        if given.get("label_smoothing"):
            return "the kernel knows certain targets only; smoothed ones take the array code"
        return super().refusal(given)

    def forward(
        ctx,
        logits: Array,
        targets: Any,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> Array:
        xp, v = ctx.xp, logits.shape[-1]
        ids, counted = flatten_targets(ctx.name, xp, logits.shape[:-1], targets, v, ignore_index)
        losses, logsum = kernels().cross_entropy(logits.reshape(-1, v), ids, ignore_index)
        ctx.count = xp.maximum(counted.sum(), 1).astype("float32") if reduction == "mean" else 1
        ctx.ignore_index = ignore_index
        ctx.save(logits, ids, logsum)
        return (losses.sum() / ctx.count).astype("float32")

    def backward(ctx, dy: Array) -> tuple[Array | None, ...]:
        logits, ids, logsum = ctx.saved
        rows = logits.reshape(-1, logits.shape[-1])
        dloss = ctx.xp.asarray(dy / ctx.count, dtype="float32").reshape(1)
        dlogits = kernels().cross_entropy_backward.unchecked(
            rows, ids, logsum, dloss, ctx.ignore_index
        )
        return (dlogits.reshape(logits.shape), None)[: len(ctx.needs)]
