"""softmax by kernels/softmax_kernel.py."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of, why_not
from tinygrad_llm.ops.softmax import Softmax


@kernel_version_of(Softmax)
class SoftmaxKernel(KernelVersion, Softmax):
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
