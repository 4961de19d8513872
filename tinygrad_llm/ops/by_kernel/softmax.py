"""softmax over the last axis by kernels/softmax_kernel.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.softmax import Softmax


@kernel_version_of(Softmax)
class SoftmaxKernel(KernelVersion, Softmax):
    """softmax, each row read once."""

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        x = given["x"]
        if given.get("axis", -1) not in (-1, x.ndim - 1):
            return "the kernel works along the last axis"
        return super().refusal(given) or kernels().softmax.supports(x)

    def forward(ctx, x: Array, axis: int = -1) -> Array:
        y = kernels().softmax.unchecked(x)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        return kernels().softmax_backward.unchecked(dy, y)
