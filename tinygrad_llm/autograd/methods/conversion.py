"""A Tensor's values with another type or on another device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_llm.autograd.arrays import is_tensor
from tinygrad_llm.autograd.registry import OPS
from tinygrad_llm.backend import names_device, parse_device
from tinygrad_llm.backend.dtypes import DTypeLike, as_dtype
from tinygrad_llm.errors import ConfigError

if TYPE_CHECKING:
    from tinygrad_llm.autograd.tensor import Tensor


class Conversion:
    """Base of Tensor: types and devices. A gradient flows back between floating-point types."""

    __slots__ = ()

    def to(
        self: Any,
        *where: Any,
        device: str | None = None,
        dtype: DTypeLike = None,
        non_blocking: bool = False,
    ) -> Tensor:
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
        moved = self
        for target in targets:
            like = is_tensor(target)
            for one in (target.device, target.dtype) if like else (target,):
                moved = _moved(moved, one)
        return moved

    def astype(self: Any, dtype: DTypeLike) -> Tensor:
        """This tensor with another dtype; gradients flow through between float types."""
        dtype = as_dtype(dtype)
        return self if dtype == self.dtype else OPS["cast"](self, dtype=dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """This tensor with the dtype of ``other``."""
        return self.astype(other.dtype)

    def float(self) -> Tensor:
        """As float32."""
        return self.astype(np.float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.astype(np.float64)

    def half(self) -> Tensor:
        """As float16."""
        return self.astype(np.float16)

    def bfloat16(self) -> Tensor:
        """As bfloat16; needs the package ml_dtypes."""
        return self.astype("bfloat16")

    def long(self) -> Tensor:
        """As int64, rounded towards zero."""
        return self.astype(np.int64)

    def int(self) -> Tensor:
        """As int32, rounded towards zero."""
        return self.astype(np.int32)

    def bool(self) -> Tensor:
        """True where an element is not 0."""
        return self.astype(np.bool_)

    def cpu(self) -> Tensor:
        """In the CPU's memory."""
        return self.to("cpu")

    def cuda(self) -> Tensor:
        """On the current GPU.

        Raises:
            DeviceError: there is none.
        """
        return self.to("cuda")

    def clone(self) -> Tensor:
        """A copy with memory of its own; gradients flow through."""
        return OPS["clone"](self)

    def contiguous(self: Any) -> Tensor:
        """The same elements in C order: this tensor where they are, otherwise a copy."""
        return self if self.data.flags.c_contiguous else self.clone()


def _moved(x: Any, device_or_dtype: Any) -> Tensor:
    if not names_device(device_or_dtype):
        return x.astype(device_or_dtype)
    parse_device(device_or_dtype)
    return x if device_or_dtype == x.device else OPS["to_device"](x, device=device_or_dtype)
