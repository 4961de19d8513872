"""The part of a gradient check that concerns arrays provided for the gradients.

An optimizer gives each parameter an array for its gradient, and an op may write there directly
(`Function.gradient_target`): overwrite what an earlier step left, or add to what an earlier batch
of this step put there. Both must give the gradient that is found without such arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_llm.autograd.gradient_buffer import GradientBuffer
from tinygrad_llm.autograd.tensor import Tensor
from tinygrad_llm.backend import array_module, to_numpy

RTOL = 1e-9  # the same products and sums, perhaps in another order


def buffer_fault(walk: Callable[[], Any], variables: list[tuple[str, Tensor]]) -> str:
    """Compare the gradients with those that two more walks leave in provided arrays.

    Args:
        walk: computes the function anew and sends its gradient back.
        variables: names and leaves after a first walk, which found their gradients.

    Returns:
        what differs, or "".
    """
    found = [(name, x, x.grad) for name, x in variables if x.grad is not None]
    for _, x, grad in found:
        place = array_module(grad).full(grad.shape, np.nan, grad.dtype)
        x.grad, x.grad_buffer = None, GradientBuffer(place)
        del place  # held here, it would not be given out
    faults = []
    try:
        for times, rule in ((1, "the first walk must overwrite it"), (2, "the second must add")):
            walk()
            faults += [
                f"{name}: another gradient where an optimizer provides the array for it; {rule} "
                "(Function.gradient_target)."
                for name, x, grad in found
                if not _agree(x.grad, times * grad)
            ]
    finally:
        for _, x, grad in found:
            x.grad, x.grad_buffer = grad, None
    return "\n".join(faults)


def _agree(a: Any, b: Any) -> bool:
    a, b = to_numpy(a), to_numpy(b)
    scale = np.abs(b).max(initial=0.0)
    return bool((np.abs(a - b) <= RTOL * scale).all()) or np.array_equal(a, b, equal_nan=True)
