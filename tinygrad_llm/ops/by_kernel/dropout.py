"""dropout by kernels/dropout_kernel.py: the same bits as `backend.random`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_llm.autograd.kernels import kernels
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.random import Key, default_generator
from tinygrad_llm.ops.by_kernel._version import KernelVersion, kernel_version_of
from tinygrad_llm.ops.dropout import Dropout, check_probability


@kernel_version_of(Dropout)
class DropoutKernel(KernelVersion, Dropout):
    """dropout, whose mask is drawn again in the backward pass."""

    @classmethod
    def refusal(cls, given: Mapping[str, Any]) -> str | None:
        return super().refusal(given) or drops_all(given.get("p", 0.5))

    def forward(
        ctx, x: Array, p: float = 0.5, training: bool = True, key: Key | None = None
    ) -> Array:
        ctx.p = check_probability("dropout", p)
        ctx.active = training and p > 0
        if not ctx.active:
            return x
        ctx.key = default_generator().next_key() if key is None else key
        return kernels().dropout.unchecked(x, p, ctx.key)

    def backward(ctx, dy: Array) -> Array:
        return kernels().dropout_backward.unchecked(dy, ctx.p, ctx.key) if ctx.active else dy


def drops_all(p: float) -> str | None:
    """The refusal of kernels that divide by 1 - p."""
    return "p = 1 leaves nothing to compute" if p >= 1 else None


def drawn_dropout(op: str, p: float, key: Key | None) -> tuple[float, Key | None]:
    """p, checked, and a key of the default generator where one is needed and none was given."""
    p = check_probability(op, p)
    return p, default_generator().next_key() if p and key is None else key
