"""What a Tensor is: shape, type, device, and how it is printed."""

from __future__ import annotations

from typing import overload

import numpy as np

from tinygrad_llm.autograd.axes import normalize_axis
from tinygrad_llm.autograd.exports import Exports
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.errors import ShapeError


class Size(int):
    """Number of elements, ``x.size`` as in NumPy; called it is the shape, ``x.size()`` of PyTorch.

    Both are in use, and each is an error where the other is meant; so both are answered.
    """

    shape: tuple[int, ...]

    @overload
    def __call__(self, axis: None = None) -> tuple[int, ...]: ...

    @overload
    def __call__(self, axis: int) -> int: ...

    def __call__(self, axis: int | None = None) -> int | tuple[int, ...]:
        """The shape, or the length of one axis.

        Raises:
            ShapeError: there is no such axis.
        """
        if axis is None:
            return self.shape
        return self.shape[normalize_axis("size", axis, len(self.shape))]


class Description(Exports):
    """Base of Tensor: what it is."""

    __slots__ = ()

    def dim(self) -> int:
        """Number of axes."""
        return self.data.ndim

    @property
    def size(self) -> Size:
        """Number of elements; ``x.size()`` is the shape and ``x.size(i)`` the length of an axis."""
        size = Size(self.data.size)
        size.shape = self.data.shape
        return size

    def numel(self) -> int:
        """Number of elements."""
        return int(self.data.size)

    def is_floating_point(self) -> bool:
        """True for float16, bfloat16, float32 and float64."""
        return is_float(self.data.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.data.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.data.nbytes

    def element_size(self) -> int:
        """Bytes of one element."""
        return self.data.dtype.itemsize

    @property
    def is_leaf(self) -> bool:
        """True when no recorded op made this tensor."""
        return self._node is None

    def is_contiguous(self) -> bool:
        """Whether the elements lie in C order without gaps."""
        return bool(self.data.flags.c_contiguous)

    def __len__(self) -> int:
        if not self.data.ndim:
            raise ShapeError("len: a tensor without axes has no length; use .item().")
        return len(self.data)

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), precision=4, threshold=60, prefix="tensor(")
        made_by = f", made by {self._node.name}" if self._node is not None else ""
        needs = ", requires_grad=True" if self.requires_grad and not made_by else ""
        device = f", device={self.device!r}" if self.device != "cpu" else ""
        return f"tensor({values}, dtype={self.dtype}{device}{needs}{made_by})"

    def __format__(self, spec: str) -> str:
        """``f"{loss:.4f}"``: a tensor without axes is written as its number.

        Raises:
            ShapeError: a format for a tensor of several elements.
        """
        if not self.ndim or (spec and self.size == 1):
            return format(self.item(), spec)
        if spec:
            raise ShapeError(
                f"format: {spec!r} is for one number; this tensor has shape {self.shape}. Reduce "
                "it, or format the elements of .tolist()."
            )
        return str(self)
