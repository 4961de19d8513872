"""The part of a gradient check that takes other walks, which must find the same gradients.

An optimizer gives each parameter an array for its gradient, and an op may write there directly
(`Function.gradient_target`): overwrite what an earlier step left, or add to what an earlier batch
of this step put there. Both must give the gradient that is found without such arrays.

An op with several results gets None as the gradient of one that nobody used. Since the gradient is
linear, walks from each result alone must add up to the walk from all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinygrad_llm.autograd.gradient_sink import GradientSink
from tinygrad_llm.autograd.tensor import Tensor
from tinygrad_llm.backend import Array, array_module, to_numpy

RTOL = 1e-9  # the same products and sums, perhaps in another order

Named = list[tuple[str, Tensor]]


def fault_of_walks(walk: Callable[..., None], n_results: int, variables: Named) -> str:
    """Compare the gradients that a first walk has found with those of other walks.

    Args:
        walk: ``walk()`` computes the function anew and sends its gradient back; ``walk(k)`` that
            of its k-th result alone.
        n_results: how many results there are.
        variables: names and leaves, with their gradients.

    Returns:
        what differs, or "".
    """
    with_gradient = [(name, x) for name, x in variables if x.grad is not None]
    found = [x.grad for _, x in variables if x.grad is not None]
    try:
        faults = _into_provided_arrays(walk, with_gradient, found)
        faults += _result_by_result(walk, n_results, with_gradient, found)
    finally:
        for (_, x), grad in zip(with_gradient, found, strict=True):
            x.grad, x.gradient_sink = grad, None
    return "\n".join(faults)


def _into_provided_arrays(
    walk: Callable[..., None], variables: Named, found: list[Array]
) -> list[str]:
    for (_, x), grad in zip(variables, found, strict=True):
        place = array_module(grad).full(grad.shape, np.nan, grad.dtype)
        x.grad, x.gradient_sink = None, GradientSink(place)
        del place  # held here, it would not be given out
    faults = []
    for times, rule in ((1, "the first walk must overwrite it"), (2, "the second must add")):
        walk()
        faults += [
            f"{name}: another gradient where an optimizer provides the array for it; {rule} "
            "(Function.gradient_target)."
            for name in _other(variables, [times * grad for grad in found])
        ]
    return faults


def _result_by_result(
    walk: Callable[..., None], n_results: int, variables: Named, found: list[Array]
) -> list[str]:
    if n_results < 2:
        return []
    for _, x in variables:
        x.grad, x.gradient_sink = None, None
    for k in range(n_results):
        walk(k)
    return [
        f"{name}: the gradients of each result alone do not add up to that of all results. The "
        "gradient of a result that nobody used arrives as None and counts as 0."
        for name in _other(variables, found)
    ]


def _other(variables: Named, expected: list[Array]) -> list[str]:
    """Names of the leaves whose gradient is not the expected one."""
    return [
        name
        for (name, x), grad in zip(variables, expected, strict=True)
        if x.grad is None or not _agree(to_numpy(x.grad), to_numpy(grad))
    ]


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    scale = np.abs(b).max(initial=0.0)
    return bool((np.abs(a - b) <= RTOL * scale).all()) or np.array_equal(a, b, equal_nan=True)
