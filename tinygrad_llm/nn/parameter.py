"""Parameter: a Tensor that belongs to a module and is learned."""

from __future__ import annotations

from typing import SupportsIndex
from weakref import WeakValueDictionary

from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import DTypeLike


class Parameter(Tensor):
    """A leaf Tensor that modules register and optimizers update.

    Args:
        data: the initial values; an array is shared, not copied.
        requires_grad: False freezes the parameter.
        dtype, device: as for `tg.tensor`.

    Raises:
        DTypeError: the values are not floating-point numbers.
    """

    __slots__ = ("__dict__", "_constants")

    def __init__(
        self,
        data: TensorLike,
        requires_grad: bool = True,
        dtype: DTypeLike | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(data, dtype, device, requires_grad)

    def replace_data(self, data: Array) -> None:
        """Take another array, perhaps of another type or on another device; forget the gradient."""
        self.data = data
        self.grad = self.gradient_sink = None

    def detach(self) -> Tensor:
        """The values as a constant that shares their memory, also after an optimizer moved them."""
        constant = super().detach()
        if not hasattr(self, "_constants"):
            self._constants: WeakValueDictionary[int, Tensor] = WeakValueDictionary()
        self._constants[id(constant)] = constant
        return constant

    def move_to(self, place: Array) -> None:
        """Copy the values to the array ``place`` and let them lie there from now on."""
        place[...] = self.data
        for constant in list(getattr(self, "_constants", {}).values()):
            if constant.data is self.data:
                constant.data = place
        self.data = place

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        build, (kind, data, _, requires_grad), attributes = super().__reduce_ex__(protocol)
        return build, (kind, data, None, requires_grad), attributes  # as PyTorch: no gradient

    def __repr__(self) -> str:
        return f"Parameter containing: {super().__repr__()}"
