"""How the values leave a Tensor: to NumPy, to Python numbers, to other libraries without a copy.

No gradient flows through any of these. Who writes ``x.numpy()`` or ``float(x)`` says so. Where
another library fetches the values by itself, a tensor that requires a gradient refuses, as
PyTorch's do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_llm.autograd.modes import current
from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.backend import to_numpy
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.errors import DTypeError, GraphError, ShapeError

if TYPE_CHECKING:
    import cupy


class Exports(TensorBase):
    """Base of Tensor: conversions, none of which is recorded."""

    __slots__ = ()

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; shares memory on the CPU."""
        return to_numpy(self.data)

    def item(self) -> float | int | bool:
        """The only element, as a Python number."""
        if self.data.size != 1:
            raise ShapeError(f"item: needs a tensor of one element, got shape {self.data.shape}.")
        return self.data.item()

    def tolist(self) -> list[Any]:
        """The values as nested lists."""
        return self.data.tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.data.dtype.kind not in "iu":
            raise DTypeError(f"index: needs an integer tensor, got {self.data.dtype}.")
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __trunc__(self) -> int:
        return int(self.item())

    def __round__(self, digits: int | None = None) -> float:
        """``round(loss, 3)``: Python's number; ``x.round()`` rounds each element."""
        return round(self.item(), digits)

    # What other libraries call by themselves, as np.concatenate([x, y]) does: the gradient would be
    # gone without a word.

    def __array__(self, dtype: DTypeLike = None, copy: bool | None = None) -> np.ndarray:
        self._refuse_to_lose_a_gradient()
        return np.array(to_numpy(self.data), dtype=dtype, copy=copy)

    def __dlpack__(self, **kwargs: Any) -> object:
        self._refuse_to_lose_a_gradient()
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> object:
        array: cupy.ndarray = self.data
        interface = array.__cuda_array_interface__  # AttributeError on the CPU: the protocol
        self._refuse_to_lose_a_gradient()
        return interface

    def _refuse_to_lose_a_gradient(self) -> None:
        if self._requires_grad and current.grad_enabled:
            raise GraphError(
                "tensor: another library asks for the values of a tensor that requires a gradient, "
                "and would lose it. To compute with gradients use the tensor's methods or "
                "tg.functional (np.concatenate([x, y]) is tg.functional.concatenate([x, y])); "
                "for the values alone pass x.detach() or x.numpy()."
            )
