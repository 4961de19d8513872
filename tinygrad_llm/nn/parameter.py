"""Parameter: a Tensor that belongs to a module and is learned."""

from __future__ import annotations

from typing import Any

from tinygrad_llm.autograd import Tensor
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

    def __init__(
        self,
        data: Any,
        requires_grad: bool = True,
        dtype: DTypeLike | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(data, dtype, device, requires_grad)

    def replace_data(self, data: Any) -> None:
        """Take another array, perhaps of another type or on another device; forget the gradient."""
        self.data = data
        self.grad = self.grad_buffer = None

    def __repr__(self) -> str:
        return f"Parameter containing: {super().__repr__()}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        # A copy has its own values and no part in the optimizer that holds the original.
        copy = memo[id(self)] = Parameter(self.data.copy(), self.requires_grad)
        return copy
