"""The sum at the end of a residual step, put off until somebody reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, SupportsIndex

from tinygrad_llm.autograd import Tensor, enable_grad, no_grad
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.function import Output
from tinygrad_llm.autograd.handles import Handle
from tinygrad_llm.autograd.modes import current, watched_as_written
from tinygrad_llm.backend import Array
from tinygrad_llm.errors import GraphError


class ResidualSum(Tensor):
    """x + update: a Tensor that is added up when it is first read.

    After a residual step comes the normalization of the next. `LayerNorm` takes the two summands
    and adds and normalizes in one pass over memory (op ``add_layer_norm``), forward and backward,
    where an addition of its own would write the sum only for the norm to read it again. Whoever
    else reads the sum, be it a hook, another kind of norm or a user, finds it added; the numbers
    are the same either way. A trace that keeps numbers sees the addition where it is written.

    Args:
        x: the residual stream: a Tensor or an array.
        update: what the step adds to it, of the same shape.
    """

    __slots__ = ("_summands", "_recorded")

    def __init__(self, x: TensorLike, update: Tensor) -> None:
        x = x if isinstance(x, Tensor) else Tensor(x)
        self._summands: tuple[Tensor, Tensor] | None = None
        self._recorded = current.grad_enabled  # whether the addition belongs in the graph
        self._requires_grad = self._recorded and (x.requires_grad or update.requires_grad)
        self.grad = self.gradient_sink = self._hooks = None
        # ``data`` and ``_node`` are not set: their first reader comes by __getattr__
        self._summands = x, update
        if watched_as_written():
            self._add_up()

    if not TYPE_CHECKING:  # as Tensor's, of which a type checker knows nothing

        def __getattr__(self, name):
            if name not in ("data", "_node"):
                return super().__getattr__(name)
            self._add_up()
            return getattr(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        # Other values, or no gradient any more: that is said of the sum, so it must be there.
        if name in ("data", "requires_grad") and self._summands is not None:
            self._add_up()
        super().__setattr__(name, value)

    def _add_up(self) -> None:
        with enable_grad() if self._recorded else no_grad():
            x, update = self._summands  # type: ignore[misc]
            self.become(x + update)

    @property
    def summands(self) -> tuple[Tensor, Tensor] | None:
        """(x, update) for an op that adds them itself; None where the sum is there already.

        None too where gradients were recorded when the sum was made and are not now, or the other
        way round, and where the two differ in shape or type.
        """
        if self._summands is None or self._recorded != current.grad_enabled:
            return None
        x, update = self._summands
        alike = x.shape == update.shape and x.dtype == update.dtype
        return self._summands if alike else None

    def become(self, total: Tensor) -> None:
        """Be the sum ``total`` from now on."""
        self._summands = None
        self.data, self._node = total.data, total._node

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        build, (_, *parts), _ = super().__reduce_ex__(protocol)
        return build, (Tensor, *parts)  # a copy is the sum

    def register_hook(self, hook: Callable[[Array], Array | None]) -> Handle:
        """As of any Tensor, until a norm has added up the sum.

        Raises:
            GraphError: it has, and hands most of the gradient on by itself.
        """
        if self.requires_grad and isinstance(self._node, Output):
            raise GraphError(
                "register_hook: the next norm has added up this sum already, and the gradient that "
                "goes by the norm would not be seen here. Register the hook, or call "
                "retain_grad(), before that: in a forward hook of the block, for instance."
            )
        return super().register_hook(hook)
