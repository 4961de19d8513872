"""The sum at the end of a residual step, put off until somebody reads it."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd import Tensor, enable_grad, no_grad
from tinygrad_llm.autograd.modes import state


class ResidualSum(Tensor):
    """x + update: a Tensor that is added up when it is first read.

    After a residual step comes the normalization of the next. `LayerNorm` takes the two summands
    and adds and normalizes in one pass over memory (op ``add_layer_norm``), forward and backward,
    where an addition of its own would write the sum only for the norm to read it again. Whoever
    else reads the sum, be it a hook, another kind of norm or a user, finds it added; the numbers
    are the same either way.

    Args:
        x: the residual stream: a Tensor or an array.
        update: what the step adds to it, of the same shape.
    """

    __slots__ = ("_summands", "_recorded")

    def __init__(self, x: Any, update: Tensor) -> None:
        x = x if isinstance(x, Tensor) else Tensor(x)
        self._summands: tuple[Tensor, Tensor] | None = (x, update)
        self._recorded = state.grad_enabled  # whether the addition belongs in the graph
        self.requires_grad = self._recorded and (x.requires_grad or update.requires_grad)
        self.grad = self.grad_buffer = self.on_gradient = self._hooks = None
        # ``data`` and ``_node`` are not set: their first reader comes by __getattr__

    def __getattr__(self, name: str) -> Any:
        if name not in ("data", "_node"):
            return super().__getattr__(name)
        with enable_grad() if self._recorded else no_grad():
            x, update = self._summands  # type: ignore[misc]
            self.become(x + update)
        return getattr(self, name)

    @property
    def summands(self) -> tuple[Tensor, Tensor] | None:
        """(x, update) for an op that adds them itself; None where the sum is there already.

        None too where gradients were recorded when the sum was made and are not now, or the other
        way round, and where the two differ in shape or type.
        """
        if self._summands is None or self._recorded != state.grad_enabled:
            return None
        x, update = self._summands
        alike = x.shape == update.shape and x.dtype == update.dtype
        return self._summands if alike else None

    def become(self, total: Tensor) -> None:
        """Be the sum ``total`` from now on."""
        self.data, self._node, self._summands = total.data, total._node, None
