"""Which form of an op runs. All forms are the same function, and this is where one is chosen.

The forms:

    array code       ``forward`` and ``backward`` of the op's class; every op has it
    kernel version   the same by a Triton kernel: on a GPU, or where use_kernels("force") asks
    composed         simpler ops in place of a fused one: inside explain.small_ops
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd.modes import current

if TYPE_CHECKING:
    from tinygrad_llm.autograd.function import Function


def chosen_form(
    op: type[Function], first: object, arrays: list[object], kwargs: dict[str, object]
) -> type[Function] | None:
    """The class that runs a call of ``op``; None where its composed form does, see `run_composed`.

    Args:
        op: its class, that of the array code.
        first: the array of the first Tensor: where it lies is where the op runs.
        arrays, kwargs: what ``forward`` would be called with.

    Raises:
        KernelError: a kernel is demanded and cannot run.
    """
    if op.name in current.composed:
        return None
    version = op.kernel_version
    if version is None or (type(first) is np.ndarray and current.kernels != "force"):
        return op
    return version.choose(op, arrays, kwargs)


def run_composed(op: type[Function], args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    """What the op's composed form returns; in a trace its ops stand under the op's name."""
    composed, outer = current.composed[op.name], current.scopes
    current.scopes = (*outer, op.name)
    try:
        return composed(*args, **kwargs)
    finally:
        current.scopes = outer
