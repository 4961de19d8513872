"""What a Tensor holds, for the parts of its class that stand in files of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from tinygrad_llm.backend import Array, device_of
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.errors import DTypeError, GraphError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.engine import Node
    from tinygrad_llm.autograd.gradient_sink import GradientSink

Hook = Callable[[Array], Array | None]  # takes a gradient; may return another one


class TensorBase:
    """The attributes of a Tensor; its methods are in classes between this one and Tensor.

    Attributes:
        data: the numpy or cupy array.
        grad: None, or an array of the same shape: the sum of the gradients that reached this leaf.
        requires_grad: whether the backward pass computes a gradient here.
        gradient_sink: what an optimizer has to say about where ``grad`` lies, or None.
    """

    __slots__ = (
        "data",
        "grad",
        "gradient_sink",
        "_requires_grad",
        "_node",
        "_hooks",
        "__weakref__",
    )
    is_leaf_edge: ClassVar[Literal[True]] = True  # tells a leaf from a node of the graph

    data: Array
    grad: Array | None
    gradient_sink: GradientSink | None
    _requires_grad: bool
    _node: Node | None  # the op that made it
    _hooks: list[Hook] | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def dtype(self) -> np.dtype:
        """Type of the elements."""
        return self.data.dtype

    @property
    def device(self) -> str:
        """``"cpu"`` or ``"cuda:N"``."""
        return device_of(self.data)

    @property
    def requires_grad(self) -> bool:
        """Whether the backward pass computes a gradient here.

        Raises:
            GraphError: switched off, for the result of an op.
            DTypeError: switched on, for integers or booleans.
        """
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted and not is_float(self.data.dtype):
            raise DTypeError(
                f"requires_grad: needs a floating-point type, got {self.dtype}. Pass "
                "dtype='float32', or leave requires_grad off for ids and indices."
            )
        if self._node is not None and not wanted:
            raise GraphError(
                "requires_grad: this tensor is the result of a recorded op and needs the gradient "
                "of what it was made from. Use .detach() to go on without."
            )
        self._requires_grad = bool(wanted)
