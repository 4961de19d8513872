"""How the values leave a Tensor: to NumPy, to Python numbers, to other libraries without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.backend import Array, to_numpy
from tinygrad_llm.errors import DTypeError, ShapeError


class Exports:
    """Base of Tensor: conversions. They are not recorded; no gradient flows through them."""

    __slots__ = ()
    data: Array

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array; shares memory on the CPU."""
        return to_numpy(self.data)

    def item(self) -> float | int | bool:
        """The only element, as a Python number."""
        if self.data.size != 1:
            raise ShapeError(f"item: needs a tensor of one element, got shape {self.data.shape}.")
        return self.data.item()

    def tolist(self) -> Any:
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

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(to_numpy(self.data), dtype=dtype, copy=copy)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.data.__dlpack_device__()

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.data.__cuda_array_interface__  # AttributeError on the CPU, as the protocol asks
