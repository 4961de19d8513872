"""Writing a parameter's gradient in the forward pass already.

An op at the end of the network may know its gradients before the backward pass begins
(``linear_cross_entropy``: nothing comes after the loss). The gradient of a vocabulary's weight is
then the largest array there is, and it should be made where it belongs: in the parameter's slice
of the optimizer's flat gradient. For that the op reserves the slice. Until it gives the slice
back, the parameter has none, so that no other op can write there meanwhile.
"""

from __future__ import annotations

from typing import Any

from tinygrad_llm.backend import Array


class Reservation:
    """A parameter's gradient buffer in the hands of one op.

    Attributes:
        buffer: the array to write into.
    """

    __slots__ = ("buffer", "leaf")

    def __init__(self, leaf: Any) -> None:
        self.leaf, self.buffer = leaf, leaf.grad_buffer
        leaf.grad_buffer = None

    def give_back(self) -> None:
        """Let the parameter have its buffer again; called too when the graph dies unused."""
        leaf, self.leaf = self.leaf, None
        if leaf is not None and leaf.grad_buffer is None:
            leaf.grad_buffer = self.buffer

    __del__ = give_back


def reserve(node: Any, index: int, dtype: Any) -> Reservation | None:
    """Reserve the array for the gradient of argument ``index`` of ``node``, of type ``dtype``.

    Returns:
        None where there is no such array, or something in it already.
    """
    target, accumulate = node.gradient_target(index)
    free = target is not None and not accumulate and target.dtype == dtype
    return Reservation(node.edges[index]) if free else None


def buffer_of(reservation: Reservation | None) -> Array | None:
    """The reserved array, or None."""
    return None if reservation is None else reservation.buffer
