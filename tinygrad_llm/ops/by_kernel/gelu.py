"""gelu by kernels/gelu_kernel.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.gelu import Gelu


@kernel_version_of(Gelu)
class GeluKernel(KernelVersion, Gelu):
    """gelu, by the kernel that can add a bias, without one."""

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        approximate = given.get("approximate", "tanh")
        return super().refusal(given) or kernels().bias_gelu.supports(given["x"], None, approximate)

    def forward(ctx, x: Array, approximate: str = "tanh") -> Array:
        ctx.approximate = approximate
        ctx.save(x)
        return kernels().bias_gelu.unchecked(x, None, approximate)

    def backward(ctx, dy: Array) -> Array:
        (x,) = ctx.saved
        return kernels().bias_gelu_backward.unchecked(dy, x, None, ctx.approximate)[0]
