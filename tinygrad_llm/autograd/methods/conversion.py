"""A Tensor's values with another type or on another device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm.autograd.description import Description
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.autograd.tensor_base import TensorBase
from tinygrad_llm.backend import names_device, parse_device
from tinygrad_llm.backend.dtypes import DTypeLike, as_dtype
from tinygrad_llm.errors import ConfigError

if TYPE_CHECKING:
    from typing import Self

    from tinygrad_llm.autograd.tensor import Tensor


class Conversion(Description):
    """Base of Tensor: types and devices. A gradient flows back between floating-point types."""

    __slots__ = ()

    def to(
        self,
        *where: DTypeLike | Tensor,
        device: str | None = None,
        dtype: DTypeLike = None,
        non_blocking: bool = False,
    ) -> Self | Tensor:
        """This tensor on another device, with another dtype, or both; gradients flow through.

        Args:
            where: a device such as ``"cuda"``, a dtype, both, or a tensor to be like.
            device, dtype: the same by name.
            non_blocking: taken from PyTorch's calls; the next op waits for the values either way.

        Raises:
            DeviceError: the device is unknown or absent.
            DTypeError: neither a device nor a dtype.
            ConfigError: nothing was asked for.
        """
        targets = [*where, *(x for x in (device, dtype) if x is not None)]
        if not targets:
            raise ConfigError("to: give a device, a dtype, or both.")
        moved: Self | Tensor = self
        for target in targets:
            if isinstance(target, TensorBase):
                moved = moved._moved(target.device)._moved(target.dtype)
            else:
                moved = moved._moved(target)
        return moved

    def _moved(self, device_or_dtype: DTypeLike) -> Self | Tensor:
        if not names_device(device_or_dtype):
            return self.astype(device_or_dtype)
        parse_device(device_or_dtype)
        there = device_or_dtype == self.device
        return self if there else OPS["to_device"](self, device=device_or_dtype)

    def astype(self, dtype: DTypeLike) -> Self | Tensor:
        """This tensor with another dtype; gradients flow through between float types."""
        dtype = as_dtype(dtype)
        return self if dtype == self.dtype else OPS["cast"](self, dtype=dtype)

    def type_as(self, other: Tensor) -> Self | Tensor:
        """This tensor with the dtype of ``other``."""
        return self.astype(other.dtype)

    def float(self) -> Self | Tensor:
        """As float32."""
        return self.astype(np.float32)

    def double(self) -> Self | Tensor:
        """As float64."""
        return self.astype(np.float64)

    def half(self) -> Self | Tensor:
        """As float16."""
        return self.astype(np.float16)

    def bfloat16(self) -> Self | Tensor:
        """As bfloat16; needs the package ml_dtypes."""
        return self.astype("bfloat16")

    def long(self) -> Self | Tensor:
        """As int64, rounded towards zero."""
        return self.astype(np.int64)

    def int(self) -> Self | Tensor:
        """As int32, rounded towards zero."""
        return self.astype(np.int32)

    def bool(self) -> Self | Tensor:
        """True where an element is not 0."""
        return self.astype(np.bool_)

    def cpu(self) -> Self | Tensor:
        """In the CPU's memory."""
        return self.to("cpu")

    def cuda(self) -> Self | Tensor:
        """On the current GPU.

        Raises:
            DeviceError: there is none.
        """
        return self.to("cuda")

    def clone(self) -> Tensor:
        """A copy with memory of its own; gradients flow through."""
        return OPS["clone"](self)

    def contiguous(self) -> Self | Tensor:
        """The same elements in C order: this tensor where they are, otherwise a copy."""
        return self if self.data.flags.c_contiguous else self.clone()
