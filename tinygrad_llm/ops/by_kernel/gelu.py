"""gelu by kernels/gelu_kernel.py."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.gelu import Gelu


@kernel_version_of(Gelu)
class GeluKernel(KernelVersion, Gelu):
    """gelu through kernels/gelu_kernel.py, without a bias."""

    def forward(ctx, x: Array, approximate: str = "tanh") -> Array:
        ctx.approximate = approximate
        ctx.save(x)
        return kernels().bias_gelu(x, None, approximate)

    def backward(ctx, dy: Array) -> Any:
        (x,) = ctx.saved
        return kernels().bias_gelu_backward(dy, x, None, ctx.approximate)[0]
